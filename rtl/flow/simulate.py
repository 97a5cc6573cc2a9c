"""Runs images through the accelerator's RTL and compares everything that it writes with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.flow.machine import Machine, accelerator_verilog
from rtl.flow.toolchain import digest
from rtl.program.compiler import compile_graph
from rtl.program.expected import ATTENTION, LINEAR, Mismatch, Recorded, compare, expected_trace

CHANNELS = (LINEAR, ATTENTION)


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image: logits (classes,) and cycles from the hardware, and the first differences from the reference."""

    logits: np.ndarray
    cycles: int
    counters: Mapping[str, int]
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """All images. ``seconds``: building the simulator, and running it."""

    images: tuple[ImageResult, ...]
    build_seconds: float
    run_seconds: float
    utilisation: float = 0.0
    mismatches: tuple[Mismatch, ...] = field(default=())

    @property
    def bit_exact(self) -> bool:
        return not self.mismatches

    @property
    def cycles_per_image(self) -> float:
        return float(np.mean([image.cycles for image in self.images]))


def save_verilog(config: AcceleratorConfig, out: Path) -> Path:
    """Write the Verilog to simulate, once; returns its path. The folder is named by the configuration's digest."""
    name = f"{config.shape.name}_w1a{config.bits}_simulate_{digest(repr(config))}"
    path = out / name / "accelerator.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(accelerator_verilog(config))
    return aside.replace(path)


def array_macs(graph: DeitGraph) -> int:
    """Binary multiply-accumulates of one image on the array: every plane of every weight counts once per token that needs it."""
    shape = graph.shape
    first = graph.layers[0]
    per_layer = sum(linear.outputs * linear.inputs for linear in (first.qkv, first.projection, first.fc1, first.fc2))
    patch = graph.patch.outputs * graph.patch.inputs * graph.patch.planes * shape.patches
    head = graph.head.outputs * graph.head.inputs * graph.head.planes
    return shape.depth * per_layer * shape.tokens + patch + head


def simulate(
    graph: DeitGraph,
    config: AcceleratorConfig,
    images: Sequence[np.ndarray],
    reference: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    verilog: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options,
) -> SimulationResult:
    """Simulate `images`, each (size, size, channels) uint8, and compare every write of every row and every logit.

    reference : image -> the named tensors of `model.graph`        verilog : of `accelerator_verilog`, or a changed one that must fail
    options : for the simulator (DDR timing, stalls, seed)
    """
    began = time.monotonic()
    compiled = compile_graph(graph, config)
    machine = Machine(config, compiled, verilog, **options)
    built = time.monotonic()
    results = []
    for number, image in enumerate(images):
        machine.simulator.clear_trace()
        logits = machine.run(image)
        tensors = reference(image)
        recorded = {
            channel: [Recorded(values=values, cycles=cycles) for cycles, values in machine.simulator.trace(channel)] for channel in CHANNELS
        }
        mismatches = compare(expected_trace(compiled, tensors, config), recorded)
        mismatches += _logit_mismatches(logits, tensors["logits"].reshape(-1))
        counters = machine.counters()
        results.append(ImageResult(logits=logits, cycles=counters["cycles"], counters=counters, mismatches=tuple(mismatches)))
        progress(number + 1, len(images))
    cycles = float(np.mean([result.cycles for result in results]))
    return SimulationResult(
        images=tuple(results),
        build_seconds=built - began,
        run_seconds=time.monotonic() - built,
        utilisation=array_macs(graph) / (config.rows * config.inputs) / cycles,
        mismatches=tuple(mismatch for result in results for mismatch in result.mismatches),
    )


def _logit_mismatches(got: np.ndarray, expected: np.ndarray) -> list[Mismatch]:
    """Differences of what arrived in memory."""
    return [
        Mismatch(step=-1, tensor="logits (memory)", token=0, channel=int(i), row=0, got=int(got[i]), expected=int(expected[i]), cycle=None)
        for i in np.flatnonzero(got != expected)
    ]
