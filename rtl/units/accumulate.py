"""Behind the tree: Horner over the planes of multi-bit weights, and the memory that adds up K-tiles."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from model.integer import ACCUMULATOR_BITS
from rtl.arith.dot_ports import operands_layout
from rtl.shapes import signed_for
from rtl.tech.dsp48e2 import generic
from rtl.tech.dsp_running import Horner
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
    technology : of the slice, see `rtl.tech.dsp48e2`
    """

    inputs: int = 64
    bits: int = 8
    channels: int = 64
    passes: int = 3
    largest: int = 256 * 255
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")
        require(self.inputs >= 1 and self.channels >= 1 and self.passes >= 1, "sizes must be positive", self.inputs, "use at least 1")
        require(self.partial_shape.width <= ACCUMULATOR_BITS, "a K-tile sum must fit the accumulator", self.largest, "use fewer bits")

    @property
    def address_bits(self) -> int:
        return ceil_log2(self.channels) + ceil_log2(self.passes)

    @property
    def partial_shape(self):
        """A sum over K-tiles."""
        return signed_for(max(self.largest, 1))

    def build(self) -> Accumulate:
        return Accumulate(self)


class Accumulate(wiring.Component):
    """``h = plane_first ? y : 2*h + y``, then ``h + memory[address]`` where asked, and the sum into the memory where asked.

    Parameters
    ----------
    config : AccumulateConfig

    Members
    -------
    i : In({plus, minus}): the dot product y = plus - minus, cycle 0        plane_first : In(1), cycle 1
    read : In(address), cycle 1; add : In(1), cycle 2; write : In({valid, address}), cycle 3: of the word that completes an output channel
    o : Out(signed ACCUMULATOR_BITS), cycle 3

    Timing
    ------
    A word per cycle, ``latency`` = 3; ``OFFSETS`` gives the cycle in which each port is sampled. A partial sum is read in cycle 1 and
    written in cycle 3, so the same place may come again after 3 cycles (a tile has more words than that).
    Horner's rule and the dot product's last subtraction are one DSP slice.

    Resources of DeiT-base, yosys, before place-and-route: 27 LUT (and an inverter per bit of ``minus`` where no LUT stands before it),
    27 FF, 1 DSP48E2, 2.5 BRAM36 at 6 bits, 3 at 8; 1 LUT level and a carry chain behind the block RAM, 1.9 ns in our model.

    Source: model/integer.py, plane weights; shared schedule: K-tiles accumulated in the row.
    """

    OFFSETS = {"plane_first": 1, "read": 1, "add": 2, "write": 3}
    latency = 3

    def __init__(self, config: AccumulateConfig):
        self.config = config
        super().__init__(
            {
                "i": In(operands_layout(config.inputs, config.bits)),
                "plane_first": In(1),
                "read": In(config.address_bits),
                "add": In(1),
                "write": In(data.StructLayout({"valid": 1, "address": config.address_bits})),
                "o": Out(signed(ACCUMULATOR_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.horner = horner = Horner(self.config.technology)
        total = Signal(signed(ACCUMULATOR_BITS))
        m.d.comb += [
            horner.x.eq(self.i.plus),
            horner.y.eq(self.i.minus),
            horner.first.eq(self.plane_first),
            total.eq(horner.p[:ACCUMULATOR_BITS].as_signed()),  # fits: `rtl.program` proves it of every layer
        ]
        if not self.config.largest:
            m.d.sync += self.o.eq(total)
            return m

        width = self.config.partial_shape.width
        m.submodules.partials = partials = Memory(
            shape=signed(width), depth=1 << self.config.address_bits, init=[], attrs={"ram_style": "block"}
        )
        read, write = partials.read_port(domain="sync"), partials.write_port()
        m.d.comb += [
            read.addr.eq(self.read),
            read.en.eq(1),
            write.addr.eq(self.write.address),
            write.en.eq(self.write.valid),
            write.data.eq(self.o[:width].as_signed()),  # fits by partial_shape while it is a partial sum
        ]
        m.d.sync += self.o.eq(self.config.technology.add_gated(m, total, read.data, self.add, ACCUMULATOR_BITS))
        return m
