"""`sweep`: many machines of one network, measured: predicted, synthesised, or with the accuracy of the integer graph.

Each point is measured once and kept; the same command goes on where it was stopped. Points are measured by processes here, or, with
--scheduler, by the workers of a Dask cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from rtl.errors import InputError
from rtl.flow.toolchain import digest

#: Of the 10,000 test images, those that accuracy is measured on unless --accuracy-images says otherwise.
ACCURACY_IMAGES = 1000
SOURCES = Path(__file__).resolve().parents[2]


def add_to(verbs) -> None:
    parser = verbs.add_parser("sweep", help="many machines of one network, each measured once: resumable, here or on a Dask cluster")
    parser.add_argument(
        "--measure", choices=sorted(MEASURES), default="predicted", help="default predicted; synthesised takes minutes a point"
    )
    parser.add_argument("--precisions", type=_numbers, default=[8, 6, 4], metavar="8,6,4", help="activation bits (default 8,6,4)")
    parser.add_argument("--row-counts", type=_numbers, metavar="33,50,66", help="rows (default: the preset's)")
    parser.add_argument("--accuracy-images", type=int, default=ACCURACY_IMAGES, help=f"of the test set (default {ACCURACY_IMAGES})")
    parser.add_argument("--workers", type=int, default=2, help="processes of this machine (default 2)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:8786: measure there")
    parser.set_defaults(run=run)


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas between: {text!r} is not; use 8,6,4") from None


def run(options: argparse.Namespace) -> int:
    from rtl.flow import report
    from rtl.plan.executors import DaskCluster, Processes
    from rtl.plan.sweep import sweep
    from rtl.verbs.machine import check

    for name, least in (("workers", 1), ("accuracy_images", 1)):
        if getattr(options, name) < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}: {getattr(options, name)} is not; use more")
    check(options)
    points = points_of(options)
    folder = options.out / f"{Path(options.model).stem}_{options.board}_sweep"
    workers = Processes(options.workers) if options.scheduler is None else DaskCluster(options.scheduler)
    with report.steps(f"{options.measure}: {options.model}") as tell:
        results = sweep(points, MEASURES[options.measure], folder / "points", workers, tell)
    told = [points[key] | result for key, result in results.items()]
    aside = folder / "sweep.partial"
    aside.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path = aside.replace(folder / "sweep.json")
    print(json.dumps({"model": options.model, "points": told, "out": str(path)}) if options.json else _table(told))
    for point in told:
        if "error" in point:
            print(f"popvit: {point['bits']} bits, {point['rows'] or 'preset'} rows: {point['error']}", file=sys.stderr)
    return 0


def points_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What is measured, by a key that changes with everything that the result depends on, the sources of popvit included."""
    from model.model_file import network_of

    network_of(options.model)
    sources = _sources()
    points = {}
    for bits, rows in product(options.precisions, options.row_counts or [None]):
        point = {
            "measure": options.measure, "model": options.model, "checkpoint": options.checkpoint, "bits": bits, "rows": rows,
            "dsp_clock": options.dsp_clock, "strategy": options.strategy, "board": options.board, "clock_mhz": options.clock_mhz,
            "ddr_gbps": options.ddr_gbps, "images": options.accuracy_images,
        }  # fmt: skip
        points[f"{options.measure}_{bits}bits_{rows or 'preset'}rows_{digest(json.dumps(point, sort_keys=True), sources)}"] = point
    return points


def _sources() -> str:
    parts = [path.read_bytes() for folder in ("rtl", "model", "boards") for path in sorted((SOURCES / folder).rglob("*.py"))]
    return digest(*parts)


def _options(point: Mapping[str, Any]) -> argparse.Namespace:
    """As the command line would give them for one point."""
    return argparse.Namespace(**{**point, "fps": None})


def predicted(point: Mapping[str, Any]) -> dict[str, Any]:
    """Cycles and resources by the planner's models."""
    from functools import cache

    from model.model_file import network_of
    from model.skeleton import skeleton
    from rtl.plan.models import PredictedModels
    from rtl.plan.summary import RESOURCES
    from rtl.verbs.machine import machine_of, memory_of

    options = _options(point)
    network = cache(lambda bits: skeleton(network_of(options.model), bits))
    models = PredictedModels(network=network, memory=memory_of(options))
    config = machine_of(options, network(options.bits), "generic")
    cycles, cost = models.program(config).cycles_per_image, models.resources(config)
    return {
        "cycles_per_image": cycles,
        "fps": options.clock_mhz * 1e6 / cycles,
        "resources": {name: getattr(cost, name) for name in RESOURCES},
    }


def synthesised(point: Mapping[str, Any]) -> dict[str, Any]:
    """Resources by yosys, of the whole machine."""
    from model.model_file import network_of
    from model.skeleton import skeleton
    from rtl.flow.build import estimate_machine
    from rtl.plan.summary import RESOURCES
    from rtl.verbs.machine import machine_of

    options = _options(point)
    config = machine_of(options, skeleton(network_of(options.model), options.bits), "ultrascale")
    total = estimate_machine(config)["total"]
    return {"resources": {name: getattr(total, name) for name in RESOURCES}}


def accuracy(point: Mapping[str, Any]) -> dict[str, Any]:
    """Percent of test images that the integer graph gets right; None where the images have no labels."""
    from model.evaluate import evaluate

    found = evaluate(point["model"], point["bits"], point["checkpoint"], None, point["images"])
    return {name: found[name] for name in ("images", "accuracy")}


MEASURES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "predicted": predicted, "synthesised": synthesised, "accuracy": accuracy,
}  # fmt: skip


def _table(told: list[dict[str, Any]]) -> str:
    lines = []
    for point in told:
        found = point.get("resources", {}) | {name: point[name] for name in ("cycles_per_image", "fps", "accuracy") if name in point}
        values = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
        lines.append(f"{point['bits']} bits, {point['rows'] or 'preset'} rows: {point.get('error', values)}")
    return "\n".join(lines)
