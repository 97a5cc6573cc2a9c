"""`plan`: the activation precision and the machine that reach --fps, and, with --pareto, what else there is to choose from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from rtl.errors import InputError


class InfeasibleError(RuntimeError):
    """No machine reaches the frame rate; the text says what the limit is."""


def add_to(verbs) -> None:
    parser = verbs.add_parser("plan", help="the highest precision, and the machine, that reach --fps")
    parser.add_argument(
        "--pareto", action="store_true", help="also write the front of frame rate, LUTs, precision and bandwidth, and plot it"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from boards import platform
    from rtl.flow import report
    from rtl.plan.summary import lines, too_fast

    if options.fps is None and not options.pareto:
        raise InputError("plan needs a frame rate: none is given; use --fps 25, or --pareto for all that there is")
    with report.status("planning") as say:
        if options.fps is None:
            return _pareto(options, say)
        told = answer(options, say)
        status = 0 if told["feasible"] else 1
        if options.pareto:
            _pareto(options, say)
    if options.json:
        print(json.dumps(told))
    elif told["feasible"]:
        print("\n".join(lines(told, platform(options.board))))
    if not told["feasible"]:
        print(f"popvit: {too_fast(told)}", file=sys.stderr)
    return status


def answer(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """What `plan --json` prints."""
    from rtl.plan.summary import summary

    began = time.monotonic()
    planner = planner_of(options, say)
    plan = planner.plan(options.fps)
    told = summary(plan, planner, planner.models, model=options.model, fps=options.fps, seconds=0.0)
    return told | {"seconds": round(time.monotonic() - began, 3)}


def planned_config(options: argparse.Namespace, technology: str) -> Any:
    """The machine that --fps asks for. Raises InfeasibleError where there is none."""
    from rtl.efficientvit.preset import TECHNOLOGIES
    from rtl.flow import report
    from rtl.plan.summary import summary, too_fast

    with report.status("planning") as say:
        planner = planner_of(options, say)
        plan = planner.plan(options.fps)
    if plan.chosen is None:
        told = summary(plan, planner, planner.models, model=options.model, fps=options.fps, seconds=0.0)
        raise InfeasibleError(too_fast(told))
    config = plan.chosen.config
    return replace(config, technology=technology if isinstance(config.technology, str) else TECHNOLOGIES[technology])


def planner_of(options: argparse.Namespace, say: Callable[[str], None]):
    """The planner of these options: the network's shapes, the family's space, the board, the memory behind it."""
    from boards import platform
    from model.model_file import network_of
    from model.skeleton import skeleton
    from rtl.plan.models import PredictedModels
    from rtl.plan.planner import Planner
    from rtl.plan.space import DeitSpace, EfficientVitSpace
    from rtl.verbs.machine import check, is_efficientvit, memory_of

    check(options)
    network = cache(lambda bits: skeleton(network_of(options.model), bits))
    board, memory = platform(options.board), memory_of(options)
    precisions = None if options.bits is None else (options.bits,)
    if is_efficientvit(options):
        space = EfficientVitSpace(network, precisions=precisions, rows=options.rows, dsp_clock=options.dsp_clock)
    else:
        space = DeitSpace(network, precisions=precisions, rows=options.rows, strategy=options.strategy, hp_ports=board.hp_ports)
    return Planner(
        space=space, models=PredictedModels(network=network, memory=memory), board=board, clock_mhz=options.clock_mhz,
        memory_bytes=memory.sustained_bytes_per_cycle, say=say,
    )  # fmt: skip


def _pareto(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from rtl.plan.pareto import pareto, write

    planner = planner_of(options, say)
    points = pareto(planner, planner.models, say)
    paths = write(points, planner, options.model, options.out)
    print("\n".join(str(path) for path in paths), file=sys.stderr)
    if options.json and options.fps is None:
        print(json.dumps({"model": options.model, "board": planner.board.name, "points": points}))
    return 0
