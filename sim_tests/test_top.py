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
from rtl.flow.verilator_build import environment

ROOT = Path(__file__).resolve().parents[1]
TINY_PATH = ("--model", "deit_micro")


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
        (("--model", "deit_base_distilled", "build"), ("not lowered yet", "deit_base")),
        (("--board", "vcu999", "build"), ("vcu999", "zcu102")),
        (("--clock-mhz", "-1", "build"), ("clock", "-1")),
        (("--strategy", "magic", "build"), ("magic", "lut_table")),
        (("--model", "deit_micro", "--rows", "0", "build"), ("rows", "0")),
        (("--model", "deit_micro", "--rows", "7", "build"), ("lanes",)),
        (("--checkpoint", "no/such/file.npz", "build"), ("no/such/file.npz",)),
        (("--checkpoint", "random:x", "build"), ("random:SEED", "x")),
        (("--fps", "30", "build"), ("--fps",)),
        (("plan",), ("plan", "not done yet")),
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
    done = top("--model", "deit_micro", "--bits", "8", "--out", str(tmp_path), "--json", "simulate", "--images", "2")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bit_exact"] is True and told["mismatches"] == [] and told["images"] == 2 and told["bits"] == 8
    assert told["accuracy"] == told["reference_accuracy"]
    assert told["fps"] == pytest.approx(told["clock_mhz"] * 1e6 / told["cycles_per_image"])
    assert 0 < told["utilisation"] < 1


def test_build_is_reproducible(tmp_path: Path) -> None:
    """Two builds into different folders: the same digest and bytes; the manifest says what has not been run."""
    told = []
    for name in ("one", "two"):
        done = top("--model", "deit_micro", "--bits", "4", "--out", str(tmp_path / name), "--json", "build")
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0]["digest"] == told[1]["digest"]
    assert set(told[0]["resources"]) == {"lut", "ff", "dsp", "bram36"}
    assert told[0]["over_budget"] == []
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
