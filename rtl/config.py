"""The accelerator's parameters: frozen, keyword-only, validated once, before any hardware."""

from __future__ import annotations

from dataclasses import dataclass

from model.graph import DeitShape
from model.integer import ACCUMULATOR_BITS, RESIDUAL_BITS
from rtl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """One machine: the network's dimensions that are built in, and the array.

    Parameters
    ----------
    shape : the network; embed_dim, heads, tokens and the image's geometry size memories and counters
    rows : tokens in parallel (R)
    inputs : row inputs (K), a multiple of 16; at least embed_dim and patch_dim, and divides hidden_dim
    lanes : attention products pairs per row (D); even, divides rows
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
    strategy: str = "lut_table"
    technology: str = "generic"

    def __post_init__(self) -> None:
        shape = self.shape
        _require(1 <= shape.bits <= 8, "bits must be 1..8", shape.bits, "choose a width in that range")
        _require(1 <= self.rows <= 255, "rows must be 1..255", self.rows, "choose fewer rows")
        _require(self.inputs % 16 == 0, "inputs must be a multiple of 16", self.inputs, "round it up")
        _require(shape.embed_dim <= self.inputs, "inputs must be at least embed_dim", self.inputs, f"use {shape.embed_dim}")
        _require(shape.patch_dim <= self.inputs, "inputs must be at least patch_dim", self.inputs, f"use {shape.patch_dim}")
        _require(shape.hidden_dim % min(self.inputs, shape.hidden_dim) == 0, "inputs must divide hidden_dim", self.inputs, "adjust inputs")
        _require(shape.embed_dim % 16 == 0, "embed_dim must be a multiple of 16", shape.embed_dim, "choose another width")
        _require(shape.embed_dim % shape.heads == 0, "heads must divide embed_dim", shape.heads, "choose other heads")
        _require(shape.image_size % shape.patch_size == 0, "patch_size must divide image_size", shape.patch_size, "choose another patch")
        _require(self.rows % self.lanes == 0, "lanes must divide rows", self.lanes, "choose lanes that divide rows")
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

    def place(self, slot: int) -> tuple[int, int]:
        """(row, pass) that processes the token in ``slot``."""
        pass_index, row = divmod(slot, self.rows)
        return row, pass_index

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


#: Rows of the 224 machine whose whole estimate stays inside the ZCU102's budget: 66 (3 passes) or 44 (5 passes), both 22 lanes.
#: Between them no row count has lanes that head_dim 64 splits into (see AttentionConfig). Rows cost less LUTs at fewer bits.
WIDEST_66_ROWS = 4


def preset(shape: DeitShape, *, technology: str = "generic", strategy: str = "lut_table") -> AcceleratorConfig:
    """The machine that we build for a network: 6 rows x 64 inputs for 28x28 networks, 66 or 44 x 768 for those at 224."""
    if shape.image_size <= 32:
        inputs = max(64, -(-max(shape.embed_dim, shape.patch_dim) // 16) * 16)
        sizes = dict(rows=6, inputs=inputs, lanes=6, tile_words=3 * inputs)
    else:
        sizes = dict(rows=66 if shape.bits <= WIDEST_66_ROWS else 44, inputs=768, lanes=22, tile_words=768)
    return AcceleratorConfig(shape=shape, technology=technology, strategy=strategy, **sizes)
