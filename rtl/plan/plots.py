"""Plots as SVG text, the same bytes for the same points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from model.svg import svg
from rtl.flow.estimate import budget

NOTE = "predicted; resources estimated, before place-and-route; Vivado has not been run"


def pareto_plot(points: Sequence[Mapping[str, Any]], title: str, board: Any) -> str:
    """Frames per second over LUTs, a line for each precision; an area is what the memory must give (GB/s)."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    for bits in sorted({point["bits"] for point in points}):
        found = sorted((point for point in points if point["bits"] == bits), key=lambda point: point["lut"])
        luts, rates = [point["lut"] for point in found], [point["fps"] for point in found]
        line = axes.plot(luts, rates, linewidth=0.8, label=f"{bits} bits")[0]
        axes.scatter(luts, rates, s=[8 + 12 * point["ddr_gbps"] for point in found], color=line.get_color(), alpha=0.7)
    axes.axvline(budget(board)["lut"], color="0.4", linestyle="--", linewidth=0.8, label=f"budget of {board.name}")
    axes.set(xlabel="LUT", ylabel="frames per second", title=f"{title}\n{NOTE}; areas: GB/s from memory")
    axes.legend()
    return svg(figure)
