"""The longest way between registers, of each module and, of one machine of each family, of each unit; what a module costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sections.markdown import NONE, Result, by_family, table, used_table


def section(results: Sequence[Result]) -> str:
    columns = ("result", "module", "LUT each", "FF each", "DSP each", "BRAM36 each", "LUT levels + carries", "ns (modelled)", "worst stage")
    rows = [row for result in results for row in _modules(result)]
    units = "".join(_units(chosen[0]) for _, chosen in by_family(results))
    return f"## Worst stage of each module\n\nThe rule: at most 2 levels + 1 carry.\n\n{used_table(columns, rows)}{units}"


def _modules(result: Result) -> list[list[str]]:
    rows = []
    for name, part in result["stages"].items():
        costs = [f"{part[kind]:,}" if kind in part else NONE for kind in ("lut", "ff", "dsp", "bram36")]
        stage = [f"{part['levels']} + {part['carries']}", f"{part['ns']:.2f}", f"`{part['deepest']}`"]
        rows.append([result["name"], f"{name} x {part['count']}", *costs, *stage])
    return rows


def _units(result: Result) -> str:
    rows = [
        [name, unit, f"{stage['levels']} + {stage['carries']}", f"{stage['ns']:.2f}", f"`{stage['path']}`"]
        for name, part in result["stages"].items()
        for unit, stage in sorted(part["units"].items())
    ]
    columns = ("module", "unit", "LUT levels + carries", "ns (modelled)", "worst stage that ends in it")
    return f"\nOf each unit, {result['name']}:\n\n{table(columns, rows)}"
