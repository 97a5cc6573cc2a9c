"""One memory port's share of the weight stream: requests a run of slices, cuts the beats into them, and writes them down."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, DATA_BITS, REQUEST
from rtl.program.isa import weight_item_bits
from rtl.row_feeder import memory_write

#: ``items`` slices, in ``request.beats`` beats from ``request.address``, to addresses from ``place`` on.
Job = data.StructLayout({"request": REQUEST, "items": 16, "place": 16})


#: From a beat to the write of its (first) slice: cycles.
WRITE_LATENCY = 2


class SlicePort(wiring.Component):
    """Moves slices of ``inputs`` bits. The next job's request goes out while the current one's beats arrive.

    Parameters
    ----------
    inputs : bits of a slice; in memory it takes `weight_item_bits`

    Members
    -------
    i : stream of Job; ready from registers        o_read, i_beats : to and from the AXI reader
    write : {valid, address, data}        done : the write of this cycle is the last one of its job

    Timing
    ------
    Job taken in cycle t: request offered in t + 1. Beat taken in t: its (first) slice is written in t + 2.
    A beat per cycle, or a slice per cycle if a beat holds several; no gap between jobs, but one cycle after each if a beat holds several.
    """

    def __init__(self, inputs: int):
        self.inputs = inputs
        self.item_bits = weight_item_bits(inputs)
        super().__init__(
            {
                "i": In(stream.Signature(Job)),
                "o_read": Out(stream.Signature(REQUEST)),
                "i_beats": In(stream.Signature(BEAT)),
                "write": Out(memory_write(unsigned(inputs))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        item = Signal()  # a slice is complete in this cycle
        final = Signal()  # and it is the last one of its job
        active = Signal()
        self._jobs(m, item, final, active)
        if self.item_bits < DATA_BITS:
            self._cut(m, item, final, active)
        else:
            self._join(m, item)
        return m

    def _jobs(self, m, item, final, active):
        """The job at work, and the next one."""
        taken, waiting, single = Signal(), Signal(), Signal(reset_less=True)  # a job just came; it may begin; it is one slice
        items, place = Signal(16), Signal(16)
        beyond, left = Signal(17, reset_less=True), Signal(17)  # slices after the next one, less one: below zero if the next is the last
        address = Signal(16)
        take, move, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            take.eq(self.i.valid & self.i.ready),
            ends.eq(item & final),
            move.eq(waiting & (~active | ends)),
        ]
        m.d.sync += [
            self.i.ready.eq(~(waiting | taken | self.o_read.valid | take)),
            self.o_read.valid.eq(take | (self.o_read.valid & ~self.o_read.ready)),
            taken.eq(take),
            waiting.eq(taken | (waiting & ~move)),
            beyond.eq(items - 3),
            single.eq(items == 1),
            active.eq(move | (active & ~ends)),
            self.write.valid.eq(item),
            self.write.address.eq(address),
            self.done.eq(ends),
        ]
        with m.If(take):
            job = self.i.payload
            m.d.sync += [self.o_read.payload.eq(job.request), items.eq(job.items), place.eq(job.place)]
        with m.If(item):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1), final.eq(left[-1])]
        with m.If(move):
            m.d.sync += [left.eq(beyond), address.eq(place), final.eq(single)]

    def _join(self, m, item):
        """Several beats to a slice, or one. Beats come in order and only for jobs that were taken long before: no need to hold them."""
        beats = self.item_bits // DATA_BITS
        phase = Signal(beats, init=1)  # one bit per beat of a slice
        m.d.comb += self.i_beats.ready.eq(1)
        word = Signal(self.item_bits)
        m.d.sync += [item.eq(self.i_beats.valid & phase[-1]), self.write.data.eq(word)]
        with m.If(self.i_beats.valid):
            m.d.sync += [word.eq(Cat(word[DATA_BITS:], self.i_beats.payload.data)), phase.eq(phase.rotate_left(1))]

    def _cut(self, m, item, final, active):
        """Several slices to a beat; what is left of a job's last beat is dropped."""
        count = DATA_BITS // self.item_bits
        rest, last = Signal(count - 1), Signal()  # a one per slice after this one
        held, have = Signal(DATA_BITS), Signal()
        load = Signal()
        m.d.comb += [
            last.eq(~rest[0]),
            item.eq(have),
            self.i_beats.ready.eq(active & (~have | (last & ~final))),
            load.eq(self.i_beats.ready & self.i_beats.valid),
        ]
        m.d.sync += [
            self.write.data.eq(held),
            have.eq(load | (have & ~last & ~final)),
            rest.eq(Mux(load, (1 << count - 1) - 1, rest >> 1)),
            held.eq(Mux(load, self.i_beats.payload.data, held >> self.item_bits)),
        ]
