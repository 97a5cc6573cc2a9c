"""What there is to choose from on a board: machines that no other one beats in frame rate, LUTs, precision and memory traffic at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtl.flow.machine import Config, with_bits
from rtl.plan.models import PredictedModels
from rtl.plan.planner import Planner, parameters
from rtl.plan.plots import pareto_plot
from rtl.plan.summary import RESOURCES, SOURCE

#: A machine's cycles are at most so many times the bound that it is first judged by, where the bound is worth anything.
SLACK = 1.1
Tell = Callable[[str], None]


def front(costs: np.ndarray) -> np.ndarray:
    """Which rows of ``costs`` (points, objectives), all to be small, no other row is at most as large as in every one: bool (points,).

    Of equal rows the first counts.
    """
    order = np.lexsort(costs.T[::-1])
    kept: list[int] = []
    for index in order:  # whoever beats a row comes before it
        if not kept or not (costs[kept] <= costs[index]).all(1).any():
            kept.append(int(index))
    mask = np.zeros(len(costs), bool)
    mask[kept] = True
    return mask


def pareto(planner: Planner, models: PredictedModels, tell: Tell) -> list[dict[str, Any]]:
    """The front, fastest first, of all machines of the space that fit the board; see `point` for what is told of each.

    Machines are first judged by the bounds on their cycles and by their LUTs at the highest precision: those that a machine beats that is
    worse by ``SLACK`` are passed over. What is left is predicted at every precision.
    """
    precisions = planner.space.precisions
    machines = [config for group in planner.space.machines(precisions[0]) for config in group]
    costs = np.array([(planner.bound(config), planner.models.resources(config).lut) for config in machines])
    candidates = [config for config, near in zip(machines, _near(costs), strict=True) if near]
    found = []
    for number, config in enumerate(candidates):
        tell(f"machine {number + 1} of {len(candidates)}")
        points = (point(planner, models, with_bits(config, bits)) for bits in precisions)
        found += [entry for entry in points if entry is not None]
    if not found:
        return []
    values = np.array([(-entry["fps"], entry["lut"], -entry["bits"], entry["ddr_gbps"]) for entry in found])
    return sorted((entry for entry, kept in zip(found, front(values), strict=True) if kept), key=lambda entry: -entry["fps"])


def _near(costs: np.ndarray) -> np.ndarray:
    """The front, and what would be on it if its cycles were ``SLACK`` times smaller."""
    best = costs[front(costs)]
    eased = costs * [1 / SLACK, 1]
    return np.array([not ((best <= row).all(1) & (best < row).any(1)).any() for row in eased])


def point(planner: Planner, models: PredictedModels, config: Config) -> dict[str, Any] | None:
    """A machine as one point of the plot; None where it does not fit the board or the network does not fit it."""
    resources = planner.models.resources(config)
    if planner.share(resources) > 1:
        return None
    cycles = planner.cycles_per_image(config)
    if cycles is None:
        larger = planner.space.larger(config)
        return None if larger is None else point(planner, models, larger)
    fps = planner.clock_mhz * 1e6 / cycles
    return {
        "bits": config.bits,
        "fps": fps,
        "ddr_gbps": models.bytes_per_image(config) * fps / 1e9,
        **{name: getattr(resources, name) for name in RESOURCES},
        "parameters": dict(parameters(config)),
    }


def write(points: Sequence[dict[str, Any]], planner: Planner, model: str, out: Path) -> list[Path]:
    """``pareto.json`` and ``pareto.svg`` in a folder of ``out``, each written aside first; returns their paths."""
    folder = out / f"{Path(model).stem}_{planner.board.name}_pareto"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"model": model, "board": planner.board.name, "clock_mhz": planner.clock_mhz, "source": SOURCE, "points": list(points)}
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    title = f"{model} on {planner.board.name}, {planner.clock_mhz:g} MHz"
    return [_write(folder / "pareto.json", text), _write(folder / "pareto.svg", pareto_plot(points, title, planner.board))]


def _write(path: Path, text: str) -> Path:
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(path)
