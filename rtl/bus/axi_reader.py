"""Reads runs of beats from memory over AXI4, many bursts in flight, never asking for more than it can store."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, BURST_BEATS, DATA_BITS, OKAY, REQUEST, AxiRead
from rtl.bus.beat_fifo import BeatFifo
from rtl.bus.burst import BurstSplitter
from rtl.errors import InputError

#: From a request to its first address; from a beat on the bus to the output: cycles.
REQUEST_LATENCY, BEAT_LATENCY = 5, 4
SETTLE = 6
"""Cycles after which everything that was asked for before is counted."""


@dataclass(frozen=True, kw_only=True)
class AxiReaderConfig:
    """
    Parameters
    ----------
    depth : beats that may be outstanding or stored; a multiple of 16, at least 32
    bursts : bursts that may be outstanding, at least 2

    Full throughput needs a memory latency, from address to data, of at most depth - 24 and 16 * bursts - 19 cycles.
    """

    depth: int = 128
    bursts: int = 16

    def __post_init__(self) -> None:
        if self.depth < 2 * BURST_BEATS or self.depth % BURST_BEATS:
            raise InputError(f"depth must be a multiple of {BURST_BEATS}, at least {2 * BURST_BEATS}: {self.depth} is not; use 64")
        if self.bursts < 2:
            raise InputError(f"bursts must be at least 2: {self.bursts} is not; use 16")

    def build(self) -> AxiReader:
        return AxiReader(self)


class AxiReader(wiring.Component):
    """Turns requests into bursts and returns the beats in order.

    A request is cut at multiples of 256 bytes. A burst is asked for only when 16 beats of the store are free (free: neither stored nor
    outstanding), so ``axi.r.ready`` is constant one. A request of no beats is accepted and does nothing.

    A response other than OKAY sets ``error`` until ``clear``: requests, new bursts and output stop (a beat already offered stays until
    it is taken), and outstanding beats are accepted and dropped. ``clear`` may be pulsed at any time: it drops the requests and everything
    stored, and the reader takes requests again when the outstanding beats have arrived. Only ``clear`` may take back an offered beat.

    Members
    -------
    i_request : In(stream of {address: 40, beats: 24})
    o : Out(stream of {data: 128, last: 1}); ``last`` marks the last beat of a request
    axi : Out(AxiRead)
    clear : In(1)
    error : Out(1), sticky
    idle : Out(1); no request in progress, nothing outstanding on the bus, and without error nothing left to output

    Timing
    ------
    Request taken in cycle t: first ``ar.valid`` in t + 5; then one burst per 4 cycles. Beat taken from ``axi.r`` in t: on ``o`` in t + 4.
    One beat per cycle, also across bursts and requests, at memory latencies up to depth - 24 and 16 * bursts - 19 (bursts of 16).
    ``error`` rises two cycles after the beat that failed; one beat more may be offered in the cycle after that.
    184 LUT, 500 FF, 2 BRAM36; stages of at most 2 LUT levels and a carry.

    Raises
    ------
    InputError : from the configuration
    """

    def __init__(self, config: AxiReaderConfig = AxiReaderConfig()) -> None:
        self.config = config
        super().__init__(
            {
                "i_request": In(stream.Signature(REQUEST)),
                "o": Out(stream.Signature(BEAT)),
                "axi": Out(AxiRead()),
                "clear": In(1),
                "error": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        depth = self.config.depth
        draining = Signal()  # after clear, until nothing is outstanding
        halted = Signal()  # draining, or an error
        settled = Signal(SETTLE)  # since clear: what was under way is counted
        fresh, none = Signal(), Signal()  # all has arrived; nothing is outstanding
        outstanding = Signal(range(depth + 1))  # beats asked for that have not arrived
        free = Signal(range(depth + 1), init=depth)  # beats neither outstanding nor stored
        asked, arrived, delivered = Signal(5), Signal(), Signal()  # in the previous cycle
        owing, freed = Signal(signed(6)), Signal(signed(6))  # what the cycle before that changed
        m.submodules.beats = beats = BeatFifo(BEAT.size, 1 << (depth - 1).bit_length())
        m.d.comb += [beats.clear.eq(self.clear | draining), beats.stop.eq(halted)]
        m.d.sync += [
            owing.eq(asked - arrived),
            freed.eq(delivered - asked),
            outstanding.eq(outstanding + owing),
            none.eq(outstanding == 0),
            free.eq(free + freed),
            delivered.eq(self.o.valid & self.o.ready),
            settled.eq(settled << 1 | 1),
            fresh.eq(draining & settled[-1] & none & ~fresh & ~self.clear),
        ]
        splitter = self._requests(m, halted, free, asked, fresh)
        bad = self._arrivals(m, beats, halted, arrived)
        wiring.connect(m, beats.o, wiring.flipped(self.o))
        with m.If(fresh):
            m.d.sync += [draining.eq(0), halted.eq(0), free.eq(depth), freed.eq(0)]
        with m.If(bad & ~draining):
            m.d.sync += [self.error.eq(1), halted.eq(1)]
        with m.If(self.clear):
            m.d.sync += [draining.eq(1), halted.eq(1), settled.eq(0), self.error.eq(0)]
        still, kept = Signal(3, reset_less=True), Signal()  # no request, and none of what the counter does not know of yet; beats to output
        m.d.sync += [
            still.eq(Cat(~splitter.busy, ~(asked.any() | arrived), ~owing.any())),
            kept.eq(~(self.error | beats.empty)),
            self.idle.eq(~splitter.busy & still.all() & none & ~(kept | self.clear | draining)),
        ]
        counts = {"outstanding": outstanding + owing + asked - arrived, "free": free + freed + delivered - asked, "arrived": arrived}
        self.observed = {**counts, "draining": draining, "beats": beats, "part": splitter.o, "halted": halted, "fresh": fresh}  # for proofs
        return m

    def _requests(self, m: Module, halted, free, asked, fresh) -> BurstSplitter:
        """Bursts go out when there is room for 16 beats. The next one comes `CYCLES` later, when this one is counted."""
        ar = self.axi.ar
        bursts = self.config.bursts
        issue, issued, allowed, ended = Signal(), Signal(), Signal(), Signal()
        open_bursts = Signal(range(bursts + 1))
        splitter = m.submodules.splitter = BurstSplitter()
        m.submodules.finals = finals = Memory(shape=1, depth=1 << (bursts - 1).bit_length(), init=[])  # does a burst end its request?
        write, self._final = finals.write_port(), finals.read_port(domain="comb")
        m.d.comb += [
            splitter.i_request.payload.eq(self.i_request.payload),
            splitter.i_request.valid.eq(self.i_request.valid),  # dropped while halted
            self.i_request.ready.eq(splitter.i_request.ready & ~halted),
            splitter.stop.eq(halted),
            issue.eq(splitter.o.valid & ~halted & allowed & (~ar.valid | ar.ready)),
            splitter.o.ready.eq(issue),
            write.data.eq(splitter.o.p.final),
            write.en.eq(issue),
        ]
        m.d.sync += [
            allowed.eq((free >= BURST_BEATS) & (open_bursts < bursts)),
            issued.eq(issue),
            asked.eq(Mux(issue, splitter.o.p.beats, 0)),
            ended.eq(self.axi.r.valid & self.axi.r.p.last),
            open_bursts.eq(open_bursts + Mux(issued == ended, 0, Mux(ended, -1, 1))),
        ]
        with m.If(issue):
            m.d.sync += [ar.p.addr.eq(splitter.o.p.address), ar.p.len.eq(splitter.o.p.beats - 1), ar.valid.eq(1)]
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.Elif(ar.ready):
            m.d.sync += ar.valid.eq(0)
        with m.If(ended):
            m.d.sync += self._final.addr.eq(self._final.addr + 1)
        with m.If(fresh):
            m.d.sync += [open_bursts.eq(0), write.addr.eq(0), self._final.addr.eq(0)]
        return splitter

    def _arrivals(self, m: Module, beats: BeatFifo, halted, arrived) -> Signal:
        """Beats are registered, then stored. Returns whether the registered one has failed."""
        r = self.axi.r
        beat, last, good, bad = Signal(DATA_BITS), Signal(), Signal(), Signal()
        m.d.comb += [r.ready.eq(1), beats.write.eq(good & ~halted), beats.data.eq(Cat(beat, last & self._final.data))]
        m.d.sync += [
            arrived.eq(r.valid),
            beat.eq(r.p.data),
            last.eq(r.p.last),
            good.eq(r.valid & (r.p.resp == OKAY)),
            bad.eq(r.valid & (r.p.resp != OKAY)),
        ]
        return bad
