"""Portable building blocks of the dot products: plain Amaranth, quick in Verilator, inferred by any synthesiser."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.utils import bits_for

from rtl.shapes import ENTRIES, GROUP, SLOTS, table_shape, wrap
from rtl.tech.table_layout import TableLayout
from rtl.tech.technology import table_members


class MemoryTables(wiring.Component):
    """One memory per group: 2 banks of ENTRIES words. A read in the cycle of a write to the same entry gives the old value."""

    def __init__(self, layout: TableLayout):
        self.layout = layout
        super().__init__(table_members(layout))

    def elaborate(self, platform):
        m = Module()
        for group in range(self.layout.groups):
            memory = Memory(shape=table_shape(self.layout.bits), depth=2 * ENTRIES, init=[])
            m.submodules[f"table_{group}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(Cat(self.weights[GROUP * group : GROUP * (group + 1)], self.bank)),
                self.o[group].eq(read.data),
                write.addr.eq(self.bank_entry),
                write.data.eq(self.data[self.layout.lane_of(group)]),
                write.en.eq(self.enable[group // SLOTS]),
            ]
        return m


class Generic:
    """The technology every tool understands."""

    name = "generic"

    def layout(self, inputs: int, bits: int) -> TableLayout:
        return TableLayout(inputs=inputs, bits=bits)

    def tables(self, layout: TableLayout) -> wiring.Component:
        return MemoryTables(layout)

    def table(self, m: Module, values: list[int], index: Value) -> Value:
        """``values[index]`` of 2**len(index) <= 64 constants."""
        columns = ([value >> bit & 1 for value in values] for bit in range(bits_for(max(values))))
        return Cat(Cat(Const(bit, 1) for bit in column).bit_select(index, 1) for column in columns)

    def add(self, m: Module, terms: list[Value], shape: Shape) -> Value:
        """Sum of two or three unsigned terms, which `shape` holds."""
        total = terms[0] + terms[1]
        return wrap(total + terms[2] if len(terms) > 2 else total, shape)

    def add_masked(self, m: Module, first: tuple[Value, Value], second: tuple[Value, Value], shape: Shape) -> Value:
        """Sum of two (value, enable) pairs, each counted if enabled."""
        return self.add(m, [Mux(enable, value, 0) for value, enable in (first, second)], shape)
