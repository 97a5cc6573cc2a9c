"""`StateMemory`: the states of linear attention, as the weight words that the rows multiply q by."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.units.protocol import require

#: Outputs that a row computes at a time, and their inputs: a word has a byte for each.
LANES, INPUTS = 2, 32
#: Bytes that are written at a time: one requantizer each.
CHUNK = 4
CHUNKS = INPUTS // CHUNK
WORD_BITS = 8 * LANES * INPUTS


@dataclass(frozen=True, kw_only=True)
class StateMemoryConfig:
    """
    Parameters
    ----------
    depth : words, a power of two
    """

    depth: int = 512

    def __post_init__(self) -> None:
        require(self.depth > 1 and not self.depth & self.depth - 1, "depth must be a power of two", self.depth, "round it up")

    @property
    def address_bits(self) -> int:
        return exact_log2(self.depth)

    def build(self) -> StateMemory:
        return StateMemory(self)


#: Weights in [-127, 127] of each input of each lane.
WordLayout = data.ArrayLayout(data.ArrayLayout(signed(8), INPUTS), LANES)


def write_layout(config: StateMemoryConfig) -> data.StructLayout:
    """``enable``: a bit per chunk of four bytes, those of lane 0 first."""
    return data.StructLayout({"enable": LANES * CHUNKS, "address": config.address_bits, "data": WordLayout})


class StateMemory(wiring.Component):
    """One memory of 512-bit words, written in chunks of four bytes.

    The state of a score step with T <= 16 words of q (a word: 32 channels, two heads of 16 or one of 32) begins at ``base``::

        base + j             divisors of q word j: the sums of K
        base + 16 + 16 j + c, c < 16: dividends of q word j: column c of S of the head that lane 0 works for, and its like of lane 1

    Heads of 16: lane 0 works for head 2 j, whose q are inputs 0..15, lane 1 for head 2 j + 1, inputs 16..31; all other bytes are 0.
    Heads of 32: lane 0 makes columns 0..15, lane 1 columns 16..31; both have the same divisors.

    Parameters
    ----------
    config : StateMemoryConfig

    Members
    -------
    write : In(write_layout), a word per cycle
    address : In        word : Out(WordLayout), ``latency`` = 2 cycles later

    Timing
    ------
    What is written in cycle t may be read in cycle t + 1; a read in the cycle of a write gives the old word.

    Resources, 512 words: 8 block RAMs.
    """

    latency = 2

    def __init__(self, config: StateMemoryConfig):
        self.config = config
        super().__init__({"write": In(write_layout(config)), "address": In(config.address_bits), "word": Out(WordLayout)})

    def elaborate(self, platform):
        m = Module()
        memory = Memory(shape=WORD_BITS, depth=self.config.depth, init=[], attrs={"ram_style": "block"})
        m.submodules.memory = memory
        read, write = memory.read_port(), memory.write_port(granularity=8 * CHUNK)
        word = Signal(WORD_BITS, reset_less=True)
        m.d.sync += word.eq(read.data)
        m.d.comb += [
            write.en.eq(self.write.enable),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            read.en.eq(1),
            read.addr.eq(self.address),
            self.word.eq(word),
        ]
        return m
