"""What came out: a line for each result."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.families import Family, title_of
from benchmarks.sections.markdown import NONE, Result, by_family, used_table
from boards import platform

_COSTS = ("lut", "dsp", "bram36", "ff")


def section(results: Sequence[Result]) -> str:
    board = platform("zcu102")
    shares = ", ".join(f"{share:.0%} of {kind}" for kind, share in board.budget_share.items())
    tables = [_family(family, chosen) for family, chosen in by_family(results)]
    text = (
        f"Budget: {shares}. Cycles per image: of the whole run, first image's start-up and last image's tail included. A further image is "
        "one in the middle of a stream: from the logits of a program's first pair of images to those of its last pair but one. Frames per "
        "second are of further images where there are any, else of the whole run.\n"
    )
    return f"## Results on the {board.name.upper()}\n\n" + "\n".join([*tables, text])


def _family(family: Family, results: Sequence[Result]) -> str:
    columns = (
        "network", "DSP clock", "rows x inputs", "images", "cycles per image", "per further image",
        *(f"FPS at {clock} MHz" for clock in family.clocks_mhz), "utilisation", "of further images", "LUT", "DSP", "BRAM36", "FF",
        "LUT as memory", "in budget", "top-1 %", "reference's",
    )  # fmt: skip
    text = f"Utilisation: {family.utilisation}."
    return f"### {family.title}\n\n{used_table(columns, [_row(family, result) for result in results])}\n{text}\n"


def _row(family: Family, result: Result) -> list[str]:
    board, cost = platform("zcu102"), result["resources"]
    shares = [f"{cost[kind]:,.0f} ({100 * cost[kind] / board.capacity[kind]:.0f} %)" for kind in _COSTS]
    memory = f"{cost['lutram']:,} ({100 * cost['lutram'] / board.slicem_luts:.0f} %)"
    further = result.get("cycles_per_further_image")
    rates = [f"{clock * 1e6 / (further or result['cycles_per_image']):,.0f}" for clock in family.clocks_mhz]
    clock = result.get("dsp_clock", 1)
    return [
        title_of(result), NONE if clock == 1 else f"{clock}x", f"{result['rows']} x {result['inputs']}", str(result["images"]),
        f"{result['cycles_per_image']:,.0f}", f"{further:,.0f}" if further else NONE, *rates, f"{100 * result['utilisation']:.1f} %",
        f"{100 * result['utilisation_of_further_images']:.1f} %" if further else NONE, *shares, memory,
        "no" if result["misfits"] else "yes", *(_percent(result.get(key)) for key in ("accuracy", "reference_accuracy")),
    ]  # fmt: skip


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"
