"""The adders that share their LUTs with a gate or a choice, and tables: generic twin == explicit primitives == exact values."""

import random

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from model.integer import EXP_TABLE
from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import generic, ultrascale
from sim_tests.netlist import verilate
from sim_tests.netlist.test_dsp48e2 import PRIMITIVES, draw

CYCLES, PLAIN, OTHER, WIDTH, CHOICES = 3000, 12, 10, 13, (1, 2, 3, 4)
#: By name. Bits of one input, of several, of all six, constant ones; and one of 16 entries.
TABLES = {
    "exponential": [int(value) for value in EXP_TABLE[:64]],
    "mixed": [(index & 1) | 2 | (index >> 3 & 1) << 2 | (index % 3 == 0) << 4 | (index == 63) << 5 for index in range(64)],
    "short": [(7 * index) % 11 for index in range(16)],
}


def lut_model(size):
    """LUT1 to LUT6, as Xilinx describes them."""
    pins = [f"I{k}" for k in range(size)]
    return f"""
module LUT{size} #(parameter [{(1 << size) - 1}:0] INIT = 0) (output O, input {", ".join(pins)});
  assign O = INIT[{{{", ".join(reversed(pins))}}}];
endmodule
"""


class Both(wiring.Component):
    """``gated``, ``selected_<n>`` of the first n others, and each table's entry, in both technologies, a cycle later."""

    def __init__(self):
        sums = ["gated", *(f"selected_{count}" for count in CHOICES)]
        others = {f"other_{index}": In(signed(OTHER)) for index in range(max(CHOICES))}
        outputs = {f"{name}_{technology.name}": Out(WIDTH) for name in (*sums, *TABLES) for technology in (generic, ultrascale)}
        super().__init__({"plain": In(signed(PLAIN)), "enable": In(1), "select": In(2), "index": In(6), **others, **outputs})

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
            for name, values in TABLES.items():
                entry = technology.table(m, values, self.index[: exact_log2(len(values))])
                m.d.sync += getattr(self, f"{name}_{technology.name}").eq(entry)
        return m


def test_adders(tmp_path, seed):
    rng, others = random.Random(seed), [f"other_{index}" for index in range(max(CHOICES))]
    inputs = {"rst": 1, "plain": PLAIN, "enable": 1, "select": 2, "index": 6, **dict.fromkeys(others, OTHER)}
    top = Both()
    outputs = {name: WIDTH for name, member in top.signature.members.items() if member.flow == Out}
    run = verilate.build(tmp_path, export(top, "top") + PRIMITIVES + "".join(map(lut_model, range(1, 7))), "top", inputs, outputs)
    vectors = []
    for _ in range(CYCLES):
        values = {name: draw(rng, -(1 << (OTHER - 1)), (1 << (OTHER - 1)) - 1) for name in others}
        plain = draw(rng, -(1 << (PLAIN - 1)), (1 << (PLAIN - 1)) - 1)
        choices = {"enable": rng.randrange(2), "select": rng.randrange(4), "index": rng.randrange(64)}
        vectors.append({"rst": 0, "plain": plain, **choices, **values})
    for cycle, (vector, got) in enumerate(zip(vectors[:-1], run(vectors)[1:], strict=True)):
        want = {"gated": vector["plain"] + vector["enable"] * vector["other_0"]}
        want |= {name: values[vector["index"] % len(values)] for name, values in TABLES.items()}
        for count in CHOICES:
            if vector["select"] < count:
                want[f"selected_{count}"] = vector["plain"] + vector[f"other_{vector['select']}"]
        for name, total in want.items():
            for technology in ("generic", "ultrascale"):
                assert got[f"{name}_{technology}"] == total & (1 << WIDTH) - 1, f"cycle {cycle}: {name}, {technology}"
