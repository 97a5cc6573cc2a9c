"""Cuts requests into AXI bursts."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import ADDRESS_BITS, BEAT_BYTES, BEATS_BITS, BURST_BEATS, REQUEST

PART = data.StructLayout({"address": ADDRESS_BITS, "beats": 5, "final": 1})
"""One burst of 1 to 16 beats; ``final`` marks the last burst of its request."""

CYCLES = 4
"""A burst is offered at most once in so many cycles."""

_BEAT_SHIFT = BEAT_BYTES.bit_length() - 1
_BURST_SHIFT = BURST_BEATS.bit_length() - 1


class BurstSplitter(wiring.Component):
    """Cuts a request at multiples of 256 bytes, so that no burst has more than 16 beats or crosses a 4 KiB boundary.

    Three registered steps make a burst (room up to the boundary; is what is left more than that; the shorter of the two).

    Members
    -------
    i_request : In(stream of {address: 40, beats: 24}); the low four bits of the address are ignored; no beats, no bursts
    o : Out(stream of {address: 40, beats: 5, final: 1})
    stop : In(1); drops the request in progress, and the offered burst with it
    busy : Out(1); a request is in progress

    Timing
    ------
    Request taken in cycle t: first burst offered in t + 4. Burst taken in t: the next one is offered in t + 4; after the last one the
    next request is taken in t + 1 at the earliest.
    """

    i_request: In(stream.Signature(REQUEST))
    o: Out(stream.Signature(PART))
    stop: In(1)
    busy: Out(1)

    def elaborate(self, platform) -> Module:
        m = Module()
        left, rest = Signal(BEATS_BITS), Signal(BEATS_BITS)
        low = Signal(_BURST_SHIFT)  # beat within 256 bytes
        high = Signal(ADDRESS_BITS - _BEAT_SHIFT - _BURST_SHIFT)
        room = Signal(range(BURST_BEATS + 1))
        step = Signal(3)  # the three steps, one bit each
        take, empty = Signal(), Signal()
        m.d.comb += [
            self.o.p.address.eq(Cat(Const(0, _BEAT_SHIFT), low, high)),
            self.i_request.ready.eq(~self.busy),
            take.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += [
            step.eq(step << 1),
            empty.eq(left == 0),
            room.eq(BURST_BEATS - low),
            self.o.p.final.eq(left <= room),
            rest.eq(left - room),
        ]
        with m.If(step[2]):
            m.d.sync += [self.o.p.beats.eq(Mux(self.o.p.final, left, room)), self.o.valid.eq(~empty), self.busy.eq(~empty)]
        with m.If(take):
            m.d.sync += [left.eq(rest), low.eq(0), high.eq(high + 1), self.o.valid.eq(0), self.busy.eq(~self.o.p.final)]
            m.d.sync += step.eq(~self.o.p.final)
        with m.If(~self.busy):
            request = self.i_request.p
            m.d.sync += [left.eq(request.beats), Cat(low, high).eq(request.address[_BEAT_SHIFT:]), self.busy.eq(self.i_request.valid)]
            m.d.sync += step.eq(self.i_request.valid)
        with m.If(self.stop):
            m.d.sync += [self.o.valid.eq(0), self.busy.eq(0), step.eq(0)]
        if platform == "formal":
            self._laws(m, left, rest, low, room, step, empty)
        return m

    def _laws(self, m: Module, left, rest, low, room, step, empty) -> None:
        """What holds in every state, for proofs by induction."""
        later, known = step[1:].any() | self.o.valid, step[2] | self.o.valid
        m.d.comb += [
            Assert(self.busy == (step.any() | self.o.valid)),
            Assert(step[0] + step[1] + step[2] + self.o.valid <= 1),
            Assert(~later | (empty == (left == 0))),
            Assert(~self.o.valid | ~empty),
            Assert(~later | (room == BURST_BEATS - low)),
            Assert(~known | ((self.o.p.final == (left <= room)) & (rest == (left - room)[:BEATS_BITS]))),
            Assert(~self.o.valid | (self.o.p.beats == Mux(self.o.p.final, left, room))),
        ]
