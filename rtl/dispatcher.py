"""Fetches the program and deals it to in-order queues, each held back by the counters that its next instruction waits for."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, REQUEST
from rtl.instruction_queue import QUEUE_DEPTH, Blocked, Counters, InstructionQueue
from rtl.program import instruction
from rtl.transfer import Instruction, Window

__all__ = ["QUEUE_DEPTH", "Blocked", "Dispatcher", "Instruction"]

_HEADER = data.StructLayout(dict(instruction.HEADER))
#: Between two instructions that are dealt; from a post's strobe to the counter: cycles.
DEAL_CYCLES, POST_LATENCY = 4, 3


class Dispatcher(wiring.Component):
    """Program fetch, queues and counters.

    Parameters
    ----------
    instructions : the family's `rtl.program.instruction.Instruction`: what opcodes there are, and which queue takes them
    extra_posts : engines that post to more than one counter need more ports than there are queues

    Members
    -------
    start : begins at the program window's base        clear : empties everything
    program : window        o_read, i_beats : to and from the program's AXI reader
    o_<queue> : instructions whose waits hold
    blocked_<queue> : what each queue's head waits for
    post_<queue> and on : counter increments from the engines
    bad_instruction, overflow : sticky until clear        fetched : strobe per instruction        index : instructions fetched

    Timing
    ------
    DeiT's five queues: 1,364 LUT, 2,116 FF; at most two LUT levels and one carry chain from register to register (`rtl.flow.estimate`).
    One instruction per four cycles is dealt. For its way through a queue see `InstructionQueue`. A post counts after three cycles.
    """

    def __init__(self, instructions: type[instruction.Instruction], extra_posts: int = 0):
        self.instructions = instructions
        self.queues = instructions.queue_count()
        self.posts = self.queues + extra_posts
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
        for number in range(self.queues):
            members[f"o_{number}"] = Out(stream.Signature(Instruction))
            members[f"blocked_{number}"] = Out(Blocked)
        for number in range(self.posts):
            members[f"post_{number}"] = In(Post)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        word, go, target = Signal(256, reset_less=True), Signal(), Signal(self.queues)
        counters = self._counters(m)
        room = Signal(self.queues)
        for number in range(self.queues):
            m.submodules[f"queue_{number}"] = queue = InstructionQueue(self.instructions.payload_bits(number))
            wiring.connect(m, wiring.flipped(getattr(self, f"o_{number}")), queue.o)
            m.d.comb += [
                queue.word.eq(word),
                queue.push.eq(go & target[number]),
                queue.counters.eq(counters),
                getattr(self, f"blocked_{number}").eq(queue.blocked),
                room[number].eq(queue.room),
            ]
        self._request(m)
        self._fetch(m, word, go, target, room)
        m.d.comb += self.fetched.eq(go)
        with m.If(go):
            m.d.sync += self.index.eq(self.index + 1)
        return ResetInserter(self.clear)(m)

    def _request(self, m):
        """Asks for the whole program."""
        pending = Signal()
        m.d.comb += [
            self.o_read.payload.address.eq(self.program.base),
            self.o_read.payload.beats.eq(self.program.bytes >> 4),
            self.o_read.valid.eq(pending),
        ]
        with m.If(self.o_read.ready):
            m.d.sync += pending.eq(0)
        with m.If(self.start):
            m.d.sync += pending.eq(1)

    def _fetch(self, m, word, go, target, room):
        """Assembles two beats to an instruction; ``go`` hands it to the queues in ``target``."""
        halves, open_queue = Signal(2), Signal(self.queues)
        beat = self.i_beats.payload.data
        opcode = data.View(_HEADER, beat[: _HEADER.size]).opcode
        known = Signal()
        m.d.comb += self.i_beats.ready.eq(~halves[1])
        with m.If(self.i_beats.valid & ~halves[1]):
            m.d.sync += [halves.eq(Cat(1, halves[0])), word.eq(Cat(word[128:], beat))]
            with m.If(~halves[0]):
                m.d.sync += known.eq(Cat(opcode == code for code in self.instructions.queues).any())
                for number in range(self.queues):
                    mine = (opcode == code for code, queue in self.instructions.queues.items() if queue == number)
                    m.d.sync += target[number].eq(Cat(*mine).any())
        # Both are older than the second half: the target came with the first, the last push two cycles before that.
        m.d.sync += [open_queue.eq(target & room), go.eq(halves[1] & ~go & open_queue.any())]
        with m.If(halves[1] & ~known):
            m.d.sync += self.bad_instruction.eq(1)
        with m.If(go):
            m.d.sync += halves.eq(0)

    def _counters(self, m):
        """One counter per number. Posts are kept in one cycle, decoded in the next and added in the third."""
        counters = Signal(Counters)
        posts = [Signal(Post, name=f"posted_{number}") for number in range(self.posts)]
        m.d.sync += [post.eq(getattr(self, f"post_{number}")) for number, post in enumerate(posts)]
        overs = []
        ones = Array(Const(value.bit_count(), self.posts.bit_length()) for value in range(1 << self.posts))  # a table: no carry chains
        for index in range(instruction.COUNTERS):
            hits = Signal(self.posts, name=f"hits_{index}")
            following = Signal(17, name=f"following_{index}")
            over = Signal(name=f"over_{index}")
            m.d.sync += [hits.eq(Cat(post.enable & (post.counter == index) for post in posts)), over.eq(following[16])]
            m.d.comb += following.eq(counters[index] + ones[hits])
            m.d.sync += counters[index].eq(following)
            overs.append(over)
        m.d.sync += self.overflow.eq(self.overflow | Cat(overs).any())
        return counters
