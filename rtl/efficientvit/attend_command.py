"""The commands of the `AttendEngine`, a head each, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.lib import data

from model import integer
from rtl.efficientvit.key_value_memory import PixelMemory, PixelMemoryConfig
from rtl.efficientvit.state_memory import CHUNK, StateMemoryConfig
from rtl.shapes import ceil_div
from rtl.tech.dsp48e2 import generic
from rtl.units.linear_attention import LinearAttentionConfig
from rtl.units.protocol import require

#: A step has room for 16 words of q: as many divisors come first, then 16 columns (pairs of output channels) of dividends per word.
COLUMN_BITS = 4


@dataclass(frozen=True, kw_only=True)
class AttendConfig:
    """
    Parameters
    ----------
    rows : pixels of a pass
    bits, depth, pixels, multipliers, technology : see `OuterProductConfig`
    key_value_depth, state_depth : words of a bank of the key/value memory, and of the state memory
    """

    rows: int = 49
    bits: int = 8
    depth: int = 1
    pixels: int = 1024
    multipliers: str = "dsp"
    key_value_depth: int = 512
    state_depth: int = 512
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.rows <= 64, "rows must be 1..64", self.rows, "use 49")
        assert self.attention and self.key_value and self.state  # which check the others

    @property
    def attention(self) -> LinearAttentionConfig:
        return LinearAttentionConfig(
            bits=self.bits, depth=self.depth, pixels=self.pixels, multipliers=self.multipliers, technology=self.technology
        )

    @property
    def key_value(self) -> PixelMemoryConfig:
        return PixelMemoryConfig(bits=self.bits, depth=self.key_value_depth)

    @property
    def state(self) -> StateMemoryConfig:
        return StateMemoryConfig(depth=self.state_depth)

    @property
    def late(self) -> int:
        """Cycles from the first to the last word of a step of a head of 32, less those of a head of 16."""
        return 4 * (2 * self.depth - 1) - 2 * (self.depth - 1)

    def spacing(self, wide: bool) -> int:
        """Cycles from the first word of a head's last step to that of the next head's: its sums are read, (d + 1) d / 4 cycles, after the
        step's tiles and before the next head's last ones, which may come ``late`` cycles sooner than its own."""
        head_dim = 32 if wide else 16
        return (head_dim + 1) * head_dim // CHUNK + self.attention.tiles(wide) + (self.late if wide else 0)

    def cycles(self, pixels: int, wide: bool) -> int:
        """Cycles per head of a row of equal heads."""
        return max(ceil_div(pixels, self.depth) * self.attention.tiles(wide), self.spacing(wide))

    def latency(self, pixels: int, wide: bool) -> int:
        """Cycles from the first word's read to ``done``, of a head alone."""
        steps, tiles, step_words = ceil_div(pixels, self.depth), self.attention.tiles(wide), self.depth * (2 if wide else 1)
        last_word = (steps * step_words - 1) * (4 if wide else 2)
        head_dim, unit = 32 if wide else 16, self.attention
        return last_word + PixelMemory.latency + unit.finish_latency + tiles + (head_dim + 1) * head_dim // 4 + unit.latency + 2


def command_layout(config: AttendConfig) -> data.StructLayout:
    """A head of k and v, and where its state goes. At most 80 bits.

    address : of the head's first word of pixel 0, in the key/value memory. Words of a head of 16 are [k v], one; of 32 k, then v, at an
        even address
    stride : words per pixel (of 32 channels; even for heads of 32)
    pixels : 1..config.pixels
    wide : heads of 32 channels, else 16
    base : of the step's state        place : the head's, in the step: 0..31 (heads of 32: 0..15). Two heads of 16 share words: the even one
        comes first, it clears the other's part
    state_multiplier, state_shift, sum_multiplier, sum_shift : requantizers of S and of the sum of K; shift: index into REQUANTIZE_SHIFTS
    """
    address, state = config.key_value.address_bits, config.state.address_bits
    return data.StructLayout(
        {
            "address": address,
            "stride": address,
            "pixels": config.pixels.bit_length(),
            "wide": 1,
            "base": state,
            "place": 5,
            "state_multiplier": integer.MULTIPLIER_BITS,
            "state_shift": 2,
            "sum_multiplier": integer.MULTIPLIER_BITS,
            "sum_shift": 2,
        }
    )
