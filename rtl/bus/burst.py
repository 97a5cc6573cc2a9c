"""Cuts requests into AXI bursts."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import ADDRESS_BITS, BEAT_BYTES, BEATS_BITS, BURST_BEATS, REQUEST

PART = data.StructLayout({"address": ADDRESS_BITS, "beats": 5, "final": 1})
"""One burst of 1 to 16 beats; ``final`` marks the last burst of its request."""

_BEAT_SHIFT = BEAT_BYTES.bit_length() - 1
_BURST_SHIFT = BURST_BEATS.bit_length() - 1


class BurstSplitter(wiring.Component):
    """Cuts a request at multiples of 256 bytes, so that no burst has more than 16 beats or crosses a 4 KiB boundary.

    Members
    -------
    i_request : In(stream of {address: 40, beats: 24}); the low four bits of the address are ignored; no beats, no bursts
    o : Out(stream of {address: 40, beats: 5, final: 1})
    stop : In(1); drops the request in progress, and the offered burst with it

    Timing
    ------
    Request taken in cycle t: first burst offered in t + 1; one burst per cycle, also across requests.
    """

    i_request: In(stream.Signature(REQUEST))
    o: Out(stream.Signature(PART))
    stop: In(1)

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal(BEATS_BITS)
        low = Signal(_BURST_SHIFT)  # beat within 256 bytes
        high = Signal(ADDRESS_BITS - _BEAT_SHIFT - _BURST_SHIFT)
        room = Signal(range(BURST_BEATS + 1))
        m.d.comb += [
            room.eq(BURST_BEATS - low),
            self.o.p.final.eq(left <= room),
            self.o.p.beats.eq(Mux(self.o.p.final, left, room)),
            self.o.p.address.eq(Cat(Const(0, _BEAT_SHIFT), low, high)),
            self.i_request.ready.eq(~self.o.valid | (self.o.ready & self.o.p.final)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [left.eq(left - room), low.eq(0), high.eq(high + 1)]
        with m.If(self.i_request.ready):
            request = self.i_request.p
            m.d.sync += [
                left.eq(request.beats),
                Cat(low, high).eq(request.address[_BEAT_SHIFT:]),
                self.o.valid.eq(self.i_request.valid & request.beats.any()),
            ]
        with m.If(self.stop):
            m.d.sync += self.o.valid.eq(0)
        return m
