"""How every result came to be."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sections.markdown import Result, table


def section(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        seconds = result["seconds"]
        times = [f"{seconds[key]:,.0f}" for key in ("simulator_build", "simulation", "build")]
        rows.append(
            [result["name"], "<br>".join(f"`{line}`" for line in result["commands"]), *times, f"{result['cycles_per_second']:,.0f}"]
        )
    versions = sorted({", ".join(f"{name} {version}" for name, version in result["tools"].items()) for result in results})
    columns = ("result", "commands", "simulator build, s", "simulation, s", "build, s", "cycles/s")
    return "## How to repeat\n\n" + table(columns, rows) + "\n" + "\n".join(f"* {line}" for line in versions) + "\n"
