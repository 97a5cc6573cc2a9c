"""Tables, and what stands in them where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.families import FAMILIES, Family, family_of

NONE = "-"
Result = Mapping[str, Any]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def used_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Without the columns that say nothing in any row."""
    kept = [place for place in range(len(columns)) if any(row[place] != NONE for row in rows)]
    return table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def by_family(results: Sequence[Result]) -> list[tuple[Family, list[Result]]]:
    """Families that have results, with these."""
    found = [(family, [result for result in results if family_of(result["model"]) is family]) for family in FAMILIES]
    return [(family, chosen) for family, chosen in found if chosen]


def steady(result: Result) -> float:
    """Cycles per image in a stream, where that was measured, else of the whole run."""
    return result.get("cycles_per_further_image", result["cycles_per_image"])
