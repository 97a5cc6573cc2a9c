"""Behind the tree: Horner over the planes of multi-bit weights, and the memory that adds up K-tiles."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

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
    terms : the widest sum over K-tiles, in activations (hidden_dim); 0 builds no memory
    """

    inputs: int = 64
    bits: int = 8
    channels: int = 64
    passes: int = 3
    terms: int = 256

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")
        require(self.inputs >= 1 and self.channels >= 1 and self.passes >= 1, "sizes must be positive", self.inputs, "use at least 1")
        require(self.partial_shape.width <= ACCUMULATOR_BITS, "a K-tile sum must fit the accumulator", self.terms, "use fewer bits")

    @property
    def sum_shape(self):
        return signed_for(self.inputs * ((1 << self.bits) - 1))

    @property
    def partial_shape(self):
        """A sum over K-tiles of ``terms`` activations, each times plus or minus one."""
        return signed_for(max(self.terms, 1) * ((1 << self.bits) - 1))

    def build(self) -> Accumulate:
        return Accumulate(self)


class Accumulate(wiring.Component):
    """``h = plane_first ? y : 2*h + y``, then ``h + memory[channel]`` where asked, and the sum into the memory where asked.

    Members
    -------
    i : In(dot product y), cycle 0        plane_first : In(1), cycle 0
    control : In({pass_index, address, add, write}), cycle 0, of the word that completes an output channel
    o : Out(signed ACCUMULATOR_BITS), cycle 2

    Timing
    ------
    A word per cycle, ``latency`` = 2. The memory word of a channel holds the sums of all passes; it is read in cycle 0 and written in cycle 2,
    so the same channel may come again after 3 cycles (a tile has more words than that).

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
        m.d.sync += horner.eq(Mux(self.plane_first, self.i, twice + self.i))
        if not self.config.terms:
            m.d.sync += self.o.eq(horner)
            return m

        width, passes = self.config.partial_shape.width, self.config.passes
        m.submodules.partials = partials = Memory(shape=unsigned(width * passes), depth=self.config.channels, init=[])
        read, write = partials.read_port(domain="sync"), partials.write_port()
        control_1, control_2 = Signal.like(self.control), Signal.like(self.control)
        word = Signal(unsigned(width * passes))
        fields = [read.data[index * width : (index + 1) * width] for index in range(passes)]
        partial = Signal(signed(width))
        m.d.sync += [control_1.eq(self.control), control_2.eq(control_1), word.eq(read.data)]
        m.d.comb += [
            read.addr.eq(self.control.address),
            read.en.eq(1),
            partial.eq(Mux(control_1.add, Array(fields)[control_1.pass_index], 0).as_signed()),
            write.addr.eq(control_2.address),
            write.en.eq(control_2.write),
            write.data.eq(
                Cat(
                    Mux(control_2.pass_index == index, self.o[:width], word[index * width : (index + 1) * width])
                    for index in range(passes)
                )
            ),
        ]
        m.d.sync += self.o.eq(horner + partial)
        return m
