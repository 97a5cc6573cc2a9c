"""RTL beside the plan that the machine was built from, on EfficientViT-B1: whole runs, then groups of layers with what differs and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.families import EFFICIENTVIT
from benchmarks.layers import LINEAR
from benchmarks.sections.markdown import NONE, Result, table
from benchmarks.sections.plan_groups import NOTABLE, groups_text
from boards import platform

PLAN = json.loads((Path(__file__).resolve().parents[1] / "plan.json").read_text(encoding="utf-8"))
CLOCK_MHZ = 250
#: Images of the RTL run that stands beside a batch of the plan: pairs in a stream, or one image alone.
BESIDE = {2: 6, 1: 1}
_HEAD = """\
## Beside the plan

Source: {source}. EfficientViT-B1 at 224 on {rows} rows, 8 bits, {clock} MHz.

The plan's figures are those of a stream, and its batch 1 is a stream of single images, in which the head of one image hides behind the
next. An image alone cannot reach it: the fully connected layers' {megabytes:.2f} MB of weights are asked for when the pool is done,
which is {thousands:.0f} k cycles of DDR behind all other work. The RTL's images go in pairs, so its stream stands beside the plan's
batch 2, and its runs of one and two images beside the plan's first batch alone.
"""
_NOTE = f"""
A dash: no such run. What makes differences of more than {NOTABLE:.0%} follows by group; what lies behind the array's last step is in none.
There two images alone end with two heads, one after the other: the plan fetches the weights once for both and multiplies 64 a cycle, the
RTL fetches them for each and waits for DDR.
"""


def section(results: Sequence[Result]) -> str:
    """Empty without a result of the plan's machine."""
    chosen = [result for result in results if _planned(result)]
    if not chosen:
        return ""
    groups = [
        groups_text(PLAN["layers"][str(batch)], result)
        for batch, images in BESIDE.items()
        for result in chosen
        if _is(result, images, dsp_clock=1)
    ]
    return "\n".join([_head(), _whole(chosen), *groups])


def _planned(result: Result) -> bool:
    return result["model"] == PLAN["network"] and result["bits"] == 8 and result["rows"] == PLAN["rows"]


def _is(result: Result, images: int, dsp_clock: int) -> bool:
    return result["images"] == images and result.get("dsp_clock", 1) == dsp_clock


def _head() -> str:
    board = platform("zcu102")
    per_cycle = board.ddr_bytes_per_s / 1e6 * board.ddr_efficiency / CLOCK_MHZ
    weights = sum(layer.macs for layer in EFFICIENTVIT.layers(PLAN["network"]) if layer.kind == LINEAR)
    return _HEAD.format(
        source=PLAN["source"], rows=PLAN["rows"], clock=CLOCK_MHZ, megabytes=weights / 1e6, thousands=weights / per_cycle / 1e3
    )


def _whole(results: Sequence[Result]) -> str:
    rows = []
    for stage in PLAN["ladder"]:
        batch, clock = stage["batch"], stage["dsp_clock"]
        what = "one image" if batch == 1 else f"{batch} images"
        if "alone" in stage:
            found = _cycles(results, batch, clock, lambda result: result["cycles_per_image"] * result["images"])
            rows.append([stage["name"], f"{what} alone", *_beside(stage["alone"], found)])
        found = _cycles(results, BESIDE[batch], clock, lambda result: result.get("cycles_per_further_image"))
        rows.append([stage["name"], f"a stream of {what} at a time, per image", *_beside(stage["stream"], found)])
    return table(("stage of the plan's ladder", "cycles of", "the plan", "RTL", "difference"), rows) + _NOTE


def _cycles(results: Sequence[Result], images: int, dsp_clock: int, get: Callable[[Result], float | None]) -> float | None:
    return next((get(result) for result in results if _is(result, images, dsp_clock)), None)


def _beside(planned: float, found: float | None) -> list[str]:
    if found is None:
        return [f"{planned:,.0f}", NONE, NONE]
    return [f"{planned:,.0f}", f"{found:,.0f}", f"{100 * (found / planned - 1):+.1f} %"]
