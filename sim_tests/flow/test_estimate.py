"""Counting, timing and budgets of the resource estimate: on hand-made netlists, and on small designs through yosys."""

import json

import pytest
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from boards import platform
from rtl.flow import estimate as flow
from rtl.flow.estimate import Resources, budget, estimate, estimate_accelerator, over_budget
from rtl.flow.netlist import Cell, Netlist, occupied
from rtl.flow.timing import Timing, unit_of
from rtl.tech.dsp48e2 import PairProduct, ultrascale


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POPVIT_CACHE", str(tmp_path))


def cell(name, kind, outputs=("O",), parameters=None, **pins):
    bits = {port: value if isinstance(value, list) else [value] for port, value in pins.items()}
    return Cell(name, kind, parameters or {}, bits, frozenset(outputs))


def lut(name, kind, output, *inputs):
    return cell(name, kind, O=output, **{f"I{k}": bit for k, bit in enumerate(inputs)})


def flip_flop(name, d, q):
    return cell(name, "FDRE", ("Q",), C=0, D=d, Q=q, CE="1", R="0")


def test_two_small_luts_with_shared_inputs_are_one():
    shared = [lut("a", "LUT3", 10, 1, 2, 3), lut("b", "LUT4", 11, 1, 2, 4, 5)]
    apart = [lut("c", "LUT3", 12, 6, 7, 8), lut("d", "LUT6", 13, 1, 2, 3, 4, 5, 6)]
    found = occupied(Netlist(shared + apart, [], [], {}))
    assert (found["lut"], found["lut_raw"]) == (3, 4)


def test_primitives_count_by_the_luts_they_fill():
    kinds = ["RAM32M16", "LUT6_2", "SRL16E", "CARRY8", *["CARRY4"] * 3, "DSP48E2", "RAMB18E2", "RAMB36E2", "FDRE", "row", "row"]
    found = occupied(Netlist([cell(f"{index}", kind) for index, kind in enumerate(kinds)], [], [], {}))
    assert found == {
        "lut": 10, "lut_raw": 10, "lutram": 8, "srl": 1, "ff": 1, "carry8": 3, "dsp": 1, "bram36": 1.5, "other": {"row": 2},
    }  # fmt: skip


def test_stage_between_flip_flops():
    cells = [flip_flop("f", 90, 1), lut("x", "LUT2", 2, 1, 1), lut("y", "LUT2", 3, 2, 1), flip_flop("g", 3, 4)]
    stage = Timing(Netlist(cells, [], [], {1: "from.q", 4: "to.q"})).slowest()
    assert (stage.levels, stage.carries, stage.start, stage.end) == (2, 0, "from.q", "to.q")
    assert stage.ns == pytest.approx(0.077 + 2 * (0.45 + 0.15) + 0.025)


def test_stages_between_two_clocks():
    """Of the pairs of clocks, each its deepest stage; none is told where there is one clock."""
    cells = [
        cell("slow", "FDRE", ("Q",), C=50, D=9, Q=1, CE="1", R="0"),
        lut("x", "LUT2", 2, 1, 3),
        cell("fast", "FDRE", ("Q",), C=51, D=2, Q=3, CE="1", R="0"),
        cell("back", "FDRE", ("Q",), C=50, D=3, Q=4, CE="1", R="0"),
    ]
    names = {50: "clk", 51: "clk_2x", 1: "a", 3: "b", 4: "c"}
    found = Timing(Netlist(cells, [9, 50, 51], [4], names)).deepest_by_clocks()
    assert {pair: (stage.levels, stage.start, stage.end) for pair, stage in found.items()} == {
        ("clk", "clk_2x"): (1, "a", "b"), ("clk_2x", "clk_2x"): (1, "b", "b"), ("clk_2x", "clk"): (0, "b", "c"),
    }  # fmt: skip
    assert Timing(Netlist(cells[:2] + cells[3:], [9, 3, 50], [4], names)).deepest_by_clocks() == {}


def test_second_output_of_a_lut_depends_on_its_own_function_only():
    init = format(0x6666_6666_8888_8888, "064b")  # O6 = I0 ^ I1, O5 = I0 & I1: neither reads I2
    pins = {"I0": 1, "I1": 2, "I2": 3, "I3": "0", "I4": "0", "I5": "1", "O6": 5, "O5": 3}  # I2 is O5: a loop if it were read
    timing = Timing(Netlist([cell("l", "LUT6_2", ("O6", "O5"), {"INIT": init}, **pins)], [1, 2], [5, 3], {}))
    assert timing.loops == 0 and timing.deepest().levels == 1


def test_loops_are_counted():
    assert Timing(Netlist([lut("x", "LUT1", 2, 1), lut("y", "LUT1", 1, 2)], [], [], {})).loops == 2


def test_carry_chain_counts_once_however_long():
    cells, carry = [], "0"
    for k in range(3):
        base = 100 * (k + 1)
        select = [lut(f"l{k}{i}", "LUT2", base + i, 1, 2) for i in range(8)]
        chain = cell(f"c{k}", "CARRY8", ("O", "CO"), CI=carry, CI_TOP="0", S=[base + i for i in range(8)], DI=["0"] * 8,
                     O=[base + 20 + i for i in range(8)], CO=[base + 40 + i for i in range(8)])  # fmt: skip
        cells += [*select, chain]
        carry = base + 47
    stage = Timing(Netlist(cells, [1, 2], [327], {})).slowest()
    assert (stage.levels, stage.carries) == (1, 1)


def test_resources_add_and_multiply():
    row = Resources(lut=10, ff=4, bram36=1.5, levels=2, carries=1, deepest="row", ns=1.7, slowest="row")
    rest = Resources(lut=3, dsp=2, levels=1, carries=1, deepest="rest", ns=1.9, slowest="rest", other={"PS8": 1})
    total = row * 66 + rest
    assert (total.lut, total.ff, total.dsp, total.bram36) == (663, 264, 2, 99.0)
    assert (total.levels, total.carries, total.deepest, total.ns, total.slowest) == (2, 1, "row", 1.9, "rest")
    assert json.loads(json.dumps(total.to_dict()))["resource_source"] == flow.SOURCE


def test_budget_names_what_exceeds_it():
    board = platform("zcu102")
    assert budget(board) == {"lut": 205_560, "dsp": 2_016, "bram36": pytest.approx(729.6)}
    assert over_budget(Resources(lut=205_560, dsp=2_016, bram36=729.5), board) == []
    assert over_budget(Resources(lut=205_561), board) == ["lut must be at most 205,560 (75% of 274,080 on zcu102): 205,561 is not"]


class Row(wiring.Component):
    i: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i + 1)
        return m


class Rest(wiring.Component):
    i: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        value = self.i
        for _ in range(3):
            after = Signal(8)
            m.submodules += Instance("row", i_clk=ClockSignal(), i_rst=Const(0, 1), i_i=value, o_o=after)
            value = after
        m.d.sync += self.o.eq(value)
        return m


def test_accelerator_is_rows_and_the_rest():
    said = []
    parts = estimate_accelerator(Row(), Rest(), 3, say=said.append)
    assert (parts["row"].ff, parts["rest"].ff, parts["total"].ff) == (8, 8, 32)
    assert parts["total"].lut == 3 * parts["row"].lut + parts["rest"].lut and parts["row"].lut > 0
    assert parts["total"].other == {}
    assert said == ["yosys: synthesising row", "timing of row", "yosys: synthesising accelerator", "timing of accelerator"]
    said.clear()
    assert estimate_accelerator(Row(), Rest(), 3, say=said.append) == parts
    assert said == []  # kept by digest
    with pytest.raises(ValueError, match=r"^accelerator must hold 4 instances of row: it holds 3$"):
        estimate_accelerator(Row(), Rest(), 4)


class Store(wiring.Component):
    """A block memory, a shift register and a carry chain."""

    address: In(9)
    i: In(72)
    write: In(1)
    o: Out(72)
    late: Out(1)
    total: Out(17)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=72, depth=512, init=[])
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(self.address), write.data.eq(self.i), write.en.eq(self.write)]
        m.d.comb += self.o.eq(read.data)
        taps = Signal(10, reset_less=True)
        m.d.sync += [taps.eq(Cat(self.i[0], taps)), self.total.eq(self.i[:16] + self.i[16:32])]
        m.d.comb += self.late.eq(taps[-1])
        return m


def test_yosys_maps_memory_shift_register_and_carry():
    found = estimate(Store(), "store")
    assert found.bram36 == 1 and found.srl == 1 and found.carry8 in (2, 3) and found.dsp == 0
    assert (found.levels, found.carries) == (1, 1)


def test_pair_product_costs_slices_and_little_else():
    """22 lanes, operands staggered by the caller: 22 slices, a ternary adder for each sum, within 2 LUT levels and a carry."""
    found = estimate(PairProduct(22, ultrascale, x_staggered=True, y_staggered=True), "product")
    assert found.dsp == 22 and found.lut <= 48
    assert (found.levels, found.carries) == (2, 1)


class Deep(wiring.Component):
    """The same adder chain, `depth` long, between registers."""

    def __init__(self, depth):
        self.depth = depth
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = kept = Signal(8)
        m.d.sync += kept.eq(self.i)
        for _ in range(self.depth):
            value = (value + (value >> 1) ^ self.i)[:8]
        m.d.sync += self.o.eq(value)
        return m


class Units(wiring.Component):
    i: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.short, m.submodules.long = short, long = Deep(1), Deep(4)
        m.d.comb += [short.i.eq(self.i), long.i.eq(short.o), self.o.eq(long.o)]
        return m


def test_worst_stage_is_told_by_unit():
    """Though the register between the two is known by three names, its stage belongs to the unit that holds it."""
    found = estimate(Units(), "top")
    assert {"short", "long"} <= set(found.units)
    assert found.units["short"]["levels"] < found.units["long"]["levels"] == found.levels
    assert all(found.units[unit]["path"].split(" -> ")[-1].startswith(f"{unit}.") for unit in ("short", "long"))


@pytest.mark.parametrize(
    ("name", "unit"),
    [("dma.request.count", "dma"), ("inner.bus.valid", "bus"), ("count", ""), ("inner.count", ""), ("$auto$ff.cc:1$2", "")],
)
def test_unit_of_a_hierarchical_name(name, unit):
    assert unit_of(name) == unit
