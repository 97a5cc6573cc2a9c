"""STORE: the logits of an image slot, eight to a beat, to memory."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEATS_BITS, REQUEST, WRITE_BEAT
from rtl.logit_memory import BANK_BITS, BANKS, BEAT_ADDRESS_BITS

#: Of a beat of eight logits.
BEAT_CYCLES = 3
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
    3 cycles for a beat of eight logits, if the writer is ready.
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
        beat, left, last = Signal(BEAT_ADDRESS_BITS - 1), Signal(BEATS_BITS + 1), Signal()  # left: beats after this one, less one
        idle, read, take, send, wait = Signal(init=1), Signal(), Signal(), Signal(), Signal()  # a flip-flop per state
        start, sent, ends = Signal(), Signal(), Signal(BANKS)
        items = self.job.items[:BANK_BITS]
        m.d.comb += [
            self.o_write.payload.address.eq(self.job.address),
            self.o_write.payload.beats.eq(self.job.beats),
            self.logit_address.eq(Cat(beat, self.job.image)),
            self.o_beats.valid.eq(send),
            start.eq(idle & self.start & ~self.clear),
            sent.eq(send & self.o_beats.ready),
            last.eq(left[-1]),
        ]
        m.d.sync += [
            ends.eq(Cat(*((items == 0) | (items > bank) for bank in range(BANKS - 1)), items == 0)),  # what the last beat holds
            idle.eq((idle & ~start) | (wait & self.write_done)),
            read.eq(start | (sent & ~last)),
            take.eq(read),
            send.eq(take | (send & ~self.o_beats.ready)),
            wait.eq((sent & last) | (wait & ~self.write_done)),
            self.done.eq(wait & self.write_done),
            self.o_write.valid.eq(start | (self.o_write.valid & ~self.o_write.ready)),
        ]
        with m.If(idle):
            m.d.sync += [beat.eq(0), left.eq(self.job.beats - 2)]
        with m.If(sent):
            m.d.sync += [beat.eq(beat + 1), left.eq(left - 1)]
        with m.If(take):
            strobe = Cat(bank.replicate(2) for bank in ends | ~last.replicate(BANKS))
            m.d.sync += [self.o_beats.payload.data.eq(self.logits), self.o_beats.payload.strobe.eq(strobe)]
        return m
