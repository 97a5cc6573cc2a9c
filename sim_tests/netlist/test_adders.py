"""The adders that share their LUTs with a gate or a choice: generic twin == explicit primitives == exact sums."""

import random

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import generic, ultrascale
from sim_tests.netlist import verilate
from sim_tests.netlist.test_dsp48e2 import PRIMITIVES, draw

CYCLES, PLAIN, OTHER, WIDTH, CHOICES = 3000, 12, 10, 13, (1, 2, 3, 4)
LUT6 = """
module LUT6 #(parameter [63:0] INIT = 0) (output O, input I0, I1, I2, I3, I4, I5);
  assign O = INIT[{I5, I4, I3, I2, I1, I0}];
endmodule
"""


class Both(wiring.Component):
    """``gated``, and ``selected_<n>`` of the first n others, in both technologies, a cycle later."""

    def __init__(self):
        sums = ["gated", *(f"selected_{count}" for count in CHOICES)]
        others = {f"other_{index}": In(signed(OTHER)) for index in range(max(CHOICES))}
        outputs = {f"{name}_{technology.name}": Out(WIDTH) for name in sums for technology in (generic, ultrascale)}
        super().__init__({"plain": In(signed(PLAIN)), "enable": In(1), "select": In(2), **others, **outputs})

    def elaborate(self, platform):
        m = Module()
        others = [getattr(self, f"other_{index}") for index in range(max(CHOICES))]
        for technology in (generic, ultrascale):
            total = technology.add_gated(m, self.plain, others[0], self.enable, WIDTH)
            m.d.sync += getattr(self, f"gated_{technology.name}").eq(total)
            for count in CHOICES:
                select = self.select[: max(1, (count - 1).bit_length())]
                total = technology.add_selected(m, self.plain, others[:count], select, WIDTH)
                m.d.sync += getattr(self, f"selected_{count}_{technology.name}").eq(total)
        return m


def test_adders(tmp_path, seed):
    rng, others = random.Random(seed), [f"other_{index}" for index in range(max(CHOICES))]
    inputs = {"rst": 1, "plain": PLAIN, "enable": 1, "select": 2, **dict.fromkeys(others, OTHER)}
    top = Both()
    outputs = {name: WIDTH for name, member in top.signature.members.items() if member.flow == Out}
    run = verilate.build(tmp_path, export(top, "top") + PRIMITIVES + LUT6, "top", inputs, outputs)
    vectors = []
    for _ in range(CYCLES):
        values = {name: draw(rng, -(1 << (OTHER - 1)), (1 << (OTHER - 1)) - 1) for name in others}
        plain = draw(rng, -(1 << (PLAIN - 1)), (1 << (PLAIN - 1)) - 1)
        vectors.append({"rst": 0, "plain": plain, "enable": rng.randrange(2), "select": rng.randrange(4), **values})
    for cycle, (vector, got) in enumerate(zip(vectors[:-1], run(vectors)[1:], strict=True)):
        want = {"gated": vector["plain"] + vector["enable"] * vector["other_0"]}
        for count in CHOICES:
            if vector["select"] < count:
                want[f"selected_{count}"] = vector["plain"] + vector[f"other_{vector['select']}"]
        for name, total in want.items():
            for technology in ("generic", "ultrascale"):
                assert got[f"{name}_{technology}"] == total & (1 << WIDTH) - 1, f"cycle {cycle}: {name}, {technology}"
