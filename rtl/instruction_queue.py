"""One in-order queue of instructions, and the gate that holds its head back until the counters say so."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.program.instruction import COUNTERS, HEADER, INSTRUCTION_BYTES, PAYLOAD_OFFSET, WAITS
from rtl.transfer import Instruction

#: Instructions that a queue holds, besides its head.
QUEUE_DEPTH = 32
#: From a push to the offer; at most, from a counter's value to the offer; between two instructions: cycles.
OFFER_LATENCY, WAIT_LATENCY, INSTRUCTION_CYCLES = 8, 6, 7
#: The waits are looked at in turn: on average a cycle sooner than at most.
MEAN_WAIT = WAIT_LATENCY - 1

_HEADER = data.StructLayout(dict(HEADER))
_WAIT_BITS = 4 + 16
Counters = data.ArrayLayout(16, COUNTERS)
#: What a queue's head waits for, for the watchdog. ``wait``: which of its three waits is short.
Blocked = data.StructLayout({"waiting": 1, "wait": 2, "opcode": 4, "counter": 4, "have": 16, "want": 16})


def _select(words: list[Value], index: Value) -> Value:
    """One of 2 ** n words as a tree of multiplexers: two levels of LUTs for 16, where a decoded choice takes three."""
    if len(words) == 1:
        return words[0]
    half = len(words) // 2
    return Mux(index[-1], _select(words[half:], index[:-1]), _select(words[:half], index[:-1]))


class InstructionQueue(wiring.Component):
    """Holds instructions and offers the first one when its three waits hold.

    Counters only grow, so a "not yet" may be late and a "yes" stays true: the waits are checked in turn, one a cycle, in three registered
    steps (choose the wait, choose its counter, compare).

    Parameters
    ----------
    payload_bits : payload bits that are kept; those above are offered as 0

    Members
    -------
    word, push : an instruction to keep; only when ``room``        room : registers with space, one push behind
    counters : all counters
    o : stream of {opcode, payload, post}; valid and payload come from registers        blocked : see `Blocked`; registers

    Timing
    ------
    Push in cycle t: offered in t + 8 if the waits hold. A counter that reaches its value in t: offered by t + 6.
    One instruction per 7 cycles. At most two LUT levels and one carry chain from register to register.
    """

    def __init__(self, payload_bits: int):
        self.payload_bits = payload_bits
        super().__init__(
            {
                "word": In(8 * INSTRUCTION_BYTES),
                "push": In(1),
                "room": Out(1),
                "counters": In(Counters),
                "o": Out(stream.Signature(Instruction)),
                "blocked": Out(Blocked),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head = Signal(PAYLOAD_OFFSET + self.payload_bits, reset_less=True)
        loaded = Signal()
        self._store(m, head, loaded)
        header = data.View(_HEADER, head[: _HEADER.size])
        self._check(m, header, loaded)
        m.d.comb += [
            self.o.payload.opcode.eq(header.opcode),
            self.o.payload.payload.eq(head[PAYLOAD_OFFSET:]),
            self.o.payload.post.enable.eq(header.post_enable),
            self.o.payload.post.counter.eq(header.post_counter),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [loaded.eq(0), self.o.valid.eq(0)]
        return m

    def _store(self, m, head, loaded):
        """The queue's memory, and the register that its first instruction moves to."""
        level, filled = Signal(range(QUEUE_DEPTH + 1)), Signal()
        write_at, read_at = Signal(range(QUEUE_DEPTH)), Signal(range(QUEUE_DEPTH))
        m.submodules.memory = memory = Memory(shape=len(head), depth=QUEUE_DEPTH, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        pop = Signal()
        m.d.comb += [
            write.addr.eq(write_at),
            write.data.eq(self.word),
            write.en.eq(self.push),
            read.addr.eq(read_at),
            pop.eq(filled & ~loaded),
            self.room.eq(~level[-1]),
        ]
        m.d.sync += [filled.eq((level != 0) & ~pop), level.eq(level + self.push - pop)]
        with m.If(self.push):
            m.d.sync += write_at.eq(write_at + 1)
        with m.If(pop):
            m.d.sync += [read_at.eq(read_at + 1), head.eq(read.data), loaded.eq(1)]

    def _check(self, m, header, loaded):
        """Checks the waits in turn. ``met`` remembers which hold."""
        chosen, compared = Signal(2), Signal(2)
        counter, have = Signal(4), Signal(16)
        want_0, want_1, counter_1 = Signal(16), Signal(16), Signal(4)
        fresh, met, short = Signal(2), Signal(3), Signal(3)
        turn = Signal(2)
        enough = Signal()
        with m.Switch(turn):
            for wait in range(WAITS):
                with m.Case(wait):
                    m.d.sync += [counter.eq(header[f"wait{wait}_counter"]), want_0.eq(header[f"wait{wait}_value"])]
        m.d.comb += enough.eq(have >= want_1)
        m.d.sync += [
            turn.eq(Mux(turn == WAITS - 1, 0, turn + 1)),
            fresh.eq(Mux(loaded, Cat(1, fresh[0]), 0)),
            chosen.eq(turn),
            have.eq(_select([self.counters[index] for index in range(COUNTERS)], counter)),
            want_1.eq(want_0),
            counter_1.eq(counter),
            compared.eq(chosen),
        ]
        for wait in range(WAITS):
            with m.If(fresh[1] & (compared == wait)):
                m.d.sync += [met[wait].eq(enough), short[wait].eq(~enough)]
        with m.If(fresh[1] & ~enough):
            m.d.sync += [
                self.blocked.wait.eq(compared),
                self.blocked.counter.eq(counter_1),
                self.blocked.have.eq(have),
                self.blocked.want.eq(want_1),
            ]
        with m.If(met.all() & loaded):
            m.d.sync += self.o.valid.eq(1)
        with m.If(~loaded | (self.o.valid & self.o.ready)):
            m.d.sync += [met.eq(0), short.eq(0), fresh.eq(0)]
        m.d.sync += self.blocked.waiting.eq(short.any())
        m.d.comb += self.blocked.opcode.eq(header.opcode)
