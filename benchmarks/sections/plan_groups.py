"""The plan and a run of RTL by groups of layers, and in words what makes them differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.sections.markdown import NONE, Result, table

#: Differences above this share are put in words; terms of less than `TERM` of a group are not named.
NOTABLE, TERM = 0.03, 0.01
_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(\w+)")
_COLUMNS = (
    "group", "plan computes", "plan idle", "plan's depthwise engine", "RTL computes", "RTL waits", "RTL's depthwise engine", "difference",
    "why",
)  # fmt: skip
_WORDS = {
    "depth": "depthwise results or room in the ring",
    "attention": "keys, values and states",
    "align": "the grid of 16",
    "hazard": "results in flight",
    "weights": "weights",
    "input": "the image",
}
_HALF_WORD = "16 channels fill half a word, and a step takes 16 cycles all the same"
_DIVISORS = "a score step's divisors take their place in the grid of 16"
Counts = Mapping[str, float]


def group_of(layer: str) -> str:
    """Layers that are told together: "stages.2.blocks.1.context_module.main.qkv" -> "stage 2, attention"."""
    found = _BLOCK.match(layer)
    if not found:
        return layer.partition(".")[0]
    stage, block, part = found.groups()
    kind = "stride 2" if block == "0" else "attention" if part == "context_module" else "MBConvs"
    return f"stage {stage}, {kind}"


def grouped(layers: Counts) -> dict[str, float]:
    found: dict[str, float] = {}
    for layer, count in layers.items():
        found[group_of(layer)] = found.get(group_of(layer), 0) + count
    return found


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cycles per image of the array for some layers, and of the depthwise engine; idle and waiting ahead of a step count with it."""

    name: str
    planned: float
    planned_idle: float
    planned_depth: float
    computes: float
    waits: Counts
    depth: float

    @property
    def difference(self) -> float:
        """RTL to plan, as a share."""
        return (self.computes + sum(self.waits.values())) / (self.planned + self.planned_idle) - 1

    @property
    def why(self) -> str:
        return "; ".join(self._terms()) if abs(self.difference) > NOTABLE else NONE

    def _terms(self) -> Iterator[str]:
        """The parts of the difference that count."""
        least, more = TERM * (self.planned + self.planned_idle), self.computes - self.planned
        if abs(more) > least:
            yield f"computes {more:+,.0f}: {_DIVISORS if 'attention' in self.name else _HALF_WORD}"
        for kind, count in sorted(self.waits.items(), key=lambda item: -item[1]):
            if count > least:
                yield f"{count:,.0f} for {_WORDS[kind]}{self._slower() if kind == 'depth' else ''}"
        if self.planned_idle > least:
            yield f"less the plan's own idle {self.planned_idle:,.0f}"

    def _slower(self) -> str:
        """Stride 2: four inputs are read for an output, for which the plan has twice the ports."""
        more = self.depth - self.planned_depth
        return f", the engine takes {more:,.0f} more than planned" if more > NOTABLE * self.planned_depth else ""

    @property
    def row(self) -> list[str]:
        waits = sum(self.waits.values())
        figures = (self.planned, self.planned_idle, self.planned_depth, self.computes, waits, self.depth)
        return [self.name, *(f"{figure:,.0f}" for figure in figures), f"{100 * self.difference:+.1f} %", self.why]


def groups(plan: Mapping[str, Any], result: Result) -> list[Group]:
    """In the network's order. ``plan``: of one batch, by engine and layer; the array's as [computes, idle]."""
    planned, idle = (grouped({name: pair[place] for name, pair in plan["array"].items()}) for place in (0, 1))
    planned_depth, images = grouped(plan["depth"]), result["images"]
    depth = grouped({name: count / images for name, count in result["account"]["engines"]["depth"].items()})
    kinds = [kind for kind in result["account"]["total"] if kind != "drain"]
    found = {kind: grouped({name: counts[kind] / images for name, counts in result["account"]["layers"].items()}) for kind in kinds}
    return [
        Group(
            name=name, planned=planned[name], planned_idle=idle[name], planned_depth=planned_depth.get(name, 0), depth=depth.get(name, 0),
            computes=found["compute"][name], waits={kind: found[kind][name] for kind in kinds if kind != "compute"},
        )
        for name in planned
    ]  # fmt: skip


def groups_text(plan: Mapping[str, Any], result: Result) -> str:
    """A table with a last line over all of it."""
    title = "one image" if result["images"] == 1 else "pairs of images in a stream"
    every = groups(plan, result)
    planned = sum(group.planned + group.planned_idle for group in every)
    found = sum(group.computes + sum(group.waits.values()) for group in every)
    drain = result["account"]["total"]["drain"] / result["images"]
    return (
        f"### By group, {title}, cycles per image ({result['name']})\n\n{table(_COLUMNS, [group.row for group in every])}"
        f"\nAll groups: plan {planned:,.0f}, RTL {found:,.0f} ({100 * (found / planned - 1):+.1f} %). Before the array's first step and "
        f"behind its last one, in no group: {drain:,.0f}.\n"
    )
