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
        left, rest = Signal(BEATS_BITS + 1, init=-1), Signal(BEATS_BITS)  # beats of the request less one: below zero if there are none
        low = Signal(_BURST_SHIFT)  # beat within 256 bytes
        high = Signal(ADDRESS_BITS - _BEAT_SHIFT - _BURST_SHIFT)
        room = Signal(range(BURST_BEATS + 1))
        idle, step = Signal(init=1), Signal(3)  # the three steps, one bit each
        take, more, empty = Signal(), Signal(), Signal()
        final = self.o.p.final
        m.d.comb += [
            self.o.p.address.eq(Cat(Const(0, _BEAT_SHIFT), low, high)),
            self.i_request.ready.eq(idle),
            self.busy.eq(~idle),
            take.eq(self.o.valid & self.o.ready),
            more.eq(take & ~final),
            empty.eq(left[-1]),
        ]
        m.d.sync += [
            room.eq(BURST_BEATS - low),
            Cat(rest, final).eq(left - room),  # one below zero: this burst is the last
            step.eq(Cat((idle & self.i_request.valid) | more, step)),
            idle.eq((idle & ~self.i_request.valid) | (step[2] & empty) | (take & final)),
            self.o.valid.eq((step[2] & ~empty) | (self.o.valid & ~take)),
        ]
        with m.If(step[2]):
            m.d.sync += self.o.p.beats.eq(Mux(final, left[:_BURST_SHIFT] + 1, room))
        with m.If(take):
            m.d.sync += [left.eq(rest), low.eq(0), high.eq(high + 1)]
        with m.If(idle):
            request = self.i_request.p
            m.d.sync += [left.eq(request.beats - 1), Cat(low, high).eq(request.address[_BEAT_SHIFT:])]
        with m.If(self.stop):
            m.d.sync += [self.o.valid.eq(0), idle.eq(1), step.eq(0)]
        if platform == "formal":
            self._laws(m, idle, left, rest, low, room, step)
        return m

    def _laws(self, m: Module, idle, left, rest, low, room, step) -> None:
        """What holds in every state, for proofs by induction."""
        later, known, final = step[1:].any() | self.o.valid, step[2] | self.o.valid, self.o.p.final
        m.d.comb += [
            Assert(idle + step[0] + step[1] + step[2] + self.o.valid == 1),
            Assert(~self.o.valid | ~left[-1]),
            Assert(~later | (room == BURST_BEATS - low)),
            Assert(~(known & ~left[-1]) | ((final == (left < room)) & (final | (rest == left - room)))),
            Assert(~self.o.valid | (self.o.p.beats == Mux(final, left + 1, room))),
        ]
