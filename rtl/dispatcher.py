"""Fetches the program and deals it to three in-order queues, each held back by the counters that its next instruction waits for."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from rtl.array_sequencer import Post
from rtl.bus.axi import BEAT, REQUEST
from rtl.dma_engine import Window
from rtl.program import isa

QUEUE_DEPTH = 32

_HEADER = data.StructLayout(dict(isa.HEADER))

Instruction = data.StructLayout({"opcode": 4, "payload": 192, "post": Post})
#: What a queue waits for: reported by the watchdog.
Blocked = data.StructLayout({"waiting": 1, "opcode": 4, "counter": 4, "have": 16, "want": 16})

QUEUE_OF = {
    isa.Opcode.LOAD: 0,
    isa.Opcode.STORE: 0,
    isa.Opcode.END: 0,
    isa.Opcode.TILE: 1,
    isa.Opcode.ATTEND: 2,
}


class Dispatcher(wiring.Component):
    """Program fetch, queues and counters.

    Members
    -------
    start : begins at the program window's base        clear : empties everything
    program : window        o_read, i_beats : to and from the program's AXI reader
    o_0, o_1, o_2 : DMA, ARRAY and ATTEND instructions whose waits are satisfied
    blocked_0, blocked_1, blocked_2 : what each queue's head waits for
    post_0, post_1, post_2 : counter increments from the three engines
    bad_instruction, overflow : sticky until clear        fetched : strobe per instruction        index : instructions fetched

    Timing
    ------
    One instruction per two beats. An instruction is offered in the cycle after its last wait is satisfied.
    """

    def __init__(self):
        members = {
            "start": In(1),
            "clear": In(1),
            "program": In(Window),
            "o_read": Out(stream.Signature(REQUEST)),
            "i_beats": In(stream.Signature(BEAT)),
            "bad_instruction": Out(1),
            "overflow": Out(1),
            "fetched": Out(1),
            "index": Out(16),
        }
        for number in range(3):
            members[f"o_{number}"] = Out(stream.Signature(Instruction))
            members[f"blocked_{number}"] = Out(Blocked)
            members[f"post_{number}"] = In(Post)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        counters = self._counters(m)
        word, word_valid, accept = self._fetch(m)
        opcode = data.View(_HEADER, word[: _HEADER.size]).opcode
        readies = []
        known = Signal()
        for number in range(3):
            queue = SyncFIFOBuffered(width=8 * isa.INSTRUCTION_BYTES, depth=QUEUE_DEPTH)
            m.submodules[f"queue_{number}"] = queue
            mine = Signal(name=f"mine_{number}")
            m.d.comb += [
                mine.eq(Cat(*(opcode == code for code, target in QUEUE_OF.items() if target == number)).any()),
                queue.w_data.eq(word),
                queue.w_en.eq(word_valid & mine),
            ]
            readies.append(mine & queue.w_rdy)
            with m.If(self.clear):
                m.d.comb += queue.r_en.eq(1)
            self._gate(m, number, queue, counters)
            with m.If(mine):
                m.d.comb += known.eq(1)
        m.d.comb += [accept.eq(Cat(*readies).any()), self.fetched.eq(word_valid & accept)]
        with m.If(word_valid & ~known):
            m.d.sync += self.bad_instruction.eq(1)
        with m.If(self.fetched):
            m.d.sync += self.index.eq(self.index + 1)
        with m.If(self.clear):
            m.d.sync += [self.bad_instruction.eq(0), self.index.eq(0)]
        return m

    def _fetch(self, m):
        """Assembles two beats to an instruction."""
        low, have_low, pending = Signal(128), Signal(), Signal()
        word, word_valid, accept = Signal(256), Signal(), Signal()
        m.d.comb += [
            self.o_read.payload.address.eq(self.program.base),
            self.o_read.payload.beats.eq(self.program.bytes >> 4),
            self.o_read.valid.eq(pending),
            word.eq(Cat(low, self.i_beats.payload.data)),
            word_valid.eq(self.i_beats.valid & have_low & ~self.clear),
            self.i_beats.ready.eq(~have_low | accept),
        ]
        with m.If(self.o_read.ready):
            m.d.sync += pending.eq(0)
        with m.If(self.start):
            m.d.sync += pending.eq(1)
        with m.If(self.i_beats.valid & self.i_beats.ready):
            m.d.sync += have_low.eq(~have_low)
            with m.If(~have_low):
                m.d.sync += low.eq(self.i_beats.payload.data)
        with m.If(self.clear):
            m.d.sync += [have_low.eq(0), pending.eq(0)]
        return word, word_valid, accept

    def _counters(self, m):
        counters = [Signal(16, name=f"counter_{index}") for index in range(isa.COUNTERS)]
        for index, counter in enumerate(counters):
            hits = [post.enable & (post.counter == index) for post in (self.post_0, self.post_1, self.post_2)]
            following = Signal(17, name=f"following_{index}")
            m.d.comb += following.eq(counter + (hits[0] + hits[1] + hits[2]))
            m.d.sync += counter.eq(following)
            with m.If(following[16]):
                m.d.sync += [counter.eq(counter), self.overflow.eq(1)]
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
        with m.If(self.clear):
            m.d.sync += self.overflow.eq(0)
        return Array(counters)

    def _gate(self, m, number, queue, counters):
        """Offers the queue's head when both its waits hold."""
        out, blocked = getattr(self, f"o_{number}"), getattr(self, f"blocked_{number}")
        header = data.View(_HEADER, queue.r_data[: _HEADER.size])
        have_0, have_1 = Signal(16, name=f"have_{number}_0"), Signal(16, name=f"have_{number}_1")
        short_0, short_1 = Signal(name=f"short_{number}_0"), Signal(name=f"short_{number}_1")
        m.d.comb += [
            have_0.eq(counters[header.wait0_counter]),
            have_1.eq(counters[header.wait1_counter]),
            short_0.eq(have_0 < header.wait0_value),
            short_1.eq(have_1 < header.wait1_value),
            out.payload.opcode.eq(header.opcode),
            out.payload.payload.eq(queue.r_data[isa.PAYLOAD_OFFSET :]),
            out.payload.post.enable.eq(header.post_enable),
            out.payload.post.counter.eq(header.post_counter),
            out.valid.eq(queue.r_rdy & ~short_0 & ~short_1 & ~self.clear),
            blocked.waiting.eq(queue.r_rdy & (short_0 | short_1)),
            blocked.opcode.eq(header.opcode),
            blocked.counter.eq(Mux(short_0, header.wait0_counter, header.wait1_counter)),
            blocked.have.eq(Mux(short_0, have_0, have_1)),
            blocked.want.eq(Mux(short_0, header.wait0_value, header.wait1_value)),
        ]
        with m.If(~self.clear):
            m.d.comb += queue.r_en.eq(out.valid & out.ready)
