"""The accelerator's parameters: frozen, keyword-only, validated once, before any hardware."""

from __future__ import annotations

from dataclasses import dataclass

from model.graph import DeitShape
from model.integer import ACCUMULATOR_BITS, RESIDUAL_BITS
from rtl.errors import InputError
from rtl.shapes import MOST_INPUTS


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """One machine: the network's dimensions that are built in, and the array.

    Parameters
    ----------
    shape : the network; embed_dim, heads, tokens and the image's geometry size memories and counters
    rows : tokens in parallel (R)
    inputs : row inputs (K), a multiple of 16 up to 1,024; at least embed_dim; divides hidden_dim. Longer patches take several K-tiles
    lanes : attention product pairs per row (D); even, at most rows
    images : image slots, 1 or 2: residuals, activations and logits are kept for each
    weight_ports : memory ports that stream weight words, each an equal slice of every word
    key_value_copies : layers whose keys and values the key/value memory holds, 1 or 2
    tile_words : most weight words of one tile; weight memory holds ``weight_buffers`` such tiles
    strategy : dot-product strategy of the rows, "lut_table" or "popcount"
    technology : "generic" (portable, simulated) or "ultrascale" (explicit primitives)
    """

    shape: DeitShape
    rows: int
    inputs: int
    lanes: int
    tile_words: int
    weight_buffers: int = 3
    images: int = 2
    weight_ports: int = 1
    key_value_copies: int = 1
    strategy: str = "lut_table"
    technology: str = "generic"

    def __post_init__(self) -> None:
        shape = self.shape
        _require(1 <= shape.bits <= 8, "bits must be 1..8", shape.bits, "choose a width in that range")
        _require(1 <= self.rows <= 255, "rows must be 1..255", self.rows, "choose fewer rows")
        _require(shape.embed_dim % 16 == 0, "embed_dim must be a multiple of 16", shape.embed_dim, "choose another width")
        _require(
            max(shape.embed_dim, self.inputs) <= MOST_INPUTS, f"embed_dim and inputs must be at most {MOST_INPUTS}, a dot product's",
            max(shape.embed_dim, self.inputs), "choose fewer",
        )  # fmt: skip
        _require(self.inputs % 16 == 0, "inputs must be a multiple of 16", self.inputs, "round it up")
        _require(shape.embed_dim <= self.inputs, "inputs must be at least embed_dim", self.inputs, f"use {shape.embed_dim}")
        _require(shape.hidden_dim % min(self.inputs, shape.hidden_dim) == 0, "inputs must divide hidden_dim", self.inputs, "adjust inputs")
        _require(shape.embed_dim % shape.heads == 0, "heads must divide embed_dim", shape.heads, "choose other heads")
        _require(shape.image_size % shape.patch_size == 0, "patch_size must divide image_size", shape.patch_size, "choose another patch")
        _require(self.lanes <= self.rows, "lanes must be at most rows", self.lanes, "use fewer lanes")
        _require(self.images in (1, 2), "images must be 1 or 2", self.images, "use 2")
        _require(self.key_value_copies in (1, 2), "key_value_copies must be 1 or 2", self.key_value_copies, "use 1")
        _require(
            1 <= self.weight_ports <= 3 and self.inputs % (8 * self.weight_ports) == 0,
            "weight_ports must be 1..3 and cut a word into whole bytes",
            self.weight_ports,
            "use 1, or 3 for 384 or 768 inputs",
        )
        _require(self.passes <= 15, "tokens must fit 15 passes", self.passes, "use more rows")
        _require(
            3 * shape.head_dim <= self.tile_words and shape.embed_dim <= self.tile_words,
            "tile_words must hold q, k, v of one head and embed_dim outputs",
            self.tile_words,
            f"use at least {max(3 * shape.head_dim, shape.embed_dim)}",
        )
        _require(2 <= self.weight_buffers <= 8, "weight_buffers must be 2..8", self.weight_buffers, "use 3")

    @property
    def bits(self) -> int:
        return self.shape.bits

    @property
    def passes(self) -> int:
        """Steps that one tile takes: ceil(tokens / rows)."""
        return -(-self.shape.tokens // self.rows)

    @property
    def slice_inputs(self) -> int:
        """Inputs whose weights come over one weight port."""
        return self.inputs // self.weight_ports

    @property
    def key_value_heads(self) -> int:
        """Heads that the key/value memory holds."""
        return self.key_value_copies * self.shape.heads

    @property
    def weight_words(self) -> int:
        return self.tile_words * self.weight_buffers

    @property
    def hidden_tile(self) -> int:
        """Channels of one FC1 tile, and inputs of one FC2 K-tile."""
        return min(self.inputs, self.shape.hidden_dim, self.tile_words)

    @property
    def heads_per_tile(self) -> int:
        return min(self.shape.heads, self.tile_words // (3 * self.shape.head_dim))

    @property
    def accumulator_bits(self) -> int:
        return ACCUMULATOR_BITS

    @property
    def residual_bits(self) -> int:
        return RESIDUAL_BITS


def _require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} does not; {remedy}")


#: 66 rows (3 passes over 197 tokens) of 768 inputs fit the ZCU102 up to this width; wider activations get 50 rows (4 passes).
WIDEST_66_ROWS = 6


def preset(shape: DeitShape, *, rows: int | None = None, technology: str = "generic", strategy: str = "lut_table") -> AcceleratorConfig:
    """The machine that we build for a network.

    6 rows x 64 inputs for 28x28 networks; 66 x 384 up to embed_dim 384; beyond, 66 or 50 x 768. ``rows`` replaces the number of rows.
    """
    if shape.image_size <= 32:
        inputs = max(64, -(-shape.embed_dim // 16) * 16)
        sizes = dict(rows=6, inputs=inputs, lanes=6, tile_words=3 * inputs)
    elif shape.embed_dim <= 384:
        sizes = dict(rows=66, inputs=384, lanes=22, tile_words=768, weight_ports=3, key_value_copies=2)
    else:
        sizes = dict(rows=66 if shape.bits <= WIDEST_66_ROWS else 50, inputs=768, lanes=22, tile_words=768, weight_ports=3)
    if rows is not None:
        sizes["rows"] = rows
    return AcceleratorConfig(shape=shape, technology=technology, strategy=strategy, **sizes)
