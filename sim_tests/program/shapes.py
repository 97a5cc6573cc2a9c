"""Networks that the program tests run: small ones with every kind of raggedness, and the full-size base."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from model.graph import DeitShape
from rtl.config import AcceleratorConfig, preset

TINY = DeitShape(name="tiny", bits=4, image_size=8, channels=1, patch_size=4, embed_dim=16, depth=2, heads=2, hidden_dim=64, classes=10)


def shape(**changes: int) -> DeitShape:
    """A tiny network; ``changes`` replace its dimensions."""
    return replace(TINY, **changes)


def config(of: DeitShape, **changes: Any) -> AcceleratorConfig:
    small: dict[str, Any] = {"rows": 3, "inputs": 32, "lanes": 3, "tile_words": 32}
    return AcceleratorConfig(shape=of, **(small | changes))


MICRO = DeitShape(name="micro", bits=6, image_size=28, channels=1, patch_size=7, embed_dim=64, depth=3, heads=4, hidden_dim=256, classes=10)
BASE = DeitShape(
    name="base", bits=8, image_size=224, channels=3, patch_size=16, embed_dim=768, depth=12, heads=12, hidden_dim=3072, classes=1000
)

#: name -> (configuration); together: one and many passes, idle slots, one and many tiles per layer, partial last tiles, every buffer count.
SMALL = {
    "tiny": config(shape()),
    "one_pass": config(shape(), rows=6, lanes=2),
    "exact_rows": config(shape(), rows=5, lanes=5),
    "one_row": config(shape(), rows=1, lanes=1),
    "two_buffers": config(shape(), weight_buffers=2),
    "eight_buffers": config(shape(depth=3), weight_buffers=8),
    "one_hidden_tile": config(shape(hidden_dim=32)),
    "two_hidden_tiles": config(shape(depth=1)),
    "one_bit": config(shape(bits=1, embed_dim=32), tile_words=48),
    "eight_bits": config(shape(bits=8, channels=2)),
    "uneven_heads": config(shape(embed_dim=48, heads=3, hidden_dim=96, classes=7), inputs=48, tile_words=96),
    "uneven_patch_tiles": config(shape(classes=5), tile_words=50),
    "wide_inputs": config(shape(channels=3), inputs=144, tile_words=64),
    "odd_image": config(shape(image_size=9, patch_size=3, classes=3)),
    "no_layers": config(shape(depth=0)),
    "micro": preset(MICRO),
}
