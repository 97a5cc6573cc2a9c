"""`PixelMemory`: the keys and values of every pixel, collected in groups of four pixels, read a word at a time."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.units.protocol import delay, require

#: Banks: pixels of a group, rows over which the results of a pass are collected.
BANKS = 4
#: Channels of a word.
CHANNELS = 32


@dataclass(frozen=True, kw_only=True)
class PixelMemoryConfig:
    """
    Parameters
    ----------
    bits : of a code, 4..8
    depth : words of a bank, a power of two
    """

    bits: int = 8
    depth: int = 512

    def __post_init__(self) -> None:
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")
        require(self.depth > 1 and not self.depth & self.depth - 1, "depth must be a power of two", self.depth, "round it up")

    @property
    def word_bits(self) -> int:
        return CHANNELS * self.bits

    @property
    def address_bits(self) -> int:
        return exact_log2(self.depth)

    def build(self) -> PixelMemory:
        return PixelMemory(self)


def write_layout(config: PixelMemoryConfig) -> data.StructLayout:
    """A word of each pixel of a group. ``valid``: which of the pixels there are."""
    return data.StructLayout({"valid": BANKS, "address": config.address_bits, "data": data.ArrayLayout(unsigned(config.word_bits), BANKS)})


def read_layout(config: PixelMemoryConfig) -> data.StructLayout:
    return data.StructLayout({"bank": range(BANKS), "address": config.address_bits})


class PixelMemory(wiring.Component):
    """``BANKS`` block memories side by side.

    Pixel ``s * rows + 4 * i + b`` of a tensor (pass s, row 4 i + b) lies in bank b, at ``base + (s * groups + i) * words + word``, where
    groups = ceil(rows / 4) and words = words per pixel.

    Parameters
    ----------
    config : PixelMemoryConfig

    Members
    -------
    write : In(write_layout), a group per cycle
    read : In(read_layout), a word per cycle
    word : Out(32 * bits), ``latency`` = 3 cycles after `read`: code of channel c at bits c * bits

    Timing
    ------
    ::

        cycle    0        1         2         3
                 read     memory    output    word
                                    register

    What is written in cycle t may be read in cycle t + 1; a read in the cycle of a write gives the old word.

    Resources, 8 bits x 512: 16 block RAMs.
    """

    latency = 3

    def __init__(self, config: PixelMemoryConfig):
        self.config = config
        super().__init__({"write": In(write_layout(config)), "read": In(read_layout(config)), "word": Out(config.word_bits)})

    def elaborate(self, platform):
        m = Module()
        words = []
        for bank in range(BANKS):
            memory = Memory(shape=unsigned(self.config.word_bits), depth=self.config.depth, init=[], attrs={"ram_style": "block"})
            m.submodules[f"bank{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                write.en.eq(self.write.valid[bank]),
                write.addr.eq(self.write.address),
                write.data.eq(self.write.data[bank]),
                read.en.eq(1),
                read.addr.eq(self.read.address),
            ]
            words.append(delay(m, read.data, 1, name=f"word{bank}"))
        word = Signal(self.config.word_bits, reset_less=True)
        m.d.sync += word.eq(Array(words)[delay(m, self.read.bank, 2, name="bank")])
        m.d.comb += self.word.eq(word)
        return m
