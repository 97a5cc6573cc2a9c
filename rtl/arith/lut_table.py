"""Dot products by lookup: activations make tables of their partial sums, weight bits address them, a tree adds the entries."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring

from rtl.arith.chunk_collector import ChunkCollector
from rtl.arith.dot_ports import delayed, dot_members, subtract
from rtl.arith.table_writer import TableWriter
from rtl.arith.ternary_tree import TernaryTree, tree_cost, tree_levels
from rtl.cost import Cost
from rtl.shapes import CHUNK, ENTRIES, GROUP, table_maximum, table_shape, total_shape
from rtl.tech.generic import Generic
from rtl.tech.table_layout import RAM_LUTS, TableLayout
from rtl.tech.technology import Technology


class BankTotals(wiring.Component):
    """Keeps the total of the vector in each bank.

    Members: `full`, `total`, `bank` from the collector; `last` from the writer; `totals`, one per bank.

    A chunk's total takes effect while its entries are written: with `full` in cycle c, from cycle c + ENTRIES + 1 = c + 17 on. The
    first and last entries are seen by weight beats from c + 4 and c + 19 on; the total is subtracted `depth` cycles after the beat, that
    is for beats from c + 17 - depth on, which lies between the two for every depth up to 13: a beat never gets another vector's total.
    """

    def __init__(self, *, inputs: int, bits: int):
        shape = total_shape(inputs, bits)
        self.shape = shape
        super().__init__(
            {
                "full": wiring.In(1),
                "total": wiring.In(shape),
                "bank": wiring.In(1),
                "last": wiring.In(1),
                "totals": wiring.Out(shape).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        held, bank = Signal(self.shape, reset_less=True), Signal(reset_less=True)
        with m.If(self.full):
            m.d.sync += [held.eq(self.total), bank.eq(self.bank)]
        for index in range(2):
            with m.If(self.last & (bank == index)):
                m.d.sync += self.totals[index].eq(held)
        return m


class LutTableDatapath(wiring.Component):
    """Collector -> writer -> tables -> tree -> ``2*S - total``. See `LutTable` for the formulas, `XnorMatmul` for the ports."""

    def __init__(self, *, inputs: int, bits: int, technology: Technology):
        self.inputs, self.bits, self.technology = inputs, bits, technology
        super().__init__(dot_members(inputs, bits))

    def elaborate(self, platform):
        m = Module()
        layout = self.technology.layout(self.inputs, self.bits)
        m.submodules.collector = collector = ChunkCollector(inputs=self.inputs, bits=self.bits)
        m.submodules.writer = writer = TableWriter(layout=layout, technology=self.technology)
        m.submodules.tables = tables = self.technology.tables(layout)
        m.submodules.tree = tree = TernaryTree(operands=layout.groups, maximum=table_maximum(self.bits), technology=self.technology)
        m.submodules.totals = totals = BankTotals(inputs=self.inputs, bits=self.bits)
        wiring.connect(m, wiring.flipped(self.i_activations), collector.i)
        m.d.comb += [getattr(writer, name).eq(getattr(collector, name)) for name in ("full", "chunk", "opening", "bank")]
        m.d.comb += [getattr(totals, name).eq(getattr(collector, name)) for name in ("full", "total", "bank")]
        m.d.comb += [totals.last.eq(writer.last)]
        m.d.comb += [getattr(tables, name).eq(getattr(writer, name)) for name in ("data", "bank_entry", "enable", "enable_shared")]
        weights = self.i_weights.p
        m.d.comb += [tables.weights.eq(weights.weights), tables.bank.eq(weights.bank), tree.i.eq(tables.o)]
        depth = 1 + tree.latency
        bank = delayed(m, weights.bank, depth, "bank", reset_less=True)
        subtract(m, self, Cat(0, tree.o), Mux(bank, totals.totals[1], totals.totals[0]))
        m.d.comb += self.o.valid.eq(delayed(m, self.i_weights.valid, depth + 1, "valid"))
        return m


@dataclass(frozen=True, kw_only=True)
class LutTable:
    """Strategy: tables of GROUP activations x ENTRIES sums, two banks in one RAM (the fifth address bit), and a ternary tree.

    Parameters
    ----------
    technology : what tables and adders are made of

    Timing
    ------
    latency = 2 + ceil(log3(inputs / GROUP))       table register, tree levels, subtraction
    fill_lead = 20     the beat (collected after 1 cycle), held (1), generated (2), entry 15 of ENTRIES written (15 + 1)

    Both laws of `fill_lead` are tight to within one cycle: entry 0, the first to be written, is always 0.

    Cost
    ----
    LUTs of 768 inputs in UltraScale+ technology, counted by `sim_tests/netlist/test_xnor_matmul.py` on yosys' netlist (no place and
    route); at most 2 LUT levels and 1 carry chain between registers:

    ====  ======  =====  ==========  ====  =====
    bits  tables  tree   generators  rest  total     rest: running total, totals per bank, subtraction, control
    ====  ======  =====  ==========  ====  =====
    8     1,152   1,234  112         63    2,561
    6     880     1,042  132         61    2,115
    4     664     850    96          55    1,665
    ====  ======  =====  ==========  ====  =====

    Source of the idea: T-MAC (activation tables addressed by weight bits); the two banks in one RAM and the packing are ours.
    """

    technology: Technology = field(default_factory=Generic)

    def latency(self, inputs: int, bits: int) -> int:
        return 2 + tree_levels(inputs // GROUP)

    def fill_lead(self, inputs: int, bits: int) -> int:
        return 4 + ENTRIES

    def cost(self, inputs: int, bits: int) -> Cost:
        """Tables, generators and tree, exactly; what is left grows with the bits of the running total."""
        return _cost(inputs, bits)

    def datapath(self, inputs: int, bits: int) -> LutTableDatapath:
        return LutTableDatapath(inputs=inputs, bits=bits, technology=self.technology)


@cache
def _cost(inputs: int, bits: int) -> Cost:
    layout, entry = TableLayout.smallest(inputs, bits), table_shape(bits).width
    memory, generators, pair = RAM_LUTS * len(layout.rams), len(layout.lanes), bits + 1
    total = total_shape(inputs, bits).width
    own = Cost(
        lutram=memory,
        lut=memory + generators * (2 * pair + entry),
        ff=layout.groups * entry + generators * (2 * pair + entry + GROUP * bits) + CHUNK * bits + 2 * layout.chunks,
        priced_lut={"total bits": total},
        priced_ff={"total bits": total},
    )
    return own + tree_cost(layout.groups, table_maximum(bits))
