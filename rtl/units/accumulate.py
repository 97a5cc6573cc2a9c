"""Behind the tree: Horner over the planes of multi-bit weights, and the memory that adds up K-tiles."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from model.integer import ACCUMULATOR_BITS
from rtl.shapes import signed_for
from rtl.units.protocol import require


@dataclass(frozen=True, kw_only=True)
class AccumulateConfig:
    """
    Parameters
    ----------
    inputs, bits : of the dot product
    channels : output channels that the memory holds per pass
    passes : tokens per row
    largest : magnitude of the largest sum over K-tiles; 0 builds no memory
    """

    inputs: int = 64
    bits: int = 8
    channels: int = 64
    passes: int = 3
    largest: int = 256 * 255

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")
        require(self.inputs >= 1 and self.channels >= 1 and self.passes >= 1, "sizes must be positive", self.inputs, "use at least 1")
        require(self.partial_shape.width <= ACCUMULATOR_BITS, "a K-tile sum must fit the accumulator", self.largest, "use fewer bits")

    @property
    def sum_shape(self):
        return signed_for(self.inputs * ((1 << self.bits) - 1))

    @property
    def partial_shape(self):
        """A sum over K-tiles."""
        return signed_for(max(self.largest, 1))

    def build(self) -> Accumulate:
        return Accumulate(self)


class Accumulate(wiring.Component):
    """``h = plane_first ? y : 2*h + y``, then ``h + memory[channel]`` where asked, and the sum into the memory where asked.

    Parameters
    ----------
    config : AccumulateConfig

    Members
    -------
    i : In(dot product y), cycle 0        plane_first : In(1), cycle 0
    control : In({pass_index, address, add, write}), cycle 0, of the word that completes an output channel
    o : Out(signed ACCUMULATOR_BITS), cycle 2

    Timing
    ------
    A word per cycle, ``latency`` = 2. A partial sum is read in cycle 0 and written in cycle 2, so the same channel of the same pass may
    come again after 3 cycles (a tile has more words than that).

    Source: model/integer.py, plane weights; shared schedule: K-tiles accumulated in the row.
    """

    latency = 2

    def __init__(self, config: AccumulateConfig):
        self.config = config
        control = {"pass_index": 4, "address": 12, "add": 1, "write": 1}
        super().__init__(
            {
                "i": In(config.sum_shape),
                "plane_first": In(1),
                "control": In(data.StructLayout(control)),
                "o": Out(signed(ACCUMULATOR_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        horner = Signal(signed(ACCUMULATOR_BITS))
        twice = Signal(signed(ACCUMULATOR_BITS))
        m.d.comb += twice.eq(Cat(0, horner[:-1]).as_signed())
        # The operand without a gate comes first: the carry chain takes it as it is, and the gate shares the adder's LUT.
        m.d.sync += horner.eq(self.i + Mux(self.plane_first, 0, twice))
        if not self.config.largest:
            m.d.sync += self.o.eq(horner)
            return m

        width, channel_bits = self.config.partial_shape.width, ceil_log2(self.config.channels)
        m.submodules.partials = partials = Memory(
            shape=signed(width), depth=self.config.passes << channel_bits, init=[], attrs={"ram_style": "block"}
        )
        read, write = partials.read_port(domain="sync"), partials.write_port()
        control_1, control_2 = Signal.like(self.control), Signal.like(self.control)
        m.d.sync += [control_1.eq(self.control), control_2.eq(control_1)]
        m.d.comb += [
            read.addr.eq(Cat(self.control.address[:channel_bits], self.control.pass_index)),
            read.en.eq(1),
            write.addr.eq(Cat(control_2.address[:channel_bits], control_2.pass_index)),
            write.en.eq(control_2.write),
            write.data.eq(self.o[:width].as_signed()),  # fits by partial_shape while it is a partial sum
        ]
        m.d.sync += self.o.eq(horner + Mux(control_1.add, read.data, 0))
        return m
