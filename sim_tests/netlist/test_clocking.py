"""The slices at twice the clock as primitives: generic twin == explicit slices == exact sums, in the exact cycle; and every path between
the two clock domains, walked through the netlist."""

import random
import tempfile
import types
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow import estimate, netlist
from rtl.flow.plain_shell import PlainShell
from rtl.flow.timing import CLOCK_PINS, clock_of
from rtl.flow.verilog import export
from rtl.tech import clocking
from rtl.tech.clocking import FAST_CLOCK, drive_fast_domain
from rtl.tech.dsp48e2 import generic, pair_sum_width, ultrascale
from rtl.units.int8_matmul import Int8MatmulConfig
from sim_tests.formal.prove import mutant
from sim_tests.netlist import verilate
from sim_tests.netlist.test_dsp48e2 import MODEL, PRIMITIVES, draw_pairs, pack, signed_of
from sim_tests.units.two_clocks import TwoClocks

LANES, CYCLES, SETTLED = 32, 1500, 16
TECHNOLOGIES = (generic, ultrascale)


class Both(wiring.Component):
    """The product in both technologies, on the same operands."""

    def __init__(self):
        self.inputs, self.outputs = {"x0": 8 * LANES, "x1": 8 * LANES, "y": 9 * LANES}, {}
        for technology in TECHNOLOGIES:
            self.outputs |= {f"sum{n}_{technology.name}": pair_sum_width(LANES) for n in range(2)}
        ports = {name: In(bits) for name, bits in self.inputs.items()} | {name: Out(bits) for name, bits in self.outputs.items()}
        super().__init__({FAST_CLOCK: In(1), **ports})

    def elaborate(self, platform):
        m = Module()
        drive_fast_domain(m, self.clk_2x)
        for technology in TECHNOLOGIES:
            m.submodules[technology.name] = product = clocking.double_rate.product(LANES, technology)
            m.d.comb += [getattr(product, name).as_value().eq(getattr(self, name)) for name in self.inputs]
            m.d.comb += [getattr(self, f"sum{n}_{technology.name}").eq(getattr(product, f"sum{n}")) for n in range(2)]
        return m


def test_slices_equal_the_generic_twin_and_exact_sums(tmp_path, seed):
    rng, top = random.Random(seed), Both()
    text = export(top, "top") + MODEL.read_text() + PRIMITIVES
    run = verilate.build(tmp_path, text, "top", {**top.inputs, "rst": 1}, top.outputs, fast_clock=FAST_CLOCK)
    stagger, latency = clocking.double_rate.stagger(LANES), clocking.double_rate.latency(LANES)
    drawn = [draw_pairs(rng, LANES, cycle) for cycle in range(CYCLES)]
    vectors = [{"rst": 0, "y": pack(operands["y"], 9)} for operands, _ in drawn]
    for name in ("x0", "x1"):
        for cycle, vector in enumerate(vectors):
            lanes = [drawn[cycle - late][0][name][k] if cycle >= late else 0 for k, late in enumerate(stagger)]
            vector[name] = pack(lanes, 8)
    results = run(vectors)
    for cycle in range(SETTLED, CYCLES - latency):
        for name, want in drawn[cycle][1].items():
            for technology in TECHNOLOGIES:
                got = signed_of(results[cycle + latency][f"{name}_{technology.name}"], pair_sum_width(LANES))
                assert got == want, f"{name} {technology.name}, operands of cycle {cycle}: got {got}, want {want}"


def netlists(module: types.ModuleType = clocking) -> list[netlist.Netlist]:
    """Flat netlists, one for each mapping, of `Int8Matmul` at twice the clock, all inputs from registers."""
    matmul = Int8MatmulConfig(inputs=16, technology=ultrascale, clocking=module.double_rate).build()
    text = estimate.to_rtlil(TwoClocks(PlainShell(matmul)), "matmul")
    with tempfile.TemporaryDirectory() as folder:
        return estimate.synthesise(Path(folder), "matmul", {"matmul": text})


def _is_choice(lut: netlist.Cell, output: str) -> bool:
    """Whether a LUT passes one of its inputs on, or one of two as a third says."""
    pins = [lut.pins[f"I{k}"][0] for k in range(6) if f"I{k}" in lut.pins]
    used = [k for k, bit in enumerate(pins) if isinstance(bit, int)]
    if output == "O5":
        used = [k for k in used if k < 5]
    fixed = sum(1 << k for k, bit in enumerate(pins) if bit == "1" and not (output == "O5" and k == 5))
    init = lut.integer("INIT", 0)

    def value(*chosen: int) -> int:
        return init >> (fixed | sum(1 << k for k, bit in zip(used, chosen, strict=True) if bit)) & 1

    table = {bits: value(*bits) for bits in _all_bits(len(used))}
    wires = [lambda bits, k=k: bits[k] for k in range(len(used))]
    choices = [
        lambda bits, s=s, a=a, b=b: bits[b] if bits[s] else bits[a]
        for s in range(len(used))
        for a in range(len(used))
        for b in range(len(used))
    ]
    return any(all(function(bits) == out for bits, out in table.items()) for function in wires + choices)


def _all_bits(count: int):
    return [tuple(number >> k & 1 for k in range(count)) for number in range(1 << count)]


def broken_rules(flat: netlist.Netlist) -> tuple[list[str], set[tuple[str, str]]]:
    """(what is against the rules of `rtl.tech.clocking`, the pairs of clocks between which there are paths)."""
    drivers = {bit: (cell, port) for cell in flat.cells for port in cell.outputs for bit in cell.pins.get(port, []) if isinstance(bit, int)}
    broken, pairs = [], set()

    def name(cell):
        return flat.names.get(clock_of(cell), "?")

    def sources(bit, luts):
        """Of a bit: the registers that it comes from, each with the combinational cells between."""
        if bit not in drivers:
            return []
        cell, port = drivers[bit]
        if clock_of(cell) is not None:
            return [(cell, luts)]
        return [found for before in cell.input_bits() for found in sources(before, [*luts, (cell, port)])]

    for cell in flat.cells:
        if clock_of(cell) is None:
            continue
        clock_pin = next(pin for pin in reversed(CLOCK_PINS) if pin in cell.pins)
        for port, bits in cell.pins.items():
            if port in cell.outputs or port == clock_pin:
                continue
            for bit in bits:
                for start, between in sources(bit, []):
                    pair = name(start), name(cell)
                    pairs.add(pair)
                    if FAST_CLOCK not in pair:
                        continue
                    limit = 0 if pair == (FAST_CLOCK, "clk") else 1
                    plain = all(kind.type.startswith("LUT") for kind, _ in between)
                    choice = pair == (FAST_CLOCK, FAST_CLOCK) or all(_is_choice(*lut) for lut in between if plain)
                    if len(between) > limit or not plain or not choice:
                        broken.append(f"{pair[0]} -> {pair[1]}: {[kind.type for kind, _ in between]} ends at {cell.name}.{port}")
    return broken, pairs


def test_every_path_between_the_clocks_keeps_the_rules():
    """To the fast clock at most a 2:1 multiplexer, from it nothing at all, within it one LUT and no carry chain."""
    for flat in netlists():
        broken, pairs = broken_rules(flat)
        assert not broken, broken[:4]
        assert pairs == {(start, end) for start in ("clk", FAST_CLOCK) for end in ("clk", FAST_CLOCK)}


@pytest.mark.parametrize(
    "pair, old, new",
    [
        (f"{FAST_CLOCK} -> clk", "first.eq(kept)", "first.eq(kept ^ (kept >> 1))"),
        (f"clk -> {FAST_CLOCK}", "Cat(self.x0[k], ", "Cat(self.x0[k] & self.y[k][:8], "),
        (f"{FAST_CLOCK} -> {FAST_CLOCK}", "kept.eq(total)", "kept.eq(total + kept)"),
    ],
)
def test_logic_on_a_crossing_is_found(pair, old, new):
    broken, _ = broken_rules(netlists(mutant("rtl.tech.clocking", old, new))[0])
    assert broken and all(line.startswith(pair) for line in broken), broken[:4]
