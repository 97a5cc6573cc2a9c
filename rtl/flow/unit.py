"""Writes one unit of the registry: its Verilog, vectors with a testbench that replays them, resource estimate, manifest. All or nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.build import REPORTED
from rtl.flow.estimate import SOURCE, Resources, estimate, to_rtlil
from rtl.flow.plain_shell import PlainShell
from rtl.flow.toolchain import digest
from rtl.flow.unit_vectors import CYCLES, SETTLED, memory_text, replay_bench, simulate, stimulus
from rtl.flow.verilog import verilog_of
from rtl.units.registry import UnitEntry, unit

SEED = 1
TECHNOLOGY = "ultrascale"


def build_unit(name: str, bits: int, out: Path, *, clock_mhz: float = 250.0, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Build unit `name` of the registry at a precision of `bits` into unit_<name>_<bits> of folder `out`; returns what --json prints.

    The Verilog is made of the primitives of UltraScale+; vectors come from the plain-arithmetic twin, so that replaying them proves the one
    by the other. The files depend on the arguments alone. A unit that is too slow for `clock_mhz` is written too; `misfits` says so.

    Raises
    ------
    InputError : no unit has that name, or it has no such precision.
    """
    began, entry = time.monotonic(), unit(name)
    parameters = entry.precision(bits)
    made = entry.build(technology=TECHNOLOGY, **parameters)  # its laws, before anything is written
    shell, folder_name = PlainShell(made), f"unit_{name}_{bits}"
    texts = {f"tb_{name}.v": replay_bench(name, _inputs(shell), shell.widths(Out))}
    say("Verilog")
    rtlil = to_rtlil(shell, name)
    texts[f"{name}.v"] = verilog_of(rtlil, name)
    say("vectors")
    texts |= vectors(entry, parameters, SEED)
    say("synthesising for the resource estimate")
    resources = estimate(rtlil, name)
    texts["resources.json"] = _json(resources.to_dict())
    about = _about(name, bits, made, clock_mhz) | {"digest": digest(*(part for item in sorted(texts.items()) for part in item))}
    texts["manifest.json"] = _json(about)
    _write(texts, out, folder_name)
    return {
        "unit": name,
        "bits": bits,
        "out": str(out / folder_name),
        "files": sorted(texts),
        "resources": {kind: getattr(resources, kind) for kind in REPORTED},
        **{kind: getattr(resources, kind) for kind in ("levels", "carries", "deepest", "ns", "slowest")},
        "clock_mhz": clock_mhz,
        "misfits": _misfits(resources, clock_mhz),
        "resource_source": SOURCE,
        "digest": about["digest"],
        "seconds": time.monotonic() - began,
    }


def vectors(entry: UnitEntry, parameters: Mapping[str, Any], seed: int, count: int = CYCLES) -> dict[str, str]:
    """inputs.hex and outputs.hex of the unit's generic twin, ``count`` cycles."""
    shell = PlainShell(entry.build(technology="generic", **parameters))
    cycles = stimulus(entry, shell, seed, count)
    return {"inputs.hex": memory_text(_inputs(shell), cycles), "outputs.hex": memory_text(shell.widths(Out), simulate(shell, cycles))}


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """What `build --unit` tells."""
    resources = ", ".join(f"{count:,g} {kind}" for kind, count in summary["resources"].items())
    return [
        f"{summary['unit']}, {summary['bits']} bits: {summary['out']}",
        f"{resources} ({summary['resource_source']})",
        f"slowest stage {summary['ns']:.2f} ns; deepest {summary['levels']} LUT levels + {summary['carries']} carry chains",
        f"replay: {CYCLES} cycles, compared from {SETTLED} on; testbench tb_{summary['unit']}.v",
    ]


def _inputs(shell: PlainShell) -> dict[str, int]:
    return {"rst": 1, **shell.widths(In)}


def _about(name: str, bits: int, made: wiring.Component, clock_mhz: float) -> dict[str, Any]:
    told = {key: getattr(made, key) for key in ("latency", "OFFSETS") if hasattr(made, key)}
    return {
        "unit": name,
        "bits": bits,
        "config": plain(getattr(made, "config", None)),
        "technology": TECHNOLOGY,
        "clock_mhz": clock_mhz,
        **{key.lower(): plain(value) for key, value in told.items()},
        "vectors": {"seed": SEED, "cycles": CYCLES, "compared_from": SETTLED},
        "versions": {package: version(package) for package in ("popvit", "amaranth", "pyosys")},
        "status": "Vivado has not been run",
    }


def plain(value: Any) -> Any:
    """A configuration as JSON has it: technologies and functions by their names."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "name", None) or getattr(value, "__name__", None) or type(value).__name__


def _misfits(resources: Resources, clock_mhz: float) -> list[str]:
    period = 1000 / clock_mhz
    if resources.ns <= period:
        return []
    return [f"a stage must take at most {period:.2f} ns at {clock_mhz:g} MHz: {resources.slowest} takes {resources.ns:.2f} ns"]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _write(texts: Mapping[str, str], out: Path, name: str) -> None:
    """An old build goes only when the new one is whole."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as folder:
        aside, target = Path(folder, name), out / name
        aside.mkdir()
        for file, text in texts.items():
            (aside / file).write_text(text, encoding="utf-8")
        if target.exists():
            target.rename(Path(folder, "old"))
        aside.rename(target)
        shutil.rmtree(Path(folder, "old"), ignore_errors=True)
