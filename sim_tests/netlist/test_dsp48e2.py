"""The DSP48E2 blocks: generic twin == explicit slices == exact arithmetic, at the exact latency.

The slices run on our own model of the slice (dsp48e2_model.v), not on a vendor's.
"""

import gc
import random
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import (
    MultiplyAdd,
    PairCascade,
    PairProduct,
    cascade_latency,
    cascade_lengths,
    generic,
    pair_sum_width,
    product_latency,
    product_stagger,
    ultrascale,
)
from sim_tests.netlist import verilate

MODEL = Path(__file__).with_name("dsp48e2_model.v")
CYCLES = 2000
# The adders of the fabric are explicit too. Widths as in rtl/tech/ultrascale.py; semantics of UG974.
PRIMITIVES = """
module LUT6_2 #(parameter [63:0] INIT = 0) (output O6, output O5, input I0, I1, I2, I3, I4, I5);
  assign O6 = INIT[{I5, I4, I3, I2, I1, I0}];
  assign O5 = INIT[{1'b0, I4, I3, I2, I1, I0}];
endmodule
module CARRY8 #(parameter CARRY_TYPE = "SINGLE_CY8") (output [7:0] O, output [7:0] CO, input CI, input CI_TOP, input [7:0] S, DI);
  wire [8:0] carry;
  assign carry[0] = CI;
  genvar k;
  generate for (k = 0; k < 8; k = k + 1) begin : bits
    assign carry[k + 1] = S[k] ? carry[k] : DI[k];
  end endgenerate
  assign O = S ^ carry[7:0];
  assign CO = carry[8:1];
  wire unused = CI_TOP;
endmodule
"""

# name -> (block, keyword arguments). All blocks sit in one top, so that Verilator compiles once.
BLOCKS = {
    "mac": (MultiplyAdd, {}),
    "mac_c20": (MultiplyAdd, {"c_width": 20}),
    "product22": (PairProduct, {"lanes": 22}),
    "product9x": (PairProduct, {"lanes": 9, "x_staggered": True}),
    "cascade3y": (PairCascade, {"lanes": 3, "y_staggered": True}),
    "cascade8xy": (PairCascade, {"lanes": 8, "x_staggered": True, "y_staggered": True}),
}


class Both(wiring.Component):
    """Every block in both technologies, on the same inputs."""

    def __init__(self):
        self.units, ports = {}, {}
        for name, (block, arguments) in BLOCKS.items():
            for technology in (generic, ultrascale):
                self.units[name, technology.name] = unit = block(technology=technology, **arguments)
                for port, member in unit.signature.members.items():
                    if member.flow == In:
                        ports[f"{name}_{port}"] = member
                    else:
                        ports[f"{name}_{port}_{technology.name}"] = member
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for (name, technology), unit in self.units.items():
            m.submodules[f"{name}_{technology}"] = unit
            for port, member in unit.signature.members.items():
                if member.flow == In:
                    m.d.comb += getattr(unit, port).eq(getattr(self, f"{name}_{port}"))
                else:
                    m.d.comb += getattr(self, f"{name}_{port}_{technology}").eq(getattr(unit, port))
        return m

    def widths(self, flow):
        return {name: wiring_width(member.shape) for name, member in self.signature.members.items() if member.flow == flow}


def wiring_width(shape):
    return shape.size if hasattr(shape, "size") else shape.width


def pack(values, bits):
    return sum((value & ((1 << bits) - 1)) << (bits * k) for k, value in enumerate(values))


def signed_of(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def draw(rng, low, high):
    """Uniform, with both ends and zero often."""
    return rng.choice((low, high, 0)) if rng.random() < 0.3 else rng.randint(low, high)


def draw_mac(rng, c_width):
    while True:
        a, d = (draw(rng, -(1 << 26), (1 << 26) - 1) for _ in "ad")
        if -(1 << 26) <= a + d < 1 << 26:
            break
    b = draw(rng, -(1 << 17), (1 << 17) - 1)
    c = draw(rng, -(1 << (c_width - 1)), (1 << (c_width - 1)) - 1)
    wrapped = ((a + d) * b + c) & ((1 << 48) - 1)
    return {"a": a, "b": b, "c": c, "d": d}, {"p": wrapped}


def draw_pairs(rng, lanes, cycle):
    extreme = [(127, 255), (-127, 255), (127, -128), (-127, -128)]
    if cycle % 16 < 4:  # every lane at the same extreme: the sums of largest magnitude, low lane against high lane
        (x0, y), x1 = extreme[cycle % 4], rng.choice((127, -127, 0))
        x0s, x1s, ys = [x0] * lanes, [x1] * lanes, [y] * lanes
    else:
        x0s, x1s = ([draw(rng, -127, 127) for _ in range(lanes)] for _ in range(2))
        low, high = ((0, 255), (-128, 127), (-128, 255))[cycle % 3]
        ys = [draw(rng, low, high) for _ in range(lanes)]
    sums = {"sum0": sum(map(int.__mul__, x0s, ys)), "sum1": sum(map(int.__mul__, x1s, ys))}
    return {"x0": x0s, "x1": x1s, "y": ys}, sums


def stagger_of(unit, lane):
    return product_stagger(unit.lanes)[lane] if isinstance(unit, PairProduct) else lane


def test_slices_equal_the_generic_twin_and_exact_arithmetic(tmp_path, seed):
    rng = random.Random(seed)
    top = Both()
    inputs, outputs = top.widths(In), top.widths(Out)
    run = verilate.build(tmp_path, export(top, "top") + MODEL.read_text() + PRIMITIVES, "top", {**inputs, "rst": 1}, outputs)

    lanes_at = {}  # (port, cycle) -> {lane: value}: staggered lanes come later
    vectors = [dict.fromkeys({**inputs, "rst": 1}, 0) for _ in range(CYCLES)]
    expected = {}
    for name in BLOCKS:
        unit = top.units[name, "generic"]
        for cycle in range(CYCLES):
            if isinstance(unit, MultiplyAdd):
                operands, expected[name, cycle] = draw_mac(rng, unit.c.shape().width)
                vectors[cycle].update({f"{name}_{port}": value for port, value in operands.items()})
                continue
            operands, expected[name, cycle] = draw_pairs(rng, unit.lanes, cycle)
            for port, values in operands.items():
                late = unit.y_staggered if port == "y" else unit.x_staggered
                for lane, value in enumerate(values):
                    at = cycle + (stagger_of(unit, lane) if late else 0)
                    lanes_at.setdefault((f"{name}_{port}", at), {})[lane] = value
    for (port, cycle), lanes in lanes_at.items():
        if cycle < CYCLES:
            bits = 9 if port.endswith("_y") else 8
            vectors[cycle][port] = pack([lanes.get(lane, 0) for lane in range(max(lanes) + 1)], bits)

    results = run(vectors)
    for (name, cycle), sums in expected.items():
        unit = top.units[name, "generic"]
        if cycle + unit.latency >= CYCLES:
            continue
        for port, want in sums.items():
            width = outputs[f"{name}_{port}_generic"]
            for technology in ("generic", "ultrascale"):
                got = results[cycle + unit.latency][f"{name}_{port}_{technology}"]
                got = got if port == "p" else signed_of(got, width)
                assert got == want, f"{name}.{port} {technology}, operands of cycle {cycle}: got {got}, want {want}"


def test_latency_formulas():
    assert [cascade_latency(lanes) for lanes in (1, 2, 8)] == [4, 5, 11]
    assert [product_latency(lanes) for lanes in (1, 8, 9, 22, 24, 25, 66)] == [4, 11, 9, 12, 12, 12, 13]
    assert MultiplyAdd.latency == 4


def test_cascades_are_balanced():
    assert cascade_lengths(22) == (8, 7, 7)
    for lanes in range(1, 200):
        lengths = cascade_lengths(lanes)
        assert sum(lengths) == lanes and max(lengths) <= 8 and max(lengths) - min(lengths) <= 1


def test_stagger_is_the_place_in_the_cascade():
    assert product_stagger(22) == (*range(8), *range(7), *range(7))


def test_width_law_holds_at_its_extremes():
    for lanes in range(1, 200):
        width, extreme = pair_sum_width(lanes), lanes * 127 * 255
        assert extreme < 1 << (width - 1) and extreme >= 1 << (width - 2)
    assert 8 * 127 * 255 < 1 << 18 <= 9 * 127 * 255  # why a cascade stops at 8 lanes


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PairCascade(9), "a cascade adds at most 8 lanes: got 9; use PairProduct"),
        (lambda: PairCascade(0), "lanes must be 1 or more: got 0"),
        (lambda: PairProduct(-1), "lanes must be 1 or more: got -1"),
        (lambda: MultiplyAdd(c_width=49), "c_width must be in 1..48, the C port of the slice: got 49"),
    ],
)
def test_wrong_parameters_name_the_rule(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
    del error  # the refused block dies here, under the filter, and not in another test
    gc.collect()
