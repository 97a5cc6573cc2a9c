"""Writes runs of beats to memory over AXI4."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BURST_BEATS, OKAY, REQUEST, WRITE_BEAT, AxiWrite
from rtl.bus.burst import BurstSplitter
from rtl.errors import InputError


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
    Request taken in cycle t: ``aw.valid`` in t + 5; first beat taken from ``i`` in t + 5 at the earliest, on ``w`` one cycle later.
    One beat per cycle within a request. ``done`` is high in the cycle after the last response was taken; the next request can be taken
    one cycle later. ``error`` rises the cycle after the response that failed.

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
        lengths = m.submodules.lengths = SyncFIFO(width=4, depth=self.config.bursts)  # of bursts that still need data

        busy = Signal()
        draining = Signal()  # after clear, until nothing is outstanding
        halted = Signal()
        issue = Signal()
        outstanding = Signal(range(self.config.bursts + 1))  # bursts asked for without a response
        finished = Signal()
        m.d.comb += [
            halted.eq(self.error | self.clear | draining),
            b.ready.eq(1),
            finished.eq(busy & ~splitter.busy & (outstanding == 0)),
            self.done.eq(finished & ~halted),
            # Requests
            splitter.i_request.payload.eq(self.i_request.payload),
            splitter.i_request.valid.eq(self.i_request.valid & self.i_request.ready),
            self.i_request.ready.eq(~busy & ~halted),
            splitter.stop.eq(halted),
            # Bursts
            issue.eq(splitter.o.valid & ~halted & (outstanding != self.config.bursts) & (~aw.valid | aw.ready)),
            splitter.o.ready.eq(issue),
            lengths.w_en.eq(issue),
            lengths.w_data.eq(splitter.o.p.beats - 1),
            self.idle.eq(~busy & (outstanding == 0) & ~draining),
        ]
        with m.If(issue):
            m.d.sync += [aw.p.addr.eq(splitter.o.p.address), aw.p.len.eq(splitter.o.p.beats - 1), aw.valid.eq(1)]
        with m.Elif(aw.ready):
            m.d.sync += aw.valid.eq(0)
        self.observed = {"outstanding": outstanding, "lengths": lengths, "part": splitter.o}  # for proofs
        m.d.sync += outstanding.eq(outstanding + issue - b.valid)

        self._elaborate_data(m, lengths, halted)
        with m.If(self.i_request.valid & self.i_request.ready):
            m.d.sync += busy.eq(1)
        with m.If(finished | halted):
            m.d.sync += busy.eq(0)
        with m.If(b.valid & (b.p.resp != OKAY) & ~draining):
            m.d.sync += self.error.eq(1)
        with m.If(draining & (outstanding == 0)):
            m.d.sync += draining.eq(0)
        with m.If(self.clear):
            m.d.sync += [draining.eq(1), self.error.eq(0)]
        return m

    def _elaborate_data(self, m: Module, lengths: SyncFIFO, halted: Signal) -> None:
        w = self.axi.w
        count = Signal(range(BURST_BEATS))  # beats of the burst that went to the register
        last = Signal()
        move = Signal()
        vacant = Signal()
        m.d.comb += [
            vacant.eq(lengths.r_rdy & (~w.valid | w.ready)),
            self.i.ready.eq(vacant & ~halted),
            move.eq(vacant & (self.i.valid | halted)),
            last.eq(count == lengths.r_data),
            lengths.r_en.eq(move & last),
        ]
        with m.If(move):
            m.d.sync += [
                w.p.data.eq(self.i.p.data),
                w.p.strb.eq(Mux(halted, 0, self.i.p.strobe)),
                w.p.last.eq(last),
                w.valid.eq(1),
                count.eq(Mux(last, 0, count + 1)),
            ]
        with m.Elif(w.ready):
            m.d.sync += w.valid.eq(0)
