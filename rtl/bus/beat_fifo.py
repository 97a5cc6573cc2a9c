"""A queue of beats in block memory."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.hdl import Assert
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class BeatFifo(wiring.Component):
    """Keeps what is written until it is taken. Nobody asks whether there is room: the writer knows.

    Parameters
    ----------
    width : bits        depth : a power of two; so many may be held

    Members
    -------
    write, data : In; a word to keep        clear : drops everything        o : stream of words        level : words held

    Timing
    ------
    Written in cycle t: offered in t + 3. A word per cycle. ``o`` comes from registers.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__(
            {
                "write": In(1),
                "data": In(width),
                "clear": In(1),
                "o": Out(stream.Signature(width)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[], attrs={"ram_style": "block"})
        write, read = memory.write_port(), memory.read_port(domain="sync")
        write_at, read_at = Signal(range(self.depth)), Signal(range(self.depth))
        inside, some = Signal(range(self.depth + 1)), Signal()  # words in the memory that were not read yet; whether there are any
        fetched, stuck = Signal(), Signal()  # a word waits at the memory's output; and one on ``o`` too
        fetch, move, valid = Signal(), Signal(), Signal()
        next_fetched, next_valid = Signal(), Signal()
        ready = self.o.ready
        m.d.comb += [
            write.addr.eq(write_at),
            write.data.eq(self.data),
            write.en.eq(self.write),
            read.addr.eq(read_at),
            read.en.eq(fetch),
            fetch.eq(some & (~stuck | ready)),
            move.eq(fetched & (~valid | ready)),
            next_fetched.eq(fetch | (fetched & ~move)),
            next_valid.eq(move | (valid & ~ready)),
            self.o.valid.eq(valid),
            self.level.eq(inside + fetched + valid),
        ]
        m.d.sync += [
            inside.eq(inside + self.write - fetch),
            some.eq(self.write | (inside >= 2) | (some & ~fetch)),
            fetched.eq(next_fetched),
            valid.eq(next_valid),
            stuck.eq(next_fetched & next_valid),
        ]
        with m.If(self.write):
            m.d.sync += write_at.eq(write_at + 1)
        with m.If(fetch):
            m.d.sync += read_at.eq(read_at + 1)
        with m.If(move):
            m.d.sync += self.o.payload.eq(read.data)
        with m.If(self.clear):
            m.d.sync += [signal.eq(0) for signal in (inside, some, fetched, valid, stuck, write_at, read_at)]
        if platform == "formal":
            held = inside + fetched + valid
            m.d.comb += [Assert(some == (inside != 0)), Assert(stuck == (fetched & valid)), Assert(held <= self.depth)]
        return m
