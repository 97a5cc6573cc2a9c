"""The log of a run as CSV and as a plot (SVG)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from model.training.state import write_aside

FIELDS = ("stage", "epoch", "bits", "binary_share", "learning_rate", "loss", "test_accuracy", "seconds")
Row = dict[str, str]

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 240, 50, 30
_COLOURS = {"test_accuracy": "#1b6ac9", "loss": "#c9541b"}
_TITLES = {"test_accuracy": "test accuracy (%)", "loss": "training loss"}


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


def _curve(name: str, values: Sequence[float], top: float) -> list[str]:
    low, high = min(values), max(values)
    across, span = _WIDTH - _LEFT - 20, (high - low) or 1.0
    points = [(_LEFT + across * i / max(1, len(values) - 1), top + _HEIGHT * (high - value) / span) for i, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_COLOURS[name]}"/>' for x, y in points)
    labels = [f'<text x="4" y="{top + 4:.0f}">{high:.4g}</text>', f'<text x="4" y="{top + _HEIGHT + 4:.0f}">{low:.4g}</text>']
    title = f'<text x="{_LEFT}" y="{top - 10:.0f}">{_TITLES[name]}, last {values[-1]:.4g}</text>'
    return [title, *labels, f'<polyline points="{line}" fill="none" stroke="{_COLOURS[name]}" stroke-width="1.5"/>', dots]


def _stage_marks(rows: Sequence[Row], bottom: float) -> list[str]:
    across = _WIDTH - _LEFT - 20
    begins = [number for number, row in enumerate(rows) if number == 0 or row["stage"] != rows[number - 1]["stage"]]
    marks = []
    for number in begins:
        x = _LEFT + across * number / max(1, len(rows) - 1)
        marks.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#bbb" stroke-dasharray="3"/>')
        marks.append(f'<text x="{x + 3:.1f}" y="{bottom + 16}">{escape(rows[number]["stage"])}</text>')
    return marks


def plot(name: str, rows: Sequence[Row]) -> str:
    """Accuracy above, loss below, against the epochs of all stages. Standalone SVG; the same rows give the same text."""
    bottom = 2 * (_HEIGHT + _TOP) + 10
    parts = _stage_marks(rows, bottom)
    for place, field in enumerate(("test_accuracy", "loss")):
        parts += _curve(field, [float(row[field]) for row in rows], _TOP + place * (_HEIGHT + _TOP + 10))
    size = f'width="{_WIDTH}" height="{bottom + 24}"'
    style = "text { font: 12px system-ui, sans-serif; fill: #1b1b1b }"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(name)}"><style>{style}</style>'
    return "".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])
