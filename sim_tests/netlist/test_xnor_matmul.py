"""The UltraScale+ build of `XnorMatmul`, as primitives and as yosys synthesises it, against numpy; and what it costs.

The primitives run on yosys' own models of the Xilinx cells (`cells_sim.v` of the pyosys wheel), in Verilator. In every run one bank is
refilled while the other is read, in every cycle.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pyosys
import pytest
from amaranth.lib import wiring

from rtl.arith.lut_table import LutTable
from rtl.flow import netlist, timing
from rtl.flow.estimate import to_rtlil
from rtl.flow.plain_shell import PlainShell
from rtl.flow.toolchain import run
from rtl.tech.table_layout import TableLayout
from rtl.tech.ultrascale import Ultrascale
from rtl.units.xnor_matmul import XnorMatmulConfig
from sim_tests.cocotb import matmul_stimulus
from sim_tests.netlist import verilate

CELLS = next(Path(pyosys.__file__).parent.glob("**/xilinx/cells_sim.v"))
MEASURED = Path(__file__).with_name("xnor_matmul.json")
# Unused outputs of primitives are left open; the models carry timing checks.
QUIET = "".join(f"/* verilator lint_off {name} */\n" for name in ("PINMISSING", "SPECIFYIGN", "INITIALDLY"))
SYNTHESIS = "synth_xilinx -family xcup -top row -flatten -noiopad -noclkbuf"
DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.argv[1:]:
    libyosys.run_pass("tee -q -a yosys.log " + line, design)
"""


@dataclass(frozen=True)
class Packed(Ultrascale):
    """UltraScale+ with RAMs that straddle chunks, or not, whatever is smaller."""

    shared: bool

    def layout(self, inputs: int, bits: int) -> TableLayout:
        return TableLayout(inputs=inputs, bits=bits, shared=self.shared)


def yosys(component: wiring.Component, folder: Path, *passes: str) -> None:
    (folder / "row.il").write_text(to_rtlil(component, "row"), encoding="utf-8")
    run([sys.executable, "-c", DRIVER, "read_rtlil row.il", *passes], what="yosys", cwd=folder)


def compare(config: XnorMatmulConfig, folder: Path, *passes: str) -> None:
    """Runs the netlist that `passes` make, and expects every result, and each at its cycle."""
    yosys(PlainShell(config.unit()), folder, *passes, "write_verilog -noattr row.v")
    inputs = {"rst": 1, "i_activations_payload": config.bits + 2, "i_activations_valid": 1}
    inputs |= {"i_weights_payload": config.inputs + 1, "i_weights_valid": 1}
    width = config.shape.width
    row, cells = (path.read_text(encoding="utf-8") for path in (folder / "row.v", CELLS))
    design = QUIET + row.replace("__", "_") + cells  # in C++, Verilator spells a double underscore in another way
    simulate = verilate.build(folder, design, "row", inputs, {"o_payload": width, "o_valid": 1})
    for seed, extreme, gap in ((1, False, 0.0), (2, True, 0.0), (3, False, 0.3)):
        stimulus = matmul_stimulus.make(
            seed, inputs=config.inputs, bits=config.bits, fill_lead=config.fill_lead, extreme=extreme, activation_gap=gap, weight_gap=gap
        )
        got = {
            cycle - config.latency: result["o_payload"] - (result["o_payload"] >> (width - 1) << width)
            for cycle, result in enumerate(simulate(vectors(stimulus, config.latency + 2)))
            if result["o_valid"]
        }
        assert got == stimulus.results


def vectors(stimulus: matmul_stimulus.Stimulus, more: int) -> list[dict[str, int]]:
    return [
        {
            "rst": 0,
            "i_activations_valid": int(cycle in stimulus.activations),
            "i_activations_payload": stimulus.activations.get(cycle, 0),
            "i_weights_valid": int(cycle in stimulus.weights),
            "i_weights_payload": stimulus.weights.get(cycle, 0),
        }
        for cycle in range(stimulus.cycles + more)
    ]


@pytest.mark.parametrize("inputs, bits, shared", [(64, 8, False), (112, 6, True), (48, 4, True)])
def test_primitives(tmp_path: Path, inputs: int, bits: int, shared: bool) -> None:
    config = XnorMatmulConfig(inputs=inputs, bits=bits, strategy=LutTable(technology=Packed(shared)))
    compare(config, tmp_path, "hierarchy -top row", "proc", "flatten", "opt_clean")


@pytest.mark.slow
@pytest.mark.parametrize("inputs, bits, shared", [(64, 8, False), (68, 7, True), (112, 6, True), (48, 4, True), (32, 1, True)])
def test_synthesised(tmp_path: Path, inputs: int, bits: int, shared: bool) -> None:
    config = XnorMatmulConfig(inputs=inputs, bits=bits, strategy=LutTable(technology=Packed(shared)))
    compare(config, tmp_path, SYNTHESIS)


@pytest.mark.slow
@pytest.mark.parametrize("bits, ceiling", [(8, 2450), (6, 1980), (4, 1560)])
def test_row_cost(tmp_path: Path, bits: int, ceiling: int) -> None:
    """The 768-input row costs what `xnor_matmul.json` says, part by part, and no stage is deeper than two LUTs and a carry chain."""
    unit = XnorMatmulConfig(inputs=768, bits=bits, strategy=LutTable(technology=Ultrascale())).unit()
    yosys(PlainShell(unit, left_open=("operands",)), tmp_path, SYNTHESIS, "write_json row.json")
    flat = netlist.Netlist.load(tmp_path / "row.json", "row")
    cost = parts(flat)
    deepest = timing.Timing(flat).deepest()
    assert cost["tables"] + cost["tree"] <= ceiling
    assert deepest.levels <= 2 and deepest.carries <= 1, str(deepest)
    assert cost == json.loads(MEASURED.read_text(encoding="utf-8"))[str(bits)]


def parts(flat: netlist.Netlist) -> dict[str, int]:
    """LUTs by part of the unit, and all flip-flops and CARRY8s. Explicit primitives keep their path as name; the others are `rest`."""
    weights = {"RAM32M16": 8, "LUT6_2": 1, "SRL16E": 1, "SRLC32E": 1} | {f"LUT{k}": 1 for k in range(1, 7)}
    cost = dict.fromkeys(("tables", "tree", "generators", "rest"), 0)
    for cell in flat.cells:
        where = next((part for part in cost if f".{part.removesuffix('s') if part == 'generators' else part}" in cell.name), "rest")
        cost[where] += weights.get(cell.type, 0)
    counted = netlist.occupied(flat)
    return cost | {"ff": counted["ff"], "carry8": counted["carry8"]}
