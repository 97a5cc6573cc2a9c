"""A matplotlib figure as SVG text: the same bytes for the same points."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure


def svg(figure: Figure) -> str:
    """Without the date, and with names that do not change."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "popvit"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
