"""Reads runs of beats from memory over AXI4, many bursts in flight, never asking for more than it can store."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, BURST_BEATS, OKAY, REQUEST, AxiRead
from rtl.bus.burst import BurstSplitter
from rtl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AxiReaderConfig:
    """
    Parameters
    ----------
    depth : beats that may be outstanding or stored; a multiple of 16, at least 32
    bursts : bursts that may be outstanding, at least 2

    Full throughput needs a memory latency, from address to data, of at most depth - 19 and 16 * bursts - 17 cycles.
    """

    depth: int = 64
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
    Request taken in cycle t: first ``ar.valid`` in t + 2; then one burst per cycle. Beat taken from ``axi.r`` in t: on ``o`` in t + 2.
    One beat per cycle, also across bursts and requests, at memory latencies up to depth - 19 and 16 * bursts - 17 (bursts of 16).
    ``error`` rises the cycle after the beat that failed.

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
        ar, r = self.axi.ar, self.axi.r
        depth = self.config.depth
        flush = Signal()
        beats = SyncFIFOBuffered(width=BEAT.size, depth=depth + 1)  # one more, so that its memory is a power of two deep
        finals = SyncFIFO(width=1, depth=self.config.bursts)  # per outstanding burst: does it end its request?
        m.submodules.beats = ResetInserter(flush)(beats)
        m.submodules.finals = ResetInserter(flush)(finals)

        draining = Signal()  # after clear, until nothing is outstanding
        outstanding = Signal(range(depth + 1))  # beats asked for that have not arrived
        free = Signal(range(depth + 1), init=depth)  # beats neither outstanding nor stored
        halted = Signal()
        issue = Signal()
        arrive = Signal()
        deliver = Signal()
        splitter = m.submodules.splitter = BurstSplitter()
        m.d.comb += [
            flush.eq(self.clear | draining),
            halted.eq(self.error | flush),
            r.ready.eq(1),
            arrive.eq(r.valid),
            deliver.eq(self.o.valid & self.o.ready),
            # Requests
            splitter.i_request.payload.eq(self.i_request.payload),
            splitter.i_request.valid.eq(self.i_request.valid & ~halted),
            self.i_request.ready.eq(splitter.i_request.ready & ~halted),
            splitter.stop.eq(halted),
            # Bursts
            issue.eq(splitter.o.valid & ~halted & (free >= BURST_BEATS) & finals.w_rdy & (~ar.valid | ar.ready)),
            splitter.o.ready.eq(issue),
            finals.w_en.eq(issue),
            finals.w_data.eq(splitter.o.p.final),
            # Beats
            beats.w_en.eq(arrive & ~halted & (r.p.resp == OKAY)),
            beats.w_data.eq(Cat(r.p.data, r.p.last & finals.r_data)),
            finals.r_en.eq(arrive & r.p.last),
        ]
        with m.If(issue):
            m.d.sync += [ar.p.addr.eq(splitter.o.p.address), ar.p.len.eq(splitter.o.p.beats - 1), ar.valid.eq(1)]
        with m.Elif(ar.ready):
            m.d.sync += ar.valid.eq(0)
        asked = Mux(issue, splitter.o.p.beats, 0)
        self.observed = {"outstanding": outstanding, "free": free, "draining": draining, "beats": beats, "part": splitter.o}  # for proofs
        m.d.sync += [outstanding.eq(outstanding + asked - arrive), free.eq(free - asked + deliver)]

        self._elaborate_output(m, beats)
        with m.If(arrive & (r.p.resp != OKAY) & ~flush):
            m.d.sync += self.error.eq(1)
        with m.If(draining & (outstanding == 0)):
            m.d.sync += [draining.eq(0), free.eq(depth)]
        with m.If(self.clear):
            m.d.sync += [draining.eq(1), self.error.eq(0)]
        m.d.comb += self.idle.eq(~splitter.o.valid & (outstanding == 0) & ~flush & (self.error | (beats.level == 0)))
        return m

    def _elaborate_output(self, m: Module, beats: SyncFIFOBuffered) -> None:
        offered = Signal()  # the beat on the output was there in the previous cycle, so it has to stay
        m.d.comb += [
            self.o.payload.eq(beats.r_data),
            self.o.valid.eq(beats.r_rdy & (~self.error | offered)),
            beats.r_en.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += offered.eq(self.o.valid & ~self.o.ready & ~self.clear)
