"""What `build --unit` writes: the testbench passes on both technologies' Verilog, and fails on a broken unit; the vectors are true.

Yosys' estimate is replaced where it is not the point: it has tests of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from amaranth.lib.wiring import In, Out

from model.efficientvit.integer import hardswish
from rtl.errors import InputError
from rtl.flow import unit as flow
from rtl.flow.estimate import Resources
from rtl.flow.plain_shell import PlainShell
from rtl.flow.toolchain import run
from rtl.flow.unit_vectors import CYCLES, SETTLED, memory_text, read_memory, replay_bench
from rtl.flow.verilator_build import environment
from rtl.flow.verilog import export
from rtl.units.hardswish import Hardswish
from rtl.units.registry import UNITS
from sim_tests.netlist.test_adders import lut_model
from sim_tests.netlist.test_dsp48e2 import MODEL, PRIMITIVES

COSTS = Resources(lut=1000, ff=10, dsp=6, bram36=1.5, levels=2, carries=1, deepest="a -> b", ns=2.5, slowest="c -> d")
#: Replayed in Verilator, with the parameters of each. Small ones of a kind: what is compiled is mostly what takes time.
REPLAYED = {
    "int8_matmul": {"inputs": 9},
    "code_requantize": {"bits": 6},
    "depthwise_conv": {"bits": 6},
    "linear_attention": {"bits": 4, "depth": 4},
    "exact_quotient": {},
    "exact_reciprocal": {"kind": "uniform"},
}
#: Cycles of that.
REPLAY = 400
QUIET = ("-Wno-WIDTH", "-Wno-UNOPTFLAT", "-Wno-DECLFILENAME", "-Wno-MULTITOP", "-Wno-CASEINCOMPLETE")
UNOPTIMISED = ("-MAKEFLAGS", "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0")


def replayable(name: str, module: str, technology: str) -> tuple[str, str]:
    """Verilog of a unit, and its testbench."""
    shell = PlainShell(UNITS[name].build(technology=technology, **REPLAYED[name]))
    return export(shell, module), replay_bench(module, {"rst": 1, **shell.widths(In)}, shell.widths(Out), REPLAY)


def broken(verilog: str) -> str:
    """With its last sum a difference."""
    before, plus, after = verilog.rpartition(" + ")
    assert plus
    return f"{before} - {after}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Vectors of each unit in a folder of its own."""
    folder = tmp_path_factory.mktemp("replay")
    for name, parameters in REPLAYED.items():
        (folder / name).mkdir()
        for file, text in flow.vectors(UNITS[name], parameters, flow.SEED, REPLAY).items():
            (folder / name / file).write_text(text, encoding="utf-8")
    return folder


def together(folder: Path, benches: dict[str, str]) -> str:
    """A top that runs the testbenches of modules, each with the vectors of a unit."""
    instances = [f'tb_{module} #(.FOLDER("{folder / name}"), .STOP(0)) {module}();' for module, name in benches.items()]
    return "\n".join(["module all;", *instances, "endmodule\n"])


@pytest.fixture(scope="module")
def told(folder: Path) -> str:
    """What the testbenches print on generic Verilog, all in one Verilator model: one for each would take minutes."""
    texts = [text for name in REPLAYED for text in replayable(name, name, "generic")]
    verilog, bench = replayable("int8_matmul", "broken", "generic")
    texts += [broken(verilog), bench, together(folder, {**{name: name for name in REPLAYED}, "broken": "int8_matmul"})]
    (folder / "all.v").write_text("".join(texts), encoding="utf-8")
    command = ["verilator", "--binary", "--timing", "--timescale", "1ns/1ps", *QUIET, *UNOPTIMISED]
    run([*command, "--prefix", "Vtop", "-Mdir", "obj", "--top-module", "all", "all.v"], what="replay", cwd=folder, env=environment())
    return run([folder / "obj" / "Vtop"], what="replay", cwd=folder)


@pytest.mark.parametrize("name", REPLAYED)
def test_testbench_passes(told: str, name: str) -> None:
    assert f"{name}: PASS, {REPLAY} cycles\n" in told


def test_testbench_fails_on_a_broken_unit(told: str) -> None:
    assert "broken: FAIL, " in told and "broken: PASS" not in told


@pytest.mark.parametrize("name", ["int8_matmul", "code_requantize", "exact_quotient"])
@pytest.mark.optional
def test_testbench_passes_on_the_primitives(icarus: str, folder: Path, name: str) -> None:
    """On Icarus: Verilator's code for as many LUTs takes minutes to compile."""
    models = [MODEL.read_text(encoding="utf-8"), PRIMITIVES, *map(lut_model, range(1, 7))]
    text = "".join([*models, *replayable(name, name, "ultrascale"), together(folder, {name: name})])
    # Icarus leaves the outputs of `always @*` unknown until an input changes; always_comb also runs at time zero.
    (folder / f"{name}.sv").write_text(text.replace("always @*", "always_comb"), encoding="utf-8")
    run(["iverilog", "-g2012", "-s", "all", "-o", f"{name}.vvp", f"{name}.sv"], what="Icarus", cwd=folder)
    assert f"{name}: PASS, {REPLAY} cycles\n" in run(["vvp", f"{name}.vvp"], what="replay", cwd=folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two builds of the same, and what the second returns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "estimate", lambda *_: COSTS)
        folders = [tmp_path_factory.mktemp(f"build{index}") for index in range(2)]
        return [flow.build_unit("hardswish", 8, folder, clock_mhz=500) for folder in folders]


def test_build_writes_the_same_bytes_twice(built) -> None:
    first, second = ({file: Path(one["out"], file).read_bytes() for file in one["files"]} for one in built)
    assert first == second and set(first) == {
        "hardswish.v", "tb_hardswish.v", "inputs.hex", "outputs.hex", "resources.json", "manifest.json",
    }  # fmt: skip
    assert Path(built[0]["out"]).name == "unit_hardswish_8"
    assert sorted(path.name for path in Path(built[0]["out"]).parent.iterdir()) == ["unit_hardswish_8"]


def test_build_says_what_it_is(built) -> None:
    summary = built[1]
    manifest = json.loads(Path(summary["out"], "manifest.json").read_text())
    assert manifest["config"] == {"technology": "ultrascale"} and manifest["offsets"] == Hardswish.OFFSETS
    assert manifest["digest"] == summary["digest"] and manifest["latency"] == Hardswish.latency
    assert json.loads(Path(summary["out"], "resources.json").read_text())["lut"] == 1000
    assert "LUT6" in Path(summary["out"], "hardswish.v").read_text()
    assert summary["misfits"] == ["a stage must take at most 2.00 ns at 500 MHz: c -> d takes 2.50 ns"]
    assert any("1,000 lut" in line for line in flow.summary_lines(summary))


def test_vectors_agree_with_the_reference(built) -> None:
    inputs, outputs = (read_memory(Path(built[0]["out"], f"{part}.hex").read_text()) for part in ("inputs", "outputs"))
    compared = 0
    for cycle in range(SETTLED, CYCLES - Hardswish.latency):
        ports = inputs[cycle]
        if ports["fraction"] > 6:
            continue
        p = np.array((ports["i__payload"] ^ 1 << 15) - (1 << 15))
        want = int(hardswish(p, ports["fraction"] + 6)) if ports["enable"] else int(p)
        got = outputs[cycle + Hardswish.latency]
        assert got == {"o__payload": want & 0xFFFF, "o__valid": ports["i__valid"]}, f"cycle {cycle}"
        compared += 1
    assert compared > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(UNITS) - set(REPLAYED)))
def test_vectors_move_the_outputs(name: str) -> None:
    """Every output changes where it is compared."""
    outputs = read_memory(flow.vectors(UNITS[name], {}, flow.SEED)["outputs.hex"])
    changed = dict.fromkeys(outputs[0], 0)
    for before, now in zip(outputs[SETTLED:], outputs[SETTLED + 1 :], strict=False):
        for port in changed:
            changed[port] |= before[port] ^ now[port]
    assert all(changed.values()), changed


def drawn(name: str, **parameters) -> list[dict[str, int]]:
    """The inputs of every cycle."""
    return read_memory(flow.vectors(UNITS[name], parameters, 7)["inputs.hex"])


def test_stimulus_is_legal() -> None:
    for ports in drawn("int8_matmul", inputs=4):
        assert all(ports["weights_0"] >> 8 * k & 255 != 128 for k in range(4))
    cycles = drawn("exact_reciprocal")
    valid = [cycle for cycle, ports in enumerate(cycles) if ports["i__valid"]]
    assert set(np.diff(valid)) == {34} and all(ports["i__payload"] < 1 << 26 for ports in cycles)
    assert {ports["i__payload"] for ports in cycles} >= {0, (1 << 26) - 1}


def test_memory_text_round_trip() -> None:
    cycles = [{"a": 1, "wide": 1 << 69, "b": 0}, {"a": 0, "wide": 5, "b": 3}]
    text = memory_text({"a": 1, "wide": 70, "b": 2}, cycles)
    assert read_memory(text) == cycles
    assert text.splitlines()[:3] == ["// a [0:0]", "// wide [70:1]", "// b [72:71]"]


@pytest.mark.parametrize(
    "name, bits, message",
    [
        ("conv", 8, "unit must be one of xnor_matmul, .*: 'conv' is not; choose one of them"),
        ("depthwise_conv", 9, r"bits must be 4\.\.8: 9 does not; choose a width in that range"),
        ("hardswish", 6, "bits must be 8 for a unit that has one width: 6 is not; leave it out"),
    ],
)
def test_wrong_unit_writes_nothing(tmp_path, name: str, bits: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flow.build_unit(name, bits, tmp_path)
    assert not list(tmp_path.iterdir())
