"""What the command line shows: progress and tables on stderr and stdout, and the JSON that scripts read."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from rtl.flow import simulate
from rtl.flow.account import by_operator
from rtl.flow.ddr import Memory
from rtl.flow.family import family_of
from rtl.flow.machine import Config
from rtl.flow.simulate import SimulationResult

REPORTED_MISMATCHES = 16
#: Percent of the cycles from which on the memory is blamed.
WAITED_FOR_MEMORY = 10
LINE_SECONDS = 20
_errors, _output = Console(stderr=True), Console()


@contextlib.contextmanager
def simulation_progress() -> Iterator[Callable[[simulate.Progress], None]]:
    """A bar on stderr: the layer that the array is at, cycles, cycles per second, time left. No terminal: a line at times."""
    if not _errors.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=_errors, transient=True) as bar:
        task = bar.add_task("building the simulator", total=None, told="")

        def tell(now: simulate.Progress) -> None:
            told = f"{now.cycles:,} cycles, {now.cycles_per_second:,.0f} per second"
            bar.update(task, description=now.step, completed=now.done, total=1.0, told=told)

        yield tell


class _Lines:
    """The progress as lines, at most one every `LINE_SECONDS`."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, now: simulate.Progress) -> None:
        passed = time.monotonic() - self._told
        if passed < LINE_SECONDS or not now.done:
            return
        self._told = time.monotonic()
        left = now.cycles / now.cycles_per_second * (1 - now.done) / now.done  # of this run; what came before was building
        told = f"{100 * now.done:.0f} %, {now.step}, {now.cycles:,} cycles, {now.cycles_per_second:,.0f} per second, {left:.0f} s left"
        print(told, file=sys.stderr, flush=True)


@contextlib.contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what goes on; call it to change the text."""
    with _errors.status(what) as line:
        yield line.update


@contextlib.contextmanager
def steps(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; call it with how many are done, of how many. No terminal: a line for each."""
    if not _errors.is_terminal:
        yield lambda done, total: print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
        return
    with RichProgress(console=_errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def simulation_summary(
    result: SimulationResult, config: Config, memory: Memory, *, model: str, clock_mhz: float, labels: Sequence[int]
) -> dict[str, Any]:
    """The object that `simulate --json` prints. ``labels``: negative where there is none."""
    family = family_of(config)
    predictions = np.array([int(np.argmax(image.logits)) for image in result.images])
    references = np.array([int(np.argmax(image.reference)) for image in result.images])
    cycles = sum(run.cycles for run in result.runs)
    return {
        "model": model,
        "weight_bits": family.weight_bits,
        "bits": config.bits,
        "rows": config.rows,
        **family.sizes(config),
        "images": len(result.images),
        "bit_exact": result.bit_exact,
        "mismatches": [mismatch.to_dict() for mismatch in result.mismatches[:REPORTED_MISMATCHES]],
        "accuracy": _accuracy(predictions, labels),
        "reference_accuracy": _accuracy(references, labels),
        "agreement": 100 * float(np.mean(predictions == references)),
        "cycles": cycles,
        "cycles_per_image": result.cycles_per_image,
        "clock_mhz": clock_mhz,
        "fps": clock_mhz * 1e6 / result.cycles_per_image,
        "fps_source": "clock / simulated cycles; the clock is an assumption before place-and-route; Vivado has not been run",
        "utilisation": result.utilisation,
        **_further_images(result, clock_mhz),
        "account": result.account.to_dict(),
        "memory": dataclasses.asdict(memory) | {"sustained_bytes_per_cycle": memory.sustained_bytes_per_cycle},
        "bytes_per_image": result.bytes_per_image,
        "counters": dict(result.runs[-1].counters),
        "sim_seconds": result.run_seconds,
        "build_seconds": result.build_seconds,
        "cycles_per_second": cycles / result.run_seconds,
    }


def _further_images(result: SimulationResult, clock_mhz: float) -> dict[str, float]:
    """What an image costs that follows another one in the same program, where that can be told."""
    period, utilisation = result.cycles_per_further_image, result.utilisation_of_further_images
    if period is None or utilisation is None:
        return {}
    return {
        "cycles_per_further_image": period,
        "fps_of_further_images": clock_mhz * 1e6 / period,
        "utilisation_of_further_images": utilisation,
    }


def _accuracy(predictions: np.ndarray, labels: Sequence[int]) -> float | None:
    """Percent of the images that have a label; None if none has."""
    expected = np.asarray(labels)
    known = expected >= 0
    return 100 * float(np.mean(predictions[known] == expected[known])) if known.any() else None


def too_slow(wanted: float, summary: Mapping[str, Any]) -> str:
    """Why a rate is not reached, in one line: what the memory would have to give, what it gives, how long the array waited for it."""
    hertz, account = summary["clock_mhz"] * 1e6, summary["account"]["total"]
    required = summary["bytes_per_image"] * wanted / 1e9
    available = summary["memory"]["sustained_bytes_per_cycle"] * hertz / 1e9
    waited = 100 * (account["weights"] + account["input"]) / max(1, sum(account.values()))
    remedy = "use a faster memory" if waited > WAITED_FOR_MEMORY else "use more rows or a faster clock"
    return (
        f"--fps {wanted:g} must be reached: {summary['fps']:.1f} images/s at {summary['clock_mhz']:g} MHz are not; "
        f"it requires {required:.2f} GB/s and the memory gives {available:.2f} GB/s, which cost {waited:.0f} % of the cycles; "
        f"{remedy}, or ask for less"
    )


def simulation_table(
    result: SimulationResult, summary: Mapping[str, Any], labels: Sequence[int], names: Sequence[str], files: Path
) -> None:
    """One line per image, the verdict, where the cycles went, and where the files are."""
    network = f"{summary['model']} W{summary['weight_bits']}A{summary['bits']}"
    table = Table(title=f"{network}: {summary['images']} images through the RTL (Verilator)")
    for column in ("image", "label", "prediction", "reference", "logits exact"):
        table.add_column(column, justify="right" if column == "image" else "left")
    for number, image in enumerate(result.images):
        classes = (int(labels[number]), int(np.argmax(image.logits)), int(np.argmax(image.reference)))
        exact = "yes" if image.exact else "[red]NO"
        table.add_row(str(number), *(_class_name(c, names) for c in classes), exact)
    _output.print(table)
    for mismatch in result.mismatches[:REPORTED_MISMATCHES]:
        _output.print(f"[red]mismatch[/red] {mismatch}", highlight=False)
    account_table(summary["account"])
    _output.print(
        f"every write of every row and every logit equal to the reference: {'yes' if result.bit_exact else 'NO'}\n"
        f"{summary['cycles_per_image']:,.0f} cycles per image; {summary['fps']:,.0f} images/s if the clock is {summary['clock_mhz']:g} MHz "
        f"(estimated, before place-and-route; Vivado has not been run)\n"
        f"{_further_line(summary)}"
        f"utilisation of the array {100 * summary['utilisation']:.1f} %; {summary['bytes_per_image'] / 1e6:,.2f} MB per image, "
        f"memory of {summary['memory']['sustained_bytes_per_cycle']:.1f} bytes per cycle\n"
        f"simulator built in {summary['build_seconds']:.1f} s, run in {summary['sim_seconds']:.1f} s "
        f"({summary['cycles_per_second']:,.0f} cycles/s)\n"
        f"Verilog of the simulated design: {files}",
        highlight=False,
    )


def _further_line(summary: Mapping[str, Any]) -> str:
    if "cycles_per_further_image" not in summary:
        return ""
    return (
        f"{summary['cycles_per_further_image']:,.0f} cycles per further image: {summary['fps_of_further_images']:,.0f} images/s, "
        f"utilisation {100 * summary['utilisation_of_further_images']:.1f} %\n"
    )


def _class_name(number: int, names: Sequence[str]) -> str:
    if number < 0:
        return "-"
    return names[number] if number < len(names) else str(number)


def account_table(account: Mapping[str, Any]) -> None:
    """Cycles by kind of layer; the layers of all blocks together."""
    table = Table(title="cycles of the array, all images")
    for column in ("layer", *account["total"]):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, kinds in [*by_operator(account["layers"]).items(), ("total", account["total"])]:
        table.add_row(name, *(f"{kinds[kind]:,}" for kind in account["total"]))
    _output.print(table)


def build_table(summary: Mapping[str, Any]) -> None:
    """Resources against the board's budget, the worst stage of each part and of each unit in it, and the files written."""
    network = f"{summary['model']} W{summary['weight_bits']}A{summary['bits']}"
    table = Table(title=f"{network} on {summary['board']}: {summary['rows']} rows x {summary['inputs']} inputs")
    for column in ("resource", "estimate", "budget", "of the device"):
        table.add_column(column, justify="right")
    for name, value in summary["resources"].items():
        budget = summary["budget"][name]
        style = "[red]" if value > budget["limit"] else ""
        table.add_row(name, f"{style}{value:,.0f}", f"{budget['limit']:,.0f}", f"{100 * value / budget['total']:.1f} %")
    slicem = summary["slicem"]
    table.add_row("lut as memory", f"{slicem['used']:,}", f"{slicem['total']:,}", f"{100 * slicem['used'] / slicem['total']:.1f} %")
    _output.print(table)
    _parts_table(summary["parts"])
    told = ", ".join(f"{name} {mhz:g} MHz" for name, mhz in summary["clocks_mhz"].items())
    _output.print(f"DSP clock x {summary.get('dsp_clock', 1)}: {told}; {summary['clock_source']}", highlight=False)
    _output.print(f"{summary['resource_source']}\n{summary['seconds']:.1f} s; files in {summary['out']}:", highlight=False)
    for name in summary["files"]:
        _output.print(f"  {name}", highlight=False)


def _parts_table(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each module, then one for each unit in it: from which register to which the worst stage goes."""
    table = Table(title="modules, and the worst stage that ends in each unit (LUT levels + carries, modelled ns)")
    for column in ("module or unit", "times", "LUT", "FF", "DSP", "BRAM36", "levels", "ns", "worst stage"):
        table.add_column(column, justify="left" if column in ("module or unit", "worst stage") else "right")
    for name, part in parts.items():
        costs = (f"{part['count']}", f"{part['lut']:,}", f"{part['ff']:,}", f"{part['dsp']:,}", f"{part['bram36']:g}")
        table.add_row(f"[bold]{name}", *costs, f"{part['levels']} + {part['carries']}", f"{part['ns']:.2f}", escape(part["deepest"]))
        for unit, stage in part["units"].items():
            levels = f"{stage['levels']} + {stage['carries']}"
            table.add_row(f"  {unit or '(itself)'}", *[""] * len(costs), levels, f"{stage['ns']:.2f}", escape(stage["path"]))
        for clocks, stage in part["clocks"].items():
            levels = f"{stage['levels']} + {stage['carries']}"
            table.add_row(f"  {clocks}", *[""] * len(costs), levels, f"{stage['ns']:.2f}", escape(stage["path"]))
    _output.print(table)
