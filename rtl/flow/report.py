"""What the command line shows: progress and tables on stderr and stdout, and the JSON that scripts read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rtl.flow.simulate import SimulationResult

REPORTED_MISMATCHES = 16
_errors, _output = Console(stderr=True), Console()


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; call it with (done, total)."""
    with Progress(console=_errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what goes on; call it to change the text."""
    with _errors.status(what) as line:
        yield line.update


def simulation_summary(
    result: SimulationResult, *, model: str, bits: int, clock_mhz: float, labels: Sequence[int], references: np.ndarray
) -> dict[str, Any]:
    """The object that `simulate --json` prints. ``references``: the reference's logits, (images, classes)."""
    predictions = np.array([int(np.argmax(image.logits)) for image in result.images])
    expected = np.asarray(labels)
    return {
        "model": model,
        "bits": bits,
        "images": len(result.images),
        "bit_exact": result.bit_exact,
        "mismatches": [_as_dict(mismatch) for mismatch in result.mismatches[:REPORTED_MISMATCHES]],
        "accuracy": 100 * float(np.mean(predictions == expected)),
        "reference_accuracy": 100 * float(np.mean(references.argmax(-1) == expected)),
        "cycles_per_image": result.cycles_per_image,
        "clock_mhz": clock_mhz,
        "fps": clock_mhz * 1e6 / result.cycles_per_image,
        "fps_source": "clock / simulated cycles; the clock is an assumption before place-and-route; Vivado has not been run",
        "utilisation": result.utilisation,
        "counters": dict(result.images[-1].counters),
        "sim_seconds": result.run_seconds,
        "build_seconds": result.build_seconds,
    }


def _as_dict(mismatch) -> dict[str, Any]:
    return {name: getattr(mismatch, name) for name in ("tensor", "token", "channel", "row", "got", "expected", "cycle")}


def simulation_table(
    result: SimulationResult, summary: Mapping[str, Any], labels: Sequence[int], references: np.ndarray, names: Sequence[str], files: Path
) -> None:
    """One line per image, the verdict, and where the files are."""
    table = Table(title=f"{summary['model']} W1A{summary['bits']}: {summary['images']} images through the RTL (Verilator)")
    for column in ("image", "label", "prediction", "reference", "bit-exact", "cycles"):
        table.add_column(column, justify="left" if column in ("label", "prediction", "reference") else "right")
    for number, image in enumerate(result.images):
        classes = (int(labels[number]), int(np.argmax(image.logits)), int(references[number].argmax()))
        exact = "yes" if not image.mismatches else "[red]NO"
        table.add_row(str(number), *(names[c] if c < len(names) else str(c) for c in classes), exact, f"{image.cycles:,}")
    _output.print(table)
    for mismatch in result.mismatches[:REPORTED_MISMATCHES]:
        _output.print(f"[red]mismatch[/red] {mismatch}", highlight=False)
    _output.print(
        f"every write of every row and every logit equal to the reference: {'yes' if result.bit_exact else 'NO'}\n"
        f"{summary['cycles_per_image']:,.0f} cycles per image; {summary['fps']:,.0f} images/s if the clock is {summary['clock_mhz']:g} MHz "
        f"(estimated, before place-and-route; Vivado has not been run)\n"
        f"utilisation of the array {100 * summary['utilisation']:.1f} %; "
        f"simulator built in {summary['build_seconds']:.1f} s, run in {summary['sim_seconds']:.1f} s\n"
        f"Verilog of the simulated design: {files}",
        highlight=False,
    )


def build_table(summary: Mapping[str, Any]) -> None:
    """Resources against the board's budget, and the files written."""
    table = Table(
        title=f"{summary['model']} W1A{summary['bits']} on {summary['board']}: {summary['rows']} rows x {summary['inputs']} inputs"
    )
    for column in ("resource", "estimate", "budget", "of the device"):
        table.add_column(column, justify="right")
    for name, value in summary["resources"].items():
        budget = summary["budget"][name]
        style = "[red]" if value > budget["limit"] else ""
        table.add_row(name, f"{style}{value:,.0f}", f"{budget['limit']:,.0f}", f"{100 * value / budget['total']:.1f} %")
    _output.print(table)
    _output.print(f"{summary['resource_source']}\n{summary['seconds']:.1f} s; files in {summary['out']}:", highlight=False)
    for name in summary["files"]:
        _output.print(f"  {name}", highlight=False)
