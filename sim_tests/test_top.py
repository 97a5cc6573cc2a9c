"""The command line: bad input gets one line and exit 2, leaves nothing behind, and --json prints one object."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyosys
import pytest

from model.zoo import shipped_path
from rtl.errors import InputError
from rtl.flow.verilator_build import environment, need_waves
from rtl.top import main

ROOT = Path(__file__).resolve().parents[1]
TINY_PATH = ("--model", "deit_micro")
MICRO = ("--model", "efficientvit_micro")


def top(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rtl.top", *words], cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ | environment
    )


def refused(done: subprocess.CompletedProcess, *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize(
    "words, parts",
    [
        (("--bits", "9", "build"), ("bits must be 1..8", "9")),
        (("--bits", "0", "build"), ("bits must be 1..8", "0")),
        (("--bits", "six", "build"), ("six",)),
        (("--model", "deit_huge", "build"), ("deit_huge", "deit_base")),
        (("--board", "vcu999", "build"), ("vcu999", "zcu102")),
        (("--clock-mhz", "-1", "build"), ("clock", "-1")),
        (("--strategy", "magic", "build"), ("magic", "lut_table")),
        (("--model", "efficientvit_b1", "--bits", "3", "build"), ("--bits must be 4..8 for EfficientViT", "3 is not")),
        ((*MICRO, "--strategy", "popcount", "simulate"), ("--strategy is for binary weights", "popcount")),
        ((*MICRO, "--rows", "12", "simulate"), ("rows must be 16..64", "12")),
        ((*MICRO, "--dsp-clock", "3", "build"), ("dsp_clock must be 1 or 2", "3")),
        (("--model", "deit_micro", "--dsp-clock", "2", "build"), ("--dsp-clock must be 1 for deit_micro", "multiply in LUTs")),
        (("--unit", "int8_matmul", "--dsp-clock", "2", "build"), ("--dsp-clock is for whole machines", "int8_matmul")),
        ((*MICRO, "simulate", "--images", "0"), ("--images", "0")),
        (
            ("--model", "efficientvit_b0", "--checkpoint", "random:0", "--rows", "16", "simulate", "--images", "1"),
            ("activations must fit", "512 words"),
        ),
        (("--model", "efficientvit_b0", "--checkpoint", "random:0", "--rows", "16", "build"), ("activations must fit", "512 words")),
        (("--model", "deit_micro", "--rows", "0", "build"), ("rows", "0")),
        (("--model", "deit_micro", "--rows", "7", "build"), ("rows must be even", "7")),
        (("--checkpoint", "no/such/file.npz", "build"), ("no/such/file.npz",)),
        (("--checkpoint", "random:x", "build"), ("random:SEED", "x")),
        (("--fps", "0", "simulate"), ("--fps must be positive", "0 is not")),
        (("--fps", "-24", "plan"), ("--fps must be positive", "-24 is not")),
        (("--fps", "nan", "plan"), ("--fps must be positive", "nan is not")),
        (("--fps", "fast", "plan"), ("--fps", "fast")),
        (("--fps", "30", "--unit", "softmax", "build"), ("--fps is for whole machines", "softmax")),
        (("--unit", "softmax", "plan"), ("--unit must come with build", "plan")),
        (("plan",), ("plan needs a frame rate", "--fps 25")),
        (("--model", "nowhere.toml", "--fps", "24", "plan"), ("a model file must exist", "nowhere.toml")),
        (("--board", "nowhere.toml", "--fps", "24", "plan"), ("a board file must exist", "nowhere.toml")),
        (("sweep", "--precisions", "8,six"), ("--precisions", "8,six")),
        (("sweep", "--workers", "0"), ("--workers must be at least 1", "0 is not")),
        ((*TINY_PATH, "sweep", "--scheduler", "nowhere"), ("--scheduler must be the address of one", "nowhere")),
        ((*TINY_PATH, "sweep", "--scheduler", "tcp://127.0.0.1:1"), ("a scheduler must answer", "tcp://127.0.0.1:1")),
        ((*TINY_PATH, "build", "--images", "0"), ("--images", "0")),
        ((*TINY_PATH, "--ddr-gbps", "0", "simulate"), ("--ddr-gbps", "19.2")),
        ((*TINY_PATH, "simulate", "--waves", "x.fst", "--window", "9:5"), ("--window", "9:5", "FIRST:LAST")),
        (("report",), ("report", "not done yet")),
        ((), ("VERB",)),
        ((*TINY_PATH, "simulate", "--images", "0"), ("--images", "0")),
        ((*TINY_PATH, "simulate", "--images", "10001"), ("--images", "10001")),
        ((*TINY_PATH, "simulate", "--source", "cats"), ("cats", "fashion-mnist")),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    refused(top("--out", str(tmp_path / "out"), *words), *parts)
    assert not list(tmp_path.rglob("*")), "something half-written is left"


def test_truncated_and_foreign_checkpoints(tmp_path: Path) -> None:
    whole = shipped_path("deit_micro", 8).read_bytes()
    truncated, foreign = tmp_path / "truncated.npz", tmp_path / "foreign.npz"
    truncated.write_bytes(whole[: len(whole) // 2])
    foreign.write_bytes(b"not a checkpoint")
    for path in (truncated, foreign):
        refused(top("--model", "deit_micro", "--checkpoint", str(path), "--out", str(tmp_path / "out"), "simulate"), path.name)
    refused(top("--model", "deit_micro", "--bits", "6", "--checkpoint", str(shipped_path("deit_micro", 8)), "simulate"), "bits")
    assert not (tmp_path / "out").exists()


def test_unwritable_folder(tmp_path: Path) -> None:
    """A file where the folder should be: also refused to root."""
    (tmp_path / "out").write_text("in the way")
    refused(top("--model", "deit_micro", "--out", str(tmp_path / "out"), "build"), "out")
    assert (tmp_path / "out").read_text() == "in the way"


def test_missing_compiler(tmp_path: Path) -> None:
    """An empty PATH and an empty cache: the compiler is named, with how to get it."""
    refused(top("--model", "deit_micro", "--out", str(tmp_path / "out"), "simulate", PATH="", POPVIT_CACHE=str(tmp_path / "cache")), "g++")


def test_simulate_json(tmp_path: Path) -> None:
    done = top("--model", "deit_micro", "--bits", "8", "--out", str(tmp_path), "--json", "simulate", "--images", "3")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bit_exact"] is True and told["mismatches"] == [] and told["images"] == 3 and told["bits"] == 8
    assert told["accuracy"] == told["reference_accuracy"] and told["agreement"] == 100
    assert told["fps"] == pytest.approx(told["clock_mhz"] * 1e6 / told["cycles_per_image"])
    assert 0 < told["utilisation"] < 1
    account = told["account"]
    assert sum(account["total"].values()) == told["cycles"] == pytest.approx(3 * told["cycles_per_image"])
    assert {"patch", "0.qkv", "3.fc2", "head"} <= set(account["layers"])
    assert account["total"]["compute"] > told["utilisation"] * told["cycles"]


def test_a_rate_that_a_slow_memory_cannot_feed_has_no_machine(tmp_path: Path) -> None:
    """Exit 1 and a line that names the limit; nothing is simulated."""
    done = top(
        "--model", "deit_micro", "--out", str(tmp_path), "--fps", "20000", "--ddr-gbps", "0.4", "--json", "simulate", "--images", "1"
    )
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"^popvit: --fps 20000 must be within reach of deit_micro on zcu102 at 250 MHz: the limit is [0-9,.]+, at 1 bit,", last
    ), last
    assert not list(tmp_path.rglob("*"))


def test_plan_json(tmp_path: Path) -> None:
    done = top("--model", "deit_micro", "--out", str(tmp_path), "--fps", "3000", "--json", "plan")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["feasible"] is True and told["bits"] == 8 and told["clock_mhz"] == 250 and told["rows"] == told["parameters"]["rows"]
    predicted = told["predicted"]
    assert predicted["fps"] == pytest.approx(250e6 / predicted["cycles_per_image"]) and predicted["fps"] >= 3000
    assert told["limit_fps"] > predicted["fps"] and set(predicted["resources"]) == {"lut", "ff", "dsp", "bram36"}
    assert sum(predicted["account"].values()) == pytest.approx(predicted["cycles_per_image"] * predicted["images"])
    assert "Vivado has not been run" in told["source"]


def test_what_is_planned_reaches_its_rate(tmp_path: Path) -> None:
    """The machine of the plan, through its RTL: as fast as predicted, within the error that plans allow for, and exact."""
    words = ("--model", "deit_micro", "--bits", "8", "--rows", "6", "--fps", "9000", "--out", str(tmp_path), "--json")
    plan = json.loads(top(*words, "plan").stdout)
    done = top(*words, "simulate", "--images", "8")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bit_exact"] is True and told["rows"] == plan["rows"] and told["fps"] >= 9000
    assert told["cycles_per_image"] == pytest.approx(plan["predicted"]["cycles_per_image"], rel=plan["margin"])


def test_a_plan_out_of_reach_says_the_limit(tmp_path: Path) -> None:
    done = top("--model", "deit_micro", "--out", str(tmp_path), "--fps", "1e6", "--json", "plan")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["feasible"] is False and told["bits"] is None and 0 < told["limit_fps"] < 1e6
    assert "the limit is" in done.stderr.strip().splitlines()[-1]


def test_a_sweep_is_kept_and_told(tmp_path: Path) -> None:
    words = (
        "--model",
        "deit_micro",
        "--out",
        str(tmp_path),
        "--json",
        "sweep",
        "--precisions",
        "8,4",
        "--row-counts",
        "6,9",
        "--workers",
        "1",
    )
    first, again = top(*words), top(*words)
    assert first.returncode == again.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert json.loads(again.stdout) == told and len(list(tmp_path.rglob("points/*.json"))) == 4
    by_rows = {(point["bits"], point["rows"]): point for point in told["points"]}
    assert "rows must be even" in by_rows[8, 9]["error"] and "9 rows" in first.stderr
    assert by_rows[8, 6]["resources"]["lut"] > by_rows[4, 6]["resources"]["lut"] > 0


@pytest.mark.slow
def test_waves_of_the_command_line(tmp_path: Path) -> None:
    try:
        need_waves()
    except InputError as error:
        pytest.skip(str(error))
    path = tmp_path / "window.fst"
    done = top(*TINY_PATH, "--out", str(tmp_path), "simulate", "--images", "1", "--waves", str(path), "--window", "100:200")
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 0


def test_a_build_that_does_not_fit_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """What `rtl.flow.fit` says is told line by line, and the exit status is 1; the estimate itself is not run here."""
    lines = ["lut must be at most 205,560 (75% of 274,080 on zcu102): 238,100 is not", "56 rows fit: use --rows 56"]
    monkeypatch.setattr("rtl.flow.build.build", lambda *_, **__: {"misfits": lines})
    assert main(["--model", "deit_micro", "--json", "build"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["misfits"] == lines
    assert told.err.strip().splitlines()[-2:] == [f"popvit: {line}" for line in lines]


def test_build_is_reproducible(tmp_path: Path) -> None:
    """Two builds into different folders: the same digest and bytes; the manifest says what has not been run."""
    told = []
    for name in ("one", "two"):
        done = top("--model", "deit_micro", "--bits", "4", "--out", str(tmp_path / name), "--json", "build")
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0]["digest"] == told[1]["digest"]
    assert set(told[0]["resources"]) == {"lut", "ff", "dsp", "bram36"}
    assert told[0]["misfits"] == []
    parts = told[0]["parts"]
    assert {"row", "key_value_bank", "row_feeder", "accelerator"} == set(parts) and parts["row"]["count"] == told[0]["rows"]
    assert {"dispatcher", "dma", "sequencer", "supervisor"} <= set(parts["accelerator"]["units"])
    assert 0 < told[0]["slicem"]["used"] <= told[0]["resources"]["lut"]
    folder = Path(told[0]["out"])
    assert {"manifest.json", "program.bin", "weights.bin", "verilog/row.v"} <= set(told[0]["files"])
    assert json.loads((folder / "manifest.json").read_text())["status"] == "Vivado has not been run"
    assert not [path for path in (tmp_path / "one").iterdir() if path != folder], "a temporary folder is left"
    assert lint(folder) <= HARMLESS


#: What Yosys writes on purpose (narrowing assignments, incomplete cases), pins of a primitive left open, and the port called `interrupt`.
HARMLESS = {"WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "PINMISSING", "SYMRSVDWORD"}


def lint(folder: Path) -> set[str]:
    """Kinds of warnings of `verilator --lint-only` on a build; an error fails."""
    cells = Path(pyosys.__file__).parent / "share" / "xilinx"
    sources = [*sorted((folder / "verilog").glob("*.v")), cells / "cells_sim.v", cells / "cells_xtra.v"]
    words = ["verilator", "--lint-only", "--bbox-unsup", "--timing", "-Wno-fatal", "--top-module", "accelerator", *map(str, sources)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-2000:]
    return set(re.findall(r"%Warning-([A-Z0-9]+)", done.stderr))
