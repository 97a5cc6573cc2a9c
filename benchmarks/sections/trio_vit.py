"""EfficientViT-B1 and B2 beside Trio-ViT's model of its machine, by stated rules."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import trio_vit
from benchmarks.families import EFFICIENTVIT, title_of
from benchmarks.sections.markdown import Result, steady, table
from model.configs import efficientvit_config_of

#: Multipliers beside the array: depthwise 16 channels x 2 lines x 9 taps, K^T V 16 x 8, fully connected 32 x 2.
BESIDE_THE_ARRAY = 16 * 2 * 9 + 16 * 8 + 32 * 2

_TEXT = """\
What is compared: cycles of one image. Theirs come from their own cycle model, which counts multiplications of two engines and leaves out
the head, the memory, requantizers and the bubbles between layers; we know of no cycle count of their hardware. Ours are counted in RTL
with all of these in, of a stream where one was run, else of the whole run. Rules of scaling: cycles at equal multipliers are theirs x
{theirs:,} / ours, with the array's multipliers alone, and with all (array, depthwise engine, K^T V, fully connected layers: {beside}
more), as if theirs scaled perfectly; frames per second are at {clock} MHz for both; with head adds its three layers' multiplications on
both engines, not their weights' way from DDR. GOPS per DSP at {clock} MHz: theirs {gops:.2f} of the published {published:.1f} GOPS and
{dsps:,} DSPs (derived from two products each; the engines alone), ours with all DSPs of the machine.
"""


def section(results: Sequence[Result]) -> str:
    """Empty without an EfficientViT."""
    chosen = [result for result in results if result["model"] in trio_vit.SCRIPT_CYCLES]
    return f"## Beside Trio-ViT's cycle model\n\n{_text()}\n{_model()}" + (f"\n{_beside(chosen)}" if chosen else "")


def _text() -> str:
    density = trio_vit.PUBLISHED_GOPS / trio_vit.DSPS
    return _TEXT.format(
        theirs=trio_vit.MULTIPLIERS, beside=BESIDE_THE_ARRAY, clock=trio_vit.CLOCK_MHZ, gops=density, published=trio_vit.PUBLISHED_GOPS,
        dsps=trio_vit.DSPS,
    )  # fmt: skip


def _model() -> str:
    """Of their machine as it is."""
    rows = []
    for model, script in trio_vit.SCRIPT_CYCLES.items():
        config = efficientvit_config_of(model)
        closed, head = trio_vit.cycles(config), trio_vit.cycles(config, head=True)
        macs = trio_vit.counted_macs(config)
        rate = trio_vit.CLOCK_MHZ * 1e6 / closed
        rows.append(
            [
                EFFICIENTVIT.network(model), f"{script:,}", f"{closed:,.0f}", f"{head:,.0f}", f"{macs / 1e6:,.2f}",
                f"{100 * macs / trio_vit.MULTIPLIERS / closed:.1f} %", f"{rate:,.1f}", f"{2e-9 * macs * rate:,.1f}",
            ]
        )  # fmt: skip
    columns = (
        "network", "their script, cycles", "closed form", "with head", "MACs they count, M", "utilisation",
        f"FPS at {trio_vit.CLOCK_MHZ} MHz", "GOPS",
    )  # fmt: skip
    return f"Their model of their {trio_vit.MULTIPLIERS:,} multipliers, computed, not measured:\n\n{table(columns, rows)}"


def _beside(results: Sequence[Result]) -> str:
    columns = (
        "result", "cycles", "theirs at the array's multipliers", "with head", "theirs at all multipliers",
        "with head", "ours / theirs",
        f"FPS at {trio_vit.CLOCK_MHZ} MHz", f"theirs, {trio_vit.MULTIPLIERS:,} multipliers", "DSP", "GOPS/DSP", "GOPS/DSP / theirs",
    )  # fmt: skip
    return f"Ours beside it:\n\n{table(columns, [_row(result) for result in results])}"


def _row(result: Result) -> list[str]:
    config = efficientvit_config_of(result["model"])
    ours, dsp = steady(result), result["resources"]["dsp"]
    array = result["rows"] * result["inputs"] * result["lanes"]
    bare, head = trio_vit.cycles(config), trio_vit.cycles(config, head=True)
    at_array, at_all = trio_vit.MULTIPLIERS / array, trio_vit.MULTIPLIERS / (array + BESIDE_THE_ARRAY)
    clock = trio_vit.CLOCK_MHZ * 1e6
    density = 2e-9 * result["macs_per_image"] * clock / ours / dsp
    kind = "stream" if "cycles_per_further_image" in result else f"{result['images']} in a run"
    return [
        f"{title_of(result)}, {kind}, DSPs at {result.get('dsp_clock', 1)}x", f"{ours:,.0f}", f"{bare * at_array:,.0f}",
        f"{head * at_array:,.0f}", f"{bare * at_all:,.0f}", f"{head * at_all:,.0f}",
        f"{ours / (head * at_all):.2f}", f"{clock / ours:,.0f}",
        f"{clock / bare:,.0f}", f"{dsp:,}", f"{density:.2f}", f"{density / (trio_vit.PUBLISHED_GOPS / trio_vit.DSPS):.2f}",
    ]  # fmt: skip
