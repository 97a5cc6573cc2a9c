"""Fits the prices of `rtl.plan.resources` to yosys' estimates of small modules, and keeps them with every point and its error."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from rtl.flow.build import instantiated
from rtl.flow.estimate import SOURCE, Resources, estimate, to_rtlil
from rtl.flow.machine import TOP_MODULE, Config, design_of
from rtl.plan.resource_grid import MACHINES, Machine, plain, restored
from rtl.plan.resources import STORED, TOTAL, Prices, costs, law_of, predict

#: Of an unseen point, in percent; FF are told, not bound.
BOUND, BOUNDED = 5.0, ("lut", "dsp", "bram36")
KINDS = (*BOUNDED, "ff")
_KEPT = (*KINDS, "lutram")
_RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def measured(machine: Machine) -> dict[str, dict[str, float]]:
    """What yosys says of the machine's modules, by name; of all of them with their total. Minutes, the first time; kept by text."""
    if machine.result:
        found = json.loads((_RESULTS / f"{machine.result}.json").read_text(encoding="utf-8"))["resources"]
        return {TOTAL: {kind: found[kind] for kind in KINDS}}
    found = _estimates(machine.config, machine.modules)
    modules = {name: {kind: getattr(resources, kind) for kind in _KEPT} for name, resources in found.items()}
    if machine.modules:
        return modules
    total = sum((found[name] * count for name, (_, count) in costs(machine.config).items()), Resources())
    return modules | {TOTAL: {kind: getattr(total, kind) for kind in _KEPT}}


def _estimates(config: Config, names: Sequence[str]) -> dict[str, Resources]:
    """Of the named modules, or of all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Amaranth warns, when they are collected, of components that were not asked for
        design = design_of(config)
        components = {name: component for name, (component, _) in design.separate.items()} | {TOP_MODULE: design.accelerator}
        texts = {name: to_rtlil(component, name) for name, component in components.items() if not names or name in names}
        del design, components
        gc.collect()
    found = {}
    for name, text in texts.items():
        boxes = {box: one for box, one in instantiated(text, texts).items() if box != name}
        found[name] = estimate(text, name, black_boxes=boxes)
    return found


def fitted(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Prices of every law from the points that may be seen: least squares of relative errors, no price below zero."""
    samples: dict[str, list] = {}
    for point in points:
        config = restored(point["config"])
        for name, (cost, _) in costs(config).items():
            if not point["unseen"] and name in point["modules"]:
                samples.setdefault(law_of(config, name), []).append((cost, point["modules"][name]["measured"]))
    prices = {}
    for law, found in samples.items():
        lut = [(cost.priced_lut, values["lut"] - cost.lut, values["lut"]) for cost, values in found]
        ff = [(cost.priced_ff, values["ff"] - cost.ff, values["ff"]) for cost, values in found]
        prices[law] = {"lut": _least_squares(lut), "ff": _least_squares(ff)}
    return prices


def _least_squares(samples: Sequence[tuple[Mapping[str, float], float, float]]) -> dict[str, float]:
    """Prices of the terms. Those that would be negative are left out, the most negative first."""
    terms = sorted({name for amounts, _, _ in samples for name in amounts})
    while terms:
        matrix = np.array([[amounts.get(name, 0) / size for name in terms] for amounts, _, size in samples])
        target = np.array([rest / size for _, rest, size in samples])
        found = np.linalg.lstsq(matrix, target, rcond=None)[0]
        least = int(np.argmin(found))
        if found[least] >= 0:
            return {name: round(float(price), 4) for name, price in zip(terms, found, strict=True)}
        del terms[least]
    return {}


def with_predictions(points: Sequence[Mapping[str, Any]], prices: Prices) -> list[dict[str, Any]]:
    """Every point with what the prices say of its modules, and the error in percent of what was measured."""
    done = []
    for point in points:
        predicted, modules = predict(restored(point["config"]), prices), {}
        for name, values in point["modules"].items():
            said = {kind: getattr(predicted[name], kind) for kind in values["measured"]}
            errors = {kind: error_percent(said[kind], value) for kind, value in values["measured"].items()}
            modules[name] = {"measured": values["measured"], "predicted": said, "error_percent": errors}
        done.append({**point, "modules": modules})
    return done


def error_percent(predicted: float, measured: float) -> float:
    """Of what was measured; of nothing, nothing must be predicted."""
    if not measured:
        return 0.0 if not predicted else 100.0
    return round(100 * (predicted / measured - 1), 2)


def misses(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each bounded resource of an unseen machine that is predicted worse than `BOUND`."""
    return [
        f"{point['name']}: {kind} is predicted {point['modules'][TOTAL]['error_percent'][kind]:+.1f} %, at most {BOUND:g} % is allowed"
        for point in points
        for kind in BOUNDED
        if point["unseen"] and abs(point["modules"][TOTAL]["error_percent"][kind]) > BOUND
    ]


def main(check: bool) -> int:
    """Synthesise, fit and store; or, to check, predict all stored points again.

    Returns
    -------
    0, or 1 if an unseen machine is predicted worse than `BOUND`
    """
    if check:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        points = with_predictions(stored["points"], stored["prices"])
    else:
        points = []
        for machine in track(MACHINES, description="synthesising", disable=not sys.stderr.isatty()):
            modules = {name: {"measured": values} for name, values in measured(machine).items()}
            points.append({"name": machine.name, "unseen": machine.unseen, "config": plain(machine.config), "modules": modules})
        prices = fitted(points)
        points = with_predictions(points, prices)
        _store({"source": SOURCE, "tools": {"pyosys": version("pyosys")}, "prices": prices, "points": points})
    failed = misses(points)
    sys.stderr.write("\n".join(failed or [f"every unseen machine is predicted within {BOUND:g} %"]) + "\n")
    return 1 if failed else 0


def _store(values: Mapping[str, Any]) -> None:
    aside = STORED.with_suffix(".part")
    aside.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(STORED)
