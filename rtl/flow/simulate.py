"""Runs images through the accelerator's RTL and compares everything that it writes with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.flow.account import Account, TileProgress, account_of
from rtl.flow.machine import Machine, accelerator_verilog
from rtl.flow.toolchain import digest
from rtl.flow.verilator import Simulator
from rtl.program.compiler import CompiledProgram, compile_graph
from rtl.program.expected import ATTENTION, LINEAR, Mismatch, Recorded, compare, expected_trace

CHANNELS = (LINEAR, ATTENTION)
#: Most images of one program: bounds the memory that traces and references take.
IMAGES_PER_RUN = 8

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image: logits (classes,) from the hardware, and from the reference."""

    logits: np.ndarray
    reference: np.ndarray

    @property
    def exact(self) -> bool:
        return bool(np.array_equal(self.logits, self.reference))


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One program: how many images, cycles from start to interrupt, the machine's counters, where the cycles went, what the memory moved,
    and the first differences of all rows from the reference."""

    images: int
    cycles: int
    counters: Mapping[str, int]
    account: Account
    bytes_moved: int
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """All images. ``seconds``: building the simulator, and running it with the comparison."""

    images: tuple[ImageResult, ...]
    runs: tuple[RunResult, ...]
    build_seconds: float
    run_seconds: float
    utilisation: float

    @property
    def mismatches(self) -> tuple[Mismatch, ...]:
        return tuple(mismatch for run in self.runs for mismatch in run.mismatches)

    @property
    def bit_exact(self) -> bool:
        return not self.mismatches

    @property
    def cycles_per_image(self) -> float:
        return sum(run.cycles for run in self.runs) / len(self.images)

    @property
    def bytes_per_image(self) -> float:
        return sum(run.bytes_moved for run in self.runs) / len(self.images)

    @property
    def account(self) -> Account:
        return sum((run.account for run in self.runs), Account())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a simulation is. ``done``: share of the work of all runs, 0..1; ``step``: what the array is at."""

    done: float
    step: str
    cycles: int
    cycles_per_second: float


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
    heads = [head for head in (graph.head, graph.head_distilled) if head is not None]
    return shape.depth * per_layer * shape.tokens + patch + sum(head.outputs * head.inputs * head.planes for head in heads)


def simulate(
    graph: DeitGraph,
    config: AcceleratorConfig,
    images: Sequence[np.ndarray],
    reference: Callable[[np.ndarray], Tensors],
    *,
    verilog: str,
    progress: Callable[[Progress], None] = lambda progress: None,
    waves: tuple[Path, int, int] | None = None,
    **options,
) -> SimulationResult:
    """Simulate `images`, each (size, size, channels) uint8, and compare every write of every row and every logit.

    Images share a program, up to `IMAGES_PER_RUN`; what is left over gets one of its own.

    reference : image -> the named tensors of `model.graph`        verilog : of `accelerator_verilog`, or a changed one that must fail
    progress : is told every few thousand cycles
    waves : a file for FST waves of the first run, with the first and the last cycle
    options : for the simulator (`memory`)
    """
    began = time.monotonic()
    chunks = [images[first : first + IMAGES_PER_RUN] for first in range(0, len(images), IMAGES_PER_RUN)]
    programs = {count: compile_graph(graph, config, images=count) for count in sorted({len(chunk) for chunk in chunks})}
    Machine.build(config, verilog, waves=waves is not None)
    built = time.monotonic()
    found: list[ImageResult] = []
    runs = []
    for number, chunk in enumerate(chunks):
        told = _Teller(programs[len(chunk)], progress, number, len(chunks))
        machine = Machine(config, programs[len(chunk)], verilog, waves=waves is not None, **options)
        if waves is not None and number == 0:
            machine.simulator.dump(*waves)
        results, run = _run(config, machine, chunk, reference, told)
        machine.simulator.close()
        found += results
        runs.append(run)
    cycles = sum(run.cycles for run in runs)
    return SimulationResult(
        images=tuple(found),
        runs=tuple(runs),
        build_seconds=built - began,
        run_seconds=time.monotonic() - built,
        utilisation=len(images) * array_macs(graph) / (config.rows * config.inputs) / cycles,
    )


class _Teller:
    """Tells where run ``number`` of ``runs`` is."""

    def __init__(self, compiled: CompiledProgram, progress: Callable[[Progress], None], number: int, runs: int):
        self.tiles, self.progress, self.number, self.runs = TileProgress(compiled), progress, number, runs
        self.began = time.monotonic()

    def tell(self, simulator: Simulator, cycles: int) -> None:
        share, step = self.tiles.at(simulator.tile)
        rate = cycles / max(1e-9, time.monotonic() - self.began)
        self.progress(Progress(done=(self.number + share) / self.runs, step=step, cycles=cycles, cycles_per_second=rate))


def _run(
    config: AcceleratorConfig, machine: Machine, images: Sequence[np.ndarray], reference: Callable[[np.ndarray], Tensors], teller: _Teller
) -> tuple[list[ImageResult], RunResult]:
    """One program. The reference is computed beside the simulation."""
    simulator, compiled = machine.simulator, machine.compiled
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(reference, image) for image in images]
        simulator.clear_trace()
        logits = machine.run(np.stack(images), progress=lambda cycles: teller.tell(simulator, cycles))
        tensors = [future.result() for future in pending]
    counts, attention_busy = simulator.account()
    counters = machine.counters()
    expected = expected_trace(compiled, tensors, config)
    mismatches = compare(expected, {channel: _Rows(simulator, channel) for channel in CHANNELS})
    references = [image["logits"].reshape(-1) for image in tensors]
    for number, (got, wanted) in enumerate(zip(logits, references, strict=True)):
        mismatches += _logit_mismatches(number, got, wanted)
    return [ImageResult(logits=got, reference=wanted) for got, wanted in zip(logits, references, strict=True)], RunResult(
        images=len(images),
        cycles=counters["cycles"],
        counters=counters,
        account=account_of(compiled, counts, attention_busy, counters["cycles"]),
        bytes_moved=simulator.bytes_moved,
        mismatches=tuple(mismatches),
    )


class _Rows(Sequence):
    """What the rows wrote on one channel, fetched row by row: all of them at once would not fit every host."""

    def __init__(self, simulator: Simulator, channel: str):
        self._simulator, self._channel = simulator, channel

    def __len__(self) -> int:
        return self._simulator.rows

    def __getitem__(self, row: int) -> Recorded:
        if row >= len(self):
            raise IndexError(row)
        cycles, values = self._simulator.trace_of(self._channel, row)
        return Recorded(values=values, cycles=cycles)


def _logit_mismatches(image: int, got: np.ndarray, expected: np.ndarray) -> list[Mismatch]:
    """Differences of what arrived in memory."""
    where = f"logits (memory, image {image})"
    return [
        Mismatch(step=-1, tensor=where, token=0, channel=int(i), row=0, got=int(got[i]), expected=int(expected[i]), cycle=None)
        for i in np.flatnonzero(got != expected)
    ]
