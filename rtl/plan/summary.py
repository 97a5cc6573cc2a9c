"""A plan as scripts and people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.flow.estimate import budget
from rtl.flow.family import family_of
from rtl.flow.simulate import IMAGES_PER_RUN
from rtl.plan.cycles import Prediction
from rtl.plan.models import PredictedModels
from rtl.plan.planner import MARGIN, Machine, Plan, Planner, parameters

SOURCE = (
    "cycles: an event model of the machine, checked against RTL simulation; resources: formulas fitted to yosys, estimated, before "
    "place-and-route; the clock is an assumption; Vivado has not been run"
)
RESOURCES = ("lut", "ff", "dsp", "bram36")


def summary(plan: Plan, planner: Planner, models: PredictedModels, *, model: str, fps: float, seconds: float) -> dict[str, Any]:
    """The object that `plan --json` prints. ``bits`` and ``rows`` are None where the frame rate is out of reach."""
    chosen, limit = plan.chosen, plan.limit
    return {
        "model": model,
        "board": planner.board.name,
        "clock_mhz": planner.clock_mhz,
        "fps": fps,
        "margin": MARGIN,
        "feasible": chosen is not None,
        "bits": None if chosen is None else chosen.config.bits,
        "rows": None if chosen is None else chosen.config.rows,
        "weight_bits": None if chosen is None else family_of(chosen.config).weight_bits,
        "parameters": None if chosen is None else parameters(chosen.config),
        "predicted": None if chosen is None else predicted(chosen, planner, models),
        "limit_fps": None if limit is None else limit.fps(planner.clock_mhz),
        "limit": None if limit is None else reached(limit),
        "predictions": plan.predictions,
        "source": SOURCE,
        "seconds": seconds,
    }


def reached(machine: Machine) -> dict[str, Any]:
    """A machine in short."""
    return {"bits": machine.config.bits, "parameters": parameters(machine.config), "cycles_per_image": machine.cycles_per_image}


def predicted(machine: Machine, planner: Planner, models: PredictedModels) -> dict[str, Any]:
    """Of a program of as many images as `simulate` puts into one."""
    program, clock = models.program(machine.config), planner.clock_mhz * 1e6
    return {
        "cycles_per_image": program.cycles_per_image,
        "fps": clock / program.cycles_per_image,
        "images": IMAGES_PER_RUN,
        "cycles_per_further_image": program.cycles_per_further_image,
        "account": dict(program.account),
        "ddr_bytes_per_image": program.ddr_bytes / program.images,
        "ddr_gbps": bandwidth(program, planner.clock_mhz),
        "resources": {name: getattr(machine.resources, name) for name in RESOURCES},
        "share_of_budget": machine.share,
    }


def bandwidth(program: Prediction, clock_mhz: float) -> float:
    """GB/s that the program draws."""
    return program.ddr_bytes / program.cycles * clock_mhz / 1e3


def lines(told: Mapping[str, Any], board: Any) -> list[str]:
    """The plan for people."""
    if not told["feasible"]:
        return [too_fast(told)]
    found, allowed = told["predicted"], budget(board) | {"ff": board.capacity["ff"]}
    settings = ", ".join(f"{name} {value}" for name, value in told["parameters"].items())
    costs = ", ".join(
        f"{name} {found['resources'][name]:,.0f} ({found['resources'][name] / board.capacity[name]:.0%} of the device, "
        f"{found['resources'][name] / allowed[name]:.0%} of the budget)"
        for name in RESOURCES
    )
    return [
        f"{told['model']} at {told['fps']:g} frames per second on {told['board']}, {told['clock_mhz']:g} MHz: "
        f"W{told['weight_bits']}A{told['bits']}",
        f"machine: {settings}",
        f"predicted: {found['cycles_per_image']:,.0f} cycles per image in programs of {found['images']}, {found['fps']:,.1f} frames per "
        f"second, {found['ddr_gbps']:.1f} GB/s",
        f"predicted: {costs}",
        f"the limit, at {_bits(told['limit']['bits'])}: {told['limit_fps']:,.1f} frames per second",
        told["source"],
    ]


def too_fast(told: Mapping[str, Any]) -> str:
    """Why there is no machine."""
    asked = f"--fps {told['fps']:g} must be within reach of {told['model']} on {told['board']} at {told['clock_mhz']:g} MHz"
    if told["limit"] is None:
        return f"{asked}: no machine for it fits the board at any precision; use a larger board or a smaller network"
    return (
        f"{asked}: the limit is {told['limit_fps']:,.1f}, at {_bits(told['limit']['bits'])}, and plans keep {told['margin']:.0%} off it; "
        "ask for less, or use a faster clock, a larger board or a smaller network"
    )


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"
