"""The slices that work on their own results: generic twin == explicit slice == exact arithmetic. See `test_dsp48e2` for the model."""

import random

from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import generic, ultrascale
from rtl.tech.dsp_running import Horner, Operation, RunningSquares, StatisticsProduct
from sim_tests.netlist import verilate
from sim_tests.netlist.test_dsp48e2 import MODEL, draw

CYCLES = 3000
CONSTANT = (1 << 23) - 1
BLOCKS = {"squares": (RunningSquares, {}), "horner": (Horner, {}), "product": (StatisticsProduct, {"constant": CONSTANT})}


class Both(wiring.Component):
    """Every block in both technologies, on the same inputs."""

    def __init__(self):
        self.units = {(name, t.name): block(t, **extra) for name, (block, extra) in BLOCKS.items() for t in (generic, ultrascale)}
        ports = {}
        for (name, technology), unit in self.units.items():
            ports |= {f"{name}_{port}": member for port, member in unit.signature.members.items() if member.flow == In}
            ports[f"{name}_p_{technology}"] = Out(48)
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for (name, technology), unit in self.units.items():
            m.submodules[f"{name}_{technology}"] = unit
            inputs = [port for port, member in unit.signature.members.items() if member.flow == In]
            m.d.comb += [getattr(unit, port).eq(getattr(self, f"{name}_{port}")) for port in inputs]
            m.d.comb += getattr(self, f"{name}_p_{technology}").eq(unit.p)
        return m


def extreme(rng, bits):
    return draw(rng, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def squares(rng, vectors):
    """x of cycle t, with its controls in t + 3; p in t + 4."""
    p, expected, known = 0, {}, False
    for cycle in range(CYCLES - 4):
        x, enable, restart = extreme(rng, 16), rng.random() < 0.8, rng.random() < 0.1
        vectors[cycle]["squares_x"] = x
        vectors[cycle + 3] |= {"squares_enable": enable, "squares_restart": restart}
        if enable:
            p, known = x * x + (0 if restart else p), known or restart
        expected[cycle + 4] = p if known else None
    return expected


def horner(rng, vectors):
    p, expected, plane = 0, {}, 0
    for cycle in range(CYCLES - 2):
        x, y = rng.choice((0, 1 << 19, rng.getrandbits(20))), rng.choice((0, 1 << 18, rng.getrandbits(19)))
        first = plane == 0 or rng.random() < 0.1
        plane = 7 if first else plane - 1
        vectors[cycle] |= {"horner_x": x, "horner_y": y}
        vectors[cycle + 1]["horner_first"] = first
        p = (0 if first else 2 * p) + x - y
        expected[cycle + 2] = p
    return expected


def product(rng, vectors):
    """Runs of products with steady operands, then some doublings, as LayerNorm uses it: the result of cycle t of each run."""
    expected, cycle, a, c = {}, 0, None, None
    while cycle < CYCLES - 40:
        a, c = extreme(rng, 25), extreme(rng, 40)
        d, b = extreme(rng, 25), extreme(rng, 18)
        zero_a, use_d, doublings = rng.random() < 0.5, rng.random() < 0.5, rng.randrange(8)
        operation = rng.choice((Operation.NONE, Operation.CONSTANT, Operation.C))
        end = cycle + 8 + doublings
        for now in range(cycle, end):
            kind = operation if now < cycle + 8 else Operation.DOUBLE
            vectors[now] |= {"product_d": d, "product_b": b, "product_zero_a": zero_a, "product_use_d": use_d}
            vectors[now]["product_operation"] = kind.value
            first = now == cycle
            vectors[now] |= {"product_a": a if first else extreme(rng, 27), "product_a_load": first}
            vectors[now] |= {"product_c": c if first else extreme(rng, 48), "product_c_load": first}
        addend = {Operation.NONE: 0, Operation.CONSTANT: CONSTANT, Operation.C: c}[operation]
        p = ((0 if zero_a else a) + (d if use_d else 0)) * b + addend
        for doubled in range(doublings + 1):
            expected[cycle + 8 + doubled] = p << doubled
        cycle = end
    return expected


def test_running_slices(tmp_path, seed):
    rng, top = random.Random(seed), Both()
    shapes = {name: Shape.cast(member.shape) for name, member in top.signature.members.items()}
    inputs = {name: shapes[name].width for name, member in top.signature.members.items() if member.flow == In}
    outputs = {name: 48 for name, member in top.signature.members.items() if member.flow == Out}
    vectors = [dict.fromkeys({**inputs, "rst": 1}, 0) for _ in range(CYCLES)]
    expected = {name: make(rng, vectors) for name, make in (("squares", squares), ("horner", horner), ("product", product))}
    run = verilate.build(tmp_path, export(top, "top") + MODEL.read_text(), "top", {**inputs, "rst": 1}, outputs)
    results = run([{name: int(value) for name, value in vector.items()} for vector in vectors])
    for name, cycles in expected.items():
        for cycle, want in cycles.items():
            if want is None:
                continue
            for technology in ("generic", "ultrascale"):
                got = results[cycle][f"{name}_p_{technology}"]
                assert got == want & (1 << 48) - 1, f"{name}, {technology}, cycle {cycle}: got {got}, want {want}"
