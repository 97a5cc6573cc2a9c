"""What the dot products ask of a technology: tables and adders. `generic` and `ultrascale` provide it; a new device family is one class."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Module, Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.shapes import GROUP, table_shape
from rtl.tech.table_layout import TableLayout


class Technology(Protocol):
    """Builds combinational adders into a module, and whole table banks. All technologies give the same bits in the same cycle."""

    name: str

    def layout(self, inputs: int, bits: int) -> TableLayout:
        """The cheapest layout of the tables."""
        ...

    def tables(self, layout: TableLayout) -> wiring.Component:
        """A component with `table_members`."""
        ...

    def table(self, m: Module, values: list[int], index: Value) -> Value:
        """``values[index]`` of 2**len(index) <= 64 constants."""
        ...

    def add(self, m: Module, terms: list[Value], shape: Shape) -> Value:
        """Sum of two or three unsigned terms, which `shape` holds."""
        ...

    def add_masked(self, m: Module, first: tuple[Value, Value], second: tuple[Value, Value], shape: Shape) -> Value:
        """Sum of two (value, enable) pairs, each counted if enabled."""
        ...


def table_members(layout: TableLayout) -> dict:
    """Ports of a table bank, whatever it is made of.

    weights, bank : which entry of every table to read        o : the entries, one cycle later
    data, bank_entry, enable, enable_shared : as `rtl.arith.table_writer.TableWriter` drives them; written at the end of the cycle
    """
    return {
        "weights": In(layout.inputs),
        "bank": In(1),
        "data": In(data.ArrayLayout(table_shape(layout.bits), len(layout.lanes))),
        "bank_entry": In(GROUP + 1),
        "enable": In(layout.chunks),
        "enable_shared": In(layout.chunks),
        "o": Out(data.ArrayLayout(table_shape(layout.bits), layout.groups)),
    }
