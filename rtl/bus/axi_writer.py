"""Writes runs of beats to memory over AXI4."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BURST_BEATS, OKAY, REQUEST, WRITE_BEAT, AxiWrite
from rtl.bus.burst import BurstSplitter
from rtl.errors import InputError

#: From a request to the first beat taken; from the last response to ``done``: cycles.
REQUEST_LATENCY, DONE_LATENCY = 6, 2


@dataclass(frozen=True, kw_only=True)
class AxiWriterConfig:
    """
    Parameters
    ----------
    bursts : bursts without a response that may be outstanding, at least 2
    """

    bursts: int = 8

    def __post_init__(self) -> None:
        if self.bursts < 2:
            raise InputError(f"bursts must be at least 2: {self.bursts} is not; use 8")

    def build(self) -> AxiWriter:
        return AxiWriter(self)


class AxiWriter(wiring.Component):
    """Turns one request at a time into bursts, and ends it with a ``done`` pulse when memory has answered the last of them.

    A request is cut at multiples of 256 bytes. Beats are taken from ``i`` only for a burst whose address is already offered.
    A request of no beats is done in a few cycles.

    A response other than OKAY sets ``error`` until ``clear``: requests, new bursts and input stop. Bursts whose address was issued are
    completed with all strobes zero, so nothing more is written, and their responses are awaited. ``clear`` may be pulsed at any time: it
    drops the request in the same manner, and the writer takes requests again when the last response has arrived. A dropped request is
    never done.

    Members
    -------
    i_request : In(stream of {address: 40, beats: 24})
    i : In(stream of {data: 128, strobe: 16})
    axi : Out(AxiWrite)
    clear : In(1)
    done : Out(1), pulse
    error : Out(1), sticky
    idle : Out(1); no request in progress and nothing outstanding on the bus

    Timing
    ------
    Request taken in cycle t: ``aw.valid`` in t + 5; first beat taken from ``i`` in t + 6 at the earliest, on ``w`` one cycle later.
    One beat per cycle within a request; the data of at most two bursts is owed. ``done`` is high two cycles after the last response was
    taken; the next request can be taken one cycle later. ``error`` rises the cycle after the response that failed.

    Raises
    ------
    InputError : from the configuration
    """

    def __init__(self, config: AxiWriterConfig = AxiWriterConfig()) -> None:
        self.config = config
        super().__init__(
            {
                "i_request": In(stream.Signature(REQUEST)),
                "i": In(stream.Signature(WRITE_BEAT)),
                "axi": Out(AxiWrite()),
                "clear": In(1),
                "done": Out(1),
                "error": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        aw, b = self.axi.aw, self.axi.b
        splitter = m.submodules.splitter = BurstSplitter()
        busy = Signal()
        draining = Signal()  # after clear, until nothing is outstanding
        halted = Signal()  # draining, or an error
        issue, issued, allowed = Signal(), Signal(), Signal()
        outstanding = Signal(range(self.config.bursts + 1))  # bursts asked for without a response
        waiting = Signal()  # a burst's data comes after that of the one at work
        silent, drained, finished = Signal(), Signal(), Signal()
        m.d.comb += [
            b.ready.eq(1),
            silent.eq(~issued & (outstanding == 0)),
            self.done.eq(finished),
            # Requests
            splitter.i_request.payload.eq(self.i_request.payload),
            splitter.i_request.valid.eq(self.i_request.valid & ~busy),  # dropped while halted
            self.i_request.ready.eq(~busy & ~halted),
            splitter.stop.eq(halted),
            # Bursts: the next one comes `CYCLES` later, when this one is counted
            issue.eq(splitter.o.valid & ~halted & allowed & (~aw.valid | aw.ready)),
            splitter.o.ready.eq(issue),
            self.idle.eq(~busy & silent & ~draining),
        ]
        m.d.sync += [
            allowed.eq((outstanding != self.config.bursts) & ~waiting),
            issued.eq(issue),
            outstanding.eq(outstanding + Mux(issued == b.valid, 0, Mux(b.valid, -1, 1))),
            finished.eq(busy & ~splitter.busy & silent & ~(finished | halted | self.clear)),
            drained.eq(draining & silent & ~drained),
            busy.eq((busy | self.i_request.valid) & ~(finished | halted)),
        ]
        with m.If(issue):
            m.d.sync += [aw.p.addr.eq(splitter.o.p.address), aw.p.len.eq(splitter.o.p.beats - 1), aw.valid.eq(1)]
        with m.Elif(aw.ready):
            m.d.sync += aw.valid.eq(0)

        working = self._elaborate_data(m, splitter.o.p.beats, issue, waiting, halted)
        failed = b.valid & (b.p.resp != OKAY) & ~draining
        m.d.sync += [
            draining.eq(self.clear | (draining & ~drained)),
            halted.eq(self.clear | failed | (halted & ~drained)),
            self.error.eq(~self.clear & (failed | self.error)),
        ]
        counts = {"outstanding": outstanding + issued, "open": working + waiting, "overrun": issue & waiting}
        states = ~(self.error & draining), halted == (self.error | draining), ~drained | (draining & silent)
        laws = *states, ~allowed | ~waiting | issued, ~waiting | working | issued
        self.observed = {**counts, "part": splitter.o, "laws": laws}  # for proofs
        return m

    def _elaborate_data(self, m: Module, beats, issue: Signal, waiting: Signal, halted: Signal) -> Signal:
        """The burst whose data is sent, and the one that waits. Returns whether there is one at work."""
        w = self.axi.w
        working, last, next_last = Signal(), Signal(), Signal()
        left, next_left = Signal(range(BURST_BEATS)), Signal(range(BURST_BEATS))  # beats after this one
        move, renew, vacant = Signal(), Signal(), Signal()
        m.d.comb += [
            vacant.eq(working & (~w.valid | w.ready)),
            self.i.ready.eq(vacant & ~halted),
            move.eq(vacant & (self.i.valid | halted)),
            renew.eq(~working | (move & last)),
        ]
        m.d.sync += [working.eq(waiting | ~renew), waiting.eq(issue | (waiting & ~renew))]
        with m.If(issue):
            m.d.sync += [next_left.eq(beats - 1), next_last.eq(beats == 1)]
        with m.If(move):
            m.d.sync += [
                w.p.data.eq(self.i.p.data),
                w.p.strb.eq(Mux(halted, 0, self.i.p.strobe)),
                w.p.last.eq(last),
                w.valid.eq(1),
                left.eq(left - 1),
                last.eq(left == 1),
            ]
        with m.Elif(w.ready):
            m.d.sync += w.valid.eq(0)
        with m.If(renew):
            m.d.sync += [left.eq(next_left), last.eq(next_last)]
        return working
