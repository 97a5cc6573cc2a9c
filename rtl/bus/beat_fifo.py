"""A queue of beats in block memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
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
    write, data : In; a word to keep        stop : while high, nothing is kept        clear : takes back the offered word
    o : stream of words        empty : nothing is held        level : words held

    Timing
    ------
    Written in cycle t: offered in t + 3. A word per cycle. ``o`` comes from registers; ``o.ready`` may come from one LUT: what has to
    know at once whether a word leaves is only ``near``, at most three of the words; the others are counted apart.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__(
            {
                "write": In(1),
                "data": In(width),
                "clear": In(1),
                "stop": In(1),
                "o": Out(stream.Signature(width)),
                "empty": Out(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[], attrs={"ram_style": "block"})
        write, read = memory.write_port(), memory.read_port(domain="sync")
        write_at, read_at = Signal(range(self.depth)), Signal(range(self.depth))
        near, far, far_some = Signal(2), Signal(range(self.depth + 1)), Signal()  # words in the memory that were not read; is far not 0?
        many = Signal()  # four or more were far in the cycle before
        put, come = Signal(), Signal()  # a word is written far; one comes near
        fetched, stuck = Signal(), Signal(reset_less=True)  # a word waits at the memory's output; and one on ``o`` too
        fetch, valid = Signal(), Signal()
        some, flows, direct = Signal(), Signal(), Signal()  # near is not 0; what waits at the output moves; a word is written near
        (one, two), ready = near, self.o.ready
        m.d.comb += [
            write.addr.eq(write_at),
            write.data.eq(self.data),
            write.en.eq(self.write),
            read.addr.eq(read_at),
            read.en.eq(fetch),
            some.eq(near.any()),
            flows.eq(~stuck | ready),
            fetch.eq(some & flows),
            put.eq(self.write & two),
            direct.eq(self.write & ~two),
            come.eq(far_some & ~two),
            self.o.valid.eq(valid),
            self.level.eq(far + near + fetched + valid),
            self.empty.eq(~(some | far_some | fetched | valid)),
        ]
        stays = one & ~flows
        m.d.sync += [
            near.eq(Mux(two, Cat(one ^ flows, one | ~flows), stays + direct + come)),
            far.eq(far + Mux(put == come, 0, Mux(come, -1, 1))),
            many.eq(far[2:] != 0),
            far_some.eq(put | many | far[1] | far[2] | (far_some & ~come)),  # if far is 8 or more, it was more than 4 before
            fetched.eq(some | (stuck & ~ready)),
            valid.eq(fetched | (valid & ~ready)),
            stuck.eq(Mux(ready, fetched & some, (stuck & valid) | (some & (fetched | valid)))),
        ]
        with m.If(self.write):
            m.d.sync += write_at.eq(write_at + 1)
        with m.If(fetch):
            m.d.sync += read_at.eq(read_at + 1)
        with m.If(~valid | ready):
            m.d.sync += self.o.payload.eq(read.data)
        with m.If(self.stop):
            m.d.sync += [signal.eq(0) for signal in (near, far, many, far_some, fetched, write_at, read_at)]
        with m.If(self.clear):
            m.d.sync += valid.eq(0)
        if platform == "formal":
            laws = (
                far_some == (far != 0),
                self.stop | (stuck == (fetched & valid)),
                far <= self.depth,
                self.level <= self.depth,
                ~many | (far >= 3),
                many | (far < 8),
            )
            m.d.comb += [Assert(law) for law in laws]
        return m
