"""`Int8Matmul`, `CodeRequantize`, `LutMultiplyAdd` and `Squarer`: generic twin == explicit primitives, cycle by cycle; products are exact.

What the units compute is shown by their cocotb benches, on the generic twin.
"""

import gc
import random

import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.plain_shell import PlainShell
from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import generic, ultrascale
from rtl.tech.lut_arithmetic import LutMultiplyAdd, Squarer
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.int8_matmul import Int8MatmulConfig
from sim_tests.netlist import verilate
from sim_tests.netlist.test_adders import lut_model
from sim_tests.netlist.test_dsp48e2 import MODEL, PRIMITIVES, draw, signed_of

CYCLES, SETTLED = 3000, 60
LUTS = {"first": "lut", "second": "lut", "accumulator_bits": 22}
#: By name: of a technology, the unit. All sit in one top, so that Verilator compiles once.
UNITS = {
    "matmul": lambda technology: Int8MatmulConfig(inputs=22, technology=technology).build(),
    "slices": lambda technology: CodeRequantizeConfig(quotient="log2", technology=technology).build(),
    "tables": lambda technology: CodeRequantizeConfig(**LUTS, shortcut=False, bits=6, technology=technology).build(),
    "product": lambda technology: LutMultiplyAdd(technology, sum_bits=17, b_bits=16, c_bits=25),
    "short": lambda technology: LutMultiplyAdd(technology, sum_bits=5, b_bits=4),
    "square": Squarer,
}
TECHNOLOGIES = (generic, ultrascale)
#: Terms of a sum in front of a multiplier.
HALVED = [f"{name}_{port}" for name in ("slices", "tables") for port in ("i_accumulator_payload", "bias")]
HALVED += [f"{name}_{port}" for name in ("product", "short") for port in "ad"]


class Both(wiring.Component):
    """Every unit in both technologies, on the same inputs."""

    def __init__(self):
        self.units, ports = {}, {}
        for name, make in UNITS.items():
            for technology in TECHNOLOGIES:
                self.units[name, technology.name] = unit = PlainShell(make(technology))
                for port, member in unit.signature.members.items():
                    ports[self._port(name, port, member, technology.name)] = member
        super().__init__(ports)

    @staticmethod
    def _port(name, port, member, technology):
        """Verilator renames what has two underscores."""
        return f"{name}_{port.replace('__', '_')}" + (f"_{technology}" if member.flow == Out else "")

    def elaborate(self, platform):
        m = Module()
        for (name, technology), unit in self.units.items():
            m.submodules[f"{name}_{technology}"] = unit
            for port, member in unit.signature.members.items():
                inner, outer = getattr(unit, port), getattr(self, self._port(name, port, member, technology))
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m

    def widths(self, flow):
        members = self.signature.members.items()
        return {name: len(Value.cast(getattr(self, name))) for name, member in members if member.flow == flow}


def draw_word(rng: random.Random, name: str, width: int) -> int:
    """Any word, often one of ends; for weights, bytes but -128, which the packed pair has no room for."""
    if "weights" in name:
        return sum((draw(rng, -127, 127) & 255) << place for place in range(0, width, 8))
    word = rng.choice((0, (1 << width) - 1, 1 << (width - 1))) if rng.random() < 0.2 else rng.getrandbits(width)
    return word >> rng.randrange(width) if rng.random() < 0.3 else word


def legal(vector: dict[str, int], inputs: dict[str, int]) -> dict[str, int]:
    """Sums in front of a multiplier fit: each term has half of the range. Also where controls exclude each other, the twins must agree."""
    for name in HALVED:
        width = inputs[name]
        vector[name] = signed_of(vector[name], width) // 2 & ((1 << width) - 1)
    return vector


@pytest.fixture(scope="module")
def run_both(tmp_path_factory):
    """The inputs of every cycle, and the outputs."""
    top = Both()
    inputs, outputs = {"rst": 1, **top.widths(In)}, top.widths(Out)
    verilog = export(top, "top") + MODEL.read_text(encoding="utf-8") + PRIMITIVES + "".join(map(lut_model, range(1, 7)))
    run = verilate.build(tmp_path_factory.mktemp("both"), verilog, "top", inputs, outputs)

    def results(seed):
        rng = random.Random(seed)
        vectors = [legal({name: draw_word(rng, name, width) for name, width in inputs.items()}, inputs) for _ in range(CYCLES)]
        for cycle, vector in enumerate(vectors):
            vector["rst"] = 0
            vector["matmul_first"] |= cycle < SETTLED
        return inputs, outputs, vectors, run(vectors)

    return results


def test_technologies_agree(run_both, seed):
    _, outputs, _, results = run_both(seed)
    names = [name.removesuffix("_generic") for name in outputs if name.endswith("_generic")]
    assert len(names) == 4 + 2 + 2 + 3
    for cycle, got in enumerate(results[SETTLED:], SETTLED):
        wrong = [name for name in names if got[f"{name}_generic"] != got[f"{name}_ultrascale"]]
        assert not wrong, f"cycle {cycle}: {wrong}"


def test_products_are_exact(run_both, seed):
    inputs, outputs, vectors, results = run_both(seed)
    for name, latency in (("product", 10), ("short", 4)):
        for cycle in range(CYCLES - latency):
            a, d, c = (signed_of(vectors[cycle][f"{name}_{port}"], inputs[f"{name}_{port}"]) for port in "adc")
            want = (a + d) * vectors[cycle][f"{name}_b"] + c
            for technology in TECHNOLOGIES:
                port = f"{name}_p_{technology.name}"
                got = signed_of(results[cycle + latency][port], outputs[port])
                assert got == want, f"{port}, operands of cycle {cycle}: got {got}, want {want}"
    for cycle in range(CYCLES - Squarer.latency):
        for technology in TECHNOLOGIES:
            assert results[cycle + Squarer.latency][f"square_o_{technology.name}"] == vectors[cycle]["square_a"] ** 2


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_odd_multiplier() -> None:
    with pytest.raises(ValueError, match="b_bits must be even, two per row: got 5; add one") as error:
        LutMultiplyAdd(generic, sum_bits=5, b_bits=5)
    del error  # the refused block dies here, under the filter, and not in another test
    gc.collect()
