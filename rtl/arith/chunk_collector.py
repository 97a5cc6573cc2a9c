"""Gathers a stream of activations into chunks, and adds them up."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.shapes import CHUNK, activation_beat, total_shape, wrap


class ChunkCollector(wiring.Component):
    """Counts activations since `first`; after every CHUNK of them, presents the chunk for one cycle.

    Parameters
    ----------
    inputs, bits : most activations of a vector, and their width

    Members
    -------
    i : activations
    full : one cycle high, in the cycle after the beat that completed a chunk; the others are valid in that cycle
    chunk : its activations, the oldest in element 0
    opening : this is the first chunk of its vector
    bank : of the vector
    total : sum of the vector's activations so far, this chunk included

    Timing
    ------
    Beat CHUNK-1, 2*CHUNK-1, ... of a vector in cycle c: `full` in c + 1. So at most one `full` in any CHUNK cycles.
    """

    def __init__(self, *, inputs: int, bits: int):
        self.inputs, self.bits = inputs, bits
        super().__init__(
            {
                "i": In(stream.Signature(activation_beat(bits), always_ready=True)),
                "full": Out(1),
                "chunk": Out(data.ArrayLayout(bits, CHUNK)),
                "opening": Out(1),
                "bank": Out(1),
                "total": Out(total_shape(inputs, bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = self.i.p
        arrived = Signal(range(CHUNK))  # activations of the current chunk
        position = Signal.like(arrived)
        m.d.comb += position.eq(Mux(beat.first, 0, arrived))
        m.d.sync += self.full.eq(self.i.valid & position.all())
        with m.If(self.full):
            m.d.sync += self.opening.eq(0)
        gathered, total = Signal(CHUNK * self.bits, reset_less=True), Signal(self.total.shape(), reset_less=True)
        m.d.comb += [self.chunk.eq(gathered), self.total.eq(total)]
        with m.If(self.i.valid):
            m.d.sync += [
                arrived.eq(position + 1),  # wraps at CHUNK
                gathered.eq(Cat(gathered[self.bits :], beat.value)),
                self.bank.eq(beat.bank),
                total.eq(wrap(beat.value + Mux(beat.first, 0, total), total.shape())),
            ]
            with m.If(beat.first):
                m.d.sync += self.opening.eq(1)
        return m
