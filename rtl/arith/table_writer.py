"""Turns chunks of activations into table entries: one entry of every table of the chunk per cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.shapes import CHUNK, GROUP, activation_maximum, table_shape, unsigned_for
from rtl.tech.table_layout import TableLayout
from rtl.tech.technology import Technology


class TableGenerator(wiring.Component):
    """``o = sum(i[k] for k where bit k of entry is set)``, two cycles later.

    Parameters
    ----------
    bits : width of an activation
    technology : builds the adders: ``add`` and ``add_masked(m, (a, enable_a), (b, enable_b), shape)``

    Members
    -------
    i, entry, o : the activations of one group, which of them to add, their sum
    """

    latency = 2

    def __init__(self, *, bits: int, technology: Technology):
        self.bits, self.technology = bits, technology
        super().__init__({"i": In(data.ArrayLayout(bits, GROUP)), "entry": In(GROUP), "o": Out(table_shape(bits))})

    def elaborate(self, platform):
        m = Module()
        pair_shape = unsigned_for(2 * activation_maximum(self.bits))
        pairs = [Signal(pair_shape, name=f"pair_{index}", reset_less=True) for index in range(2)]
        for index, pair in enumerate(pairs):
            masked = [(self.i[k], self.entry[k]) for k in (2 * index, 2 * index + 1)]
            m.d.sync += pair.eq(self.technology.add_masked(m, *masked, pair_shape))
        total = Signal(self.o.shape(), reset_less=True)
        m.d.sync += total.eq(self.technology.add(m, pairs, total.shape()))
        m.d.comb += self.o.eq(total)
        return m


class TableWriter(wiring.Component):
    """Holds the last chunk and steps through its entries 0 .. ENTRIES-1, then stays at the last one.

    Staying repeats the last write with the same value, which changes nothing and spares a gate in front of every write enable.

    Parameters
    ----------
    layout : which generators exist and which chunks they serve
    technology : see `TableGenerator`

    Members
    -------
    full, chunk, opening, bank : from the `ChunkCollector`
    data : per generator, an entry            bank_entry : its write address, ``{bank, entry}``
    enable : one-hot, the chunk that is written
    enable_shared : element c is high while chunk c or c + 1 is written (for RAMs that straddle both)
    last : high once the last entry of the held chunk has been started

    Timing
    ------
    `full` in cycle c: entry e of the chunk is on `data` in cycle c + 3 + e; `last` from cycle c + ENTRIES on.
    """

    def __init__(self, *, layout: TableLayout, technology: Technology):
        self.layout, self.technology = layout, technology
        super().__init__(
            {
                "full": In(1),
                "chunk": In(data.ArrayLayout(layout.bits, CHUNK)),
                "opening": In(1),
                "bank": In(1),
                "data": Out(data.ArrayLayout(table_shape(layout.bits), len(layout.lanes))),
                "bank_entry": Out(GROUP + 1),
                "enable": Out(layout.chunks),
                "enable_shared": Out(layout.chunks),
                "last": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entry, bank, odd = Signal(GROUP), Signal(), Signal(init=1)
        begins, opens = Signal(), Signal()  # first cycle of a held chunk
        odd_next = ~odd & ~self.opening
        m.d.sync += self.last.eq(entry[1:].all() & ~self.full)  # registered: high exactly while `entry` is ENTRIES - 1
        m.d.sync += [begins.eq(self.full), opens.eq(self.full & self.opening)]
        with m.If(self.full):
            m.d.sync += [entry.eq(0), bank.eq(self.bank), odd.eq(odd_next)]
        with m.Elif(~self.last):
            m.d.sync += entry.eq(entry + 1)
        for index, lane in enumerate(self.layout.lanes):
            generator = TableGenerator(bits=self.layout.bits, technology=self.technology)
            m.submodules[f"generator_{index}"] = generator
            held = Signal(generator.i.shape(), name=f"held_{index}", reset_less=True)
            m.d.comb += [generator.i.eq(held), generator.entry.eq(entry), self.data[index].eq(generator.o)]
            mine = 1 if lane.parity is None else (odd_next == lane.parity)
            with m.If(self.full & mine):
                m.d.sync += [held[k].eq(self.chunk[lane.slot * GROUP + k]) for k in range(GROUP)]
        self._address(m, entry, bank, begins, opens)
        return m

    def _address(self, m, entry, bank, begins, opens):
        """Address and enables, as late as the generators' data."""
        early = Signal(GROUP + 1)
        begins_late, opens_late, second = Signal(), Signal(), Signal()
        m.d.sync += [early.eq(entry | (bank << GROUP)), self.bank_entry.eq(early)]
        m.d.sync += [begins_late.eq(begins), opens_late.eq(opens)]
        with m.If(begins_late):
            m.d.sync += [
                second.eq(opens_late),
                self.enable.eq((self.enable << 1)[: self.layout.chunks]),
                self.enable_shared.eq((self.enable_shared << 1)[: self.layout.chunks] | second),
            ]
        with m.If(opens_late):  # implies begins_late; written last, so that it becomes the reset pin of these registers
            m.d.sync += [self.enable.eq(1), self.enable_shared.eq(1)]
