"""Runs whose cycles are known: small machines to be simulated, and those that the benchmarks have simulated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model import random_graph
from model.configs import Config as NetworkConfig
from model.configs import DeiTConfig, config_of
from model.efficientvit import random_graph as efficientvit_random_graph
from model.efficientvit.graph import EfficientVitGraph
from model.graph import DeitGraph
from model.skeleton import skeleton
from rtl import config as deit_preset
from rtl.efficientvit import preset as efficientvit_preset
from rtl.flow.ddr import Memory
from rtl.flow.family import family_of
from rtl.flow.machine import Config, Machine, accelerator_verilog
from rtl.flow.simulate import IMAGES_PER_RUN
from rtl.plan.cycles import Prediction, predict

_RESULTS = Path("benchmarks") / "results"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One program on one machine.

    model, changes : a network by name, and what differs from it        bits : of activations        rows, dsp_clock : of the machine
    images : of the program        memory : what differs from `Memory`'s defaults
    """

    model: str
    bits: int
    rows: int
    images: int
    dsp_clock: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> NetworkConfig:
        return replace(config_of(self.model), **{name: tuple(v) if isinstance(v, list) else v for name, v in self.changes.items()})

    def machine(self, graph: DeitGraph | EfficientVitGraph) -> Config:
        return machine_of(graph, self.rows, self.dsp_clock)

    def predicted(self) -> Prediction:
        graph = skeleton(self.network, self.bits)
        return predict(graph, self.machine(graph), self.images, Memory(**self.memory))

    def simulated(self) -> int:
        """Cycles of the RTL, by its own counter. Minutes where the simulator is to be built, seconds where it is."""
        network = self.network
        if isinstance(network, DeiTConfig):
            graph = random_graph.random_graph(network.shape(self.bits), 0)
        else:
            graph = efficientvit_random_graph.random_graph(network, self.bits, 0)
        config = self.machine(graph)
        compiled = family_of(config).compile(graph, config, self.images)
        machine = Machine(config, compiled, accelerator_verilog(config), memory=Memory(**self.memory))
        rng = np.random.default_rng(0)
        machine.run(rng.integers(0, 256, (self.images, *machine.image_shape), dtype=np.uint8))
        cycles = machine.counters()["cycles"]
        machine.simulator.close()
        return cycles


def machine_of(graph: DeitGraph | EfficientVitGraph, rows: int | None = None, dsp_clock: int = 1) -> Config:
    """The preset of a network's family. ``rows``: instead of its own."""
    if isinstance(graph, DeitGraph):
        return deit_preset.preset(graph.shape, rows=rows)
    return efficientvit_preset.preset(graph, rows=rows, dsp_clock=dsp_clock)


def _grid() -> Iterator[Point]:
    """Few simulators, for depths, images and memory are no part of a machine."""
    for images in (1, 2, 3, 8):
        yield Point(model="deit_micro", bits=8, rows=6, images=images)
        yield Point(model="efficientvit_micro", bits=8, rows=16, images=images)
    for depth in (1, 7):
        yield Point(model="deit_micro", bits=8, rows=6, images=2, changes={"depth": depth})
    yield Point(model="deit_micro", bits=8, rows=6, images=2, memory={"peak_bytes_per_cycle": 8.0})
    yield Point(model="efficientvit_micro", bits=8, rows=16, images=2, memory={"peak_bytes_per_cycle": 32.0})
    for bits, rows in ((8, 10), (4, 6), (6, 18)):
        yield Point(model="deit_micro", bits=bits, rows=rows, images=2)
    for bits, rows in ((8, 24), (6, 16)):
        yield Point(model="efficientvit_micro", bits=bits, rows=rows, images=2)


GRID = tuple(_grid())


def benchmarked(path: Path) -> tuple[Point, int]:
    """A committed result: its program, of at most `IMAGES_PER_RUN` images, and its cycles."""
    result = json.loads(path.read_text(encoding="utf-8"))
    images = min(result["images"], IMAGES_PER_RUN)
    assert result["images"] % images == 0, path
    point = Point(
        model=result["model"],
        bits=result["bits"],
        rows=result["rows"],
        images=images,
        dsp_clock=result.get("dsp_clock") or 1,
        memory=_changed(result["memory"]),
    )
    return point, round(result["cycles_per_image"] * images)


def _changed(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Where a memory differs from the default one."""
    default = asdict(Memory())
    return {name: memory[name] for name in default if memory[name] != default[name]}


def benchmarks() -> Iterator[tuple[str, Point, int]]:
    """(source, program, cycles) of every committed result."""
    for path in sorted(_RESULTS.glob("*.json")):
        yield path.as_posix(), *benchmarked(path)
