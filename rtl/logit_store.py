"""STORE: the logits of an image slot, eight to a beat, to memory."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEATS_BITS, REQUEST, WRITE_BEAT
from rtl.logit_memory import BANKS, BEAT_ADDRESS_BITS

StoreJob = data.StructLayout({"address": 40, "beats": BEATS_BITS, "items": 16, "image": 1})


class LogitStore(wiring.Component):
    """Reads beats of logits and sends them; strobes cover what is there.

    Members
    -------
    start, job : begins; ``job`` is held until done        clear : abandons it
    o_write, o_beats, write_done : to and from the AXI writer
    logit_address : {beat of the image, image}        logits : what is there, one cycle later
    done : strobe, when memory has answered

    Timing
    ------
    4 cycles for a beat of eight logits, if the writer is ready.
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "job": In(StoreJob),
                "clear": In(1),
                "o_write": Out(stream.Signature(REQUEST)),
                "o_beats": Out(stream.Signature(WRITE_BEAT)),
                "write_done": In(1),
                "logit_address": Out(BEAT_ADDRESS_BITS),
                "logits": In(16 * BANKS),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat, left, more = Signal(BEAT_ADDRESS_BITS - 1), Signal(16), Signal()
        m.d.comb += [
            self.o_write.payload.address.eq(self.job.address),
            self.o_write.payload.beats.eq(self.job.beats),
            self.logit_address.eq(Cat(beat, self.job.image)),
        ]
        m.d.sync += [more.eq(left > BANKS), self.done.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [beat.eq(0), left.eq(self.job.items)]
                with m.If(self.start & ~self.clear):
                    m.d.sync += self.o_write.valid.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [
                    self.o_beats.payload.data.eq(self.logits),
                    self.o_beats.payload.strobe.eq(Cat(more | (left > bank) for bank in range(BANKS) for _ in range(2))),
                    self.o_beats.valid.eq(1),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                with m.If(self.o_beats.ready):
                    m.d.sync += [self.o_beats.valid.eq(0), beat.eq(beat + 1), left.eq(left - BANKS)]
                    m.next = "WAIT"
                    with m.If(more):
                        m.next = "READ"
            with m.State("WAIT"):
                with m.If(self.write_done):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        with m.If(self.o_write.valid & self.o_write.ready):
            m.d.sync += self.o_write.valid.eq(0)
        return m
