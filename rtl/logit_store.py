"""STORE: the logits of an image slot, packed eight to a beat, to memory."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEATS_BITS, REQUEST, WRITE_BEAT

LOGIT_ADDRESS_BITS = 13
StoreJob = data.StructLayout({"address": 40, "beats": BEATS_BITS, "items": 16, "image": 1})


class LogitStore(wiring.Component):
    """Reads logits one by one and sends them; strobes cover what is there.

    Members
    -------
    start, job : begins; ``job`` is held until done        clear : abandons it
    o_write, o_beats, write_done : to and from the AXI writer
    logit_address : {image, index}        logit : what is there, one cycle later
    done : strobe, when memory has answered

    Timing
    ------
    18 cycles for eight logits, if the writer is ready.
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
                "logit_address": Out(LOGIT_ADDRESS_BITS),
                "logit": In(16),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        index, left, lane = Signal(LOGIT_ADDRESS_BITS - 1), Signal(16), Signal(3)
        word, strobe = Signal(128), Signal(16)
        present = Signal()
        m.d.comb += [
            self.o_write.payload.address.eq(self.job.address),
            self.o_write.payload.beats.eq(self.job.beats),
            self.o_beats.payload.data.eq(word),
            self.o_beats.payload.strobe.eq(strobe),
            self.logit_address.eq(Cat(index, self.job.image)),
        ]
        m.d.sync += [present.eq(left != 0), self.done.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), lane.eq(0), left.eq(self.job.items)]
                with m.If(self.start & ~self.clear):
                    m.d.sync += self.o_write.valid.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.next = "PACK"
            with m.State("PACK"):
                m.d.sync += [
                    word.eq(Cat(word[16:], self.logit)),
                    strobe.eq(Cat(strobe[2:], present, present)),
                    index.eq(index + 1),
                    lane.eq(lane + 1),
                ]
                with m.If(present):
                    m.d.sync += left.eq(left - 1)
                m.next = "READ"
                with m.If(lane == 7):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.sync += self.o_beats.valid.eq(1)
                m.next = "SEND"
            with m.State("SEND"):
                with m.If(self.o_beats.ready):
                    m.d.sync += self.o_beats.valid.eq(0)
                    m.next = "WAIT"
                    with m.If(present):
                        m.next = "READ"
            with m.State("WAIT"):
                with m.If(self.write_done):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        with m.If(self.o_write.valid & self.o_write.ready):
            m.d.sync += self.o_write.valid.eq(0)
        return m
