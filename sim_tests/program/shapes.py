"""Networks that the program tests run: small ones with every kind of raggedness, and the full-size base."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from model.graph import DeitShape
from rtl.config import AcceleratorConfig, preset

TINY = DeitShape(name="tiny", bits=4, image_size=8, channels=1, patch_size=4, embed_dim=16, depth=2, heads=2, hidden_dim=64, classes=10)


def shape(**changes: Any) -> DeitShape:
    """A tiny network; ``changes`` replace its dimensions."""
    return replace(TINY, **changes)


def config(of: DeitShape, **changes: Any) -> AcceleratorConfig:
    small: dict[str, Any] = {"rows": 3, "inputs": 32, "lanes": 1, "tile_words": 32}
    return AcceleratorConfig(shape=of, **(small | changes))


MICRO = DeitShape(name="micro", bits=6, image_size=28, channels=1, patch_size=7, embed_dim=64, depth=3, heads=4, hidden_dim=256, classes=10)
BASE = DeitShape(
    name="base", bits=8, image_size=224, channels=3, patch_size=16, embed_dim=768, depth=12, heads=12, hidden_dim=3072, classes=1000
)

SLIM = replace(BASE, name="slim", embed_dim=384, heads=6, hidden_dim=1536)

#: name -> (configuration); together: one and many passes, idle slots, one and many tiles per layer, partial last tiles, every buffer count,
#: one and two image slots, key/value copies, several weight ports, row groups, K-tiles of patches, a second class token.
SMALL = {
    "tiny": config(shape()),
    "one_pass": config(shape(), rows=6),
    "exact_rows": config(shape(), rows=5),
    "one_row": config(shape(), rows=1),
    "row_groups": config(shape(image_size=20), rows=18),
    "one_slot": config(shape(), images=1),
    "two_copies": config(shape(), key_value_copies=2),
    "three_ports": config(shape(embed_dim=48, heads=3, hidden_dim=96), inputs=48, tile_words=96, weight_ports=3),
    "two_ports": config(shape(), weight_ports=2),
    "two_buffers": config(shape(), weight_buffers=2),
    "eight_buffers": config(shape(depth=3), weight_buffers=8),
    "one_patch_tile": config(shape(), tile_words=128),
    "one_hidden_tile": config(shape(hidden_dim=32)),
    "two_hidden_tiles": config(shape(depth=1)),
    "one_bit": config(shape(bits=1, embed_dim=32), tile_words=48),
    "eight_bits": config(shape(bits=8, channels=2)),
    "uneven_heads": config(shape(embed_dim=48, heads=3, hidden_dim=96, classes=7), inputs=48, tile_words=96),
    "uneven_patch_tiles": config(shape(classes=5), tile_words=50),
    "wide_inputs": config(shape(channels=3), inputs=144, tile_words=64),
    "two_patch_parts": config(shape(channels=3), tile_words=64),
    "three_patch_parts": config(shape(channels=5), tile_words=128),
    "odd_image": config(shape(image_size=9, patch_size=3, classes=3)),
    "distilled": config(shape(distilled=True)),
    "distilled_one_slot": config(shape(distilled=True, channels=3), rows=2, images=1),
    "no_layers": config(shape(depth=0)),
    "micro": preset(MICRO),
}

TWO_BY_TWO = DeitShape(
    name="two", bits=4, image_size=32, channels=1, patch_size=16, embed_dim=16, depth=1, heads=1, hidden_dim=64, classes=10
)
#: 65 tokens: grid rows run over groups of 16 rows and over passes.
EIGHT = replace(TWO_BY_TWO, image_size=64, channels=2, patch_size=8)
WIDE = replace(EIGHT, channels=4, distilled=True)


def small(shape: DeitShape, rows: int) -> AcceleratorConfig:
    return AcceleratorConfig(shape=shape, rows=rows, inputs=64, lanes=rows, tile_words=64)


#: Machines whose load bus is tried: grids in groups of rows and over passes, a row more or less than they need.
SCATTERED = {
    "micro": preset(MICRO),
    "two": small(TWO_BY_TWO, 10),
    "two_rows": small(TWO_BY_TWO, 2),
    "eight": small(EIGHT, 22),
    "wide": small(WIDE, 27),
    "narrow": small(EIGHT, 5),
}
