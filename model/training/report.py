"""The log of a run as CSV and as a plot (SVG)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from model.svg import svg
from model.training.state import write_aside

FIELDS = ("stage", "epoch", "bits", "binary_share", "learning_rate", "loss", "test_accuracy", "seconds")
Row = dict[str, str]


def read_seconds(path: Path) -> list[str]:
    """Of the epochs that an earlier process logged."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as log:
        return [row.get("seconds", "") for row in csv.DictReader(log)]


def write_log(path: Path, rows: Sequence[Row], seconds: Sequence[str]) -> None:
    """``rows`` are all fields but the seconds."""
    text = io.StringIO()
    log: csv.DictWriter[str] = csv.DictWriter(text, FIELDS, lineterminator="\n")
    log.writeheader()
    for number, row in enumerate(rows):
        log.writerow({**row, "seconds": seconds[number] if number < len(seconds) else ""})
    write_aside(path, text.getvalue().encode())
    write_aside(path.with_suffix(".svg"), plot(path.stem, rows).encode())


def plot(name: str, rows: Sequence[Row]) -> str:
    """Accuracy above, loss below, against the epochs of all stages. Standalone SVG; the same rows give the same text."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    accuracy, loss = figure.subplots(2, sharex=True)
    for axes, field, title in ((accuracy, "test_accuracy", "test accuracy (%)"), (loss, "loss", "training loss")):
        known = [(number, float(row[field])) for number, row in enumerate(rows, 1) if row[field]]
        axes.plot(*zip(*known, strict=True), marker=".")
        axes.set(ylabel=f"{title}, last {known[-1][1]:.4g}" if known else title)
        axes.grid(alpha=0.3)
        for number, row in enumerate(rows):
            if number == 0 or row["stage"] != rows[number - 1]["stage"]:
                axes.axvline(number + 0.5, color="0.6", linestyle="--", linewidth=0.8)
                axes.text(number + 0.6, 0.02, row["stage"], transform=axes.get_xaxis_transform(), color="0.4")
    accuracy.set_title(name)
    loss.set_xlabel("epoch")
    return svg(figure)
