"""Runs images through the accelerator's RTL and compares everything that it writes with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtl.flow.account import Account, StepProgress, account_of
from rtl.flow.family import Family, Graph, Tensors, family_of, model_name
from rtl.flow.machine import Config, Machine, accelerator_verilog
from rtl.flow.toolchain import digest
from rtl.flow.verilator import Simulator
from rtl.program.expected import ATTENTION, LINEAR, Mismatch, Recorded
from rtl.program.image import Program

CHANNELS = (LINEAR, ATTENTION)
#: Most images of one program: bounds the memory that traces and references take.
IMAGES_PER_RUN = 8


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
    and the first differences of all rows from the reference. ``stored``: per image, when its last logits were written, in cycles since
    reset; empty where images share the machine in pairs."""

    images: int
    cycles: int
    counters: Mapping[str, int]
    account: Account
    bytes_moved: int
    mismatches: tuple[Mismatch, ...]
    stored: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """All images. ``seconds``: building the simulator, and running it with the comparison. ``utilisation``: of the array's multipliers."""

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
    def cycles_per_further_image(self) -> float | None:
        """The steady state: from the logits of a program's first pair of images to those of its last pair but one, per image; two images
        go together, and behind the last ones nobody competes with their head. None where no program has three pairs."""
        pairs = [run.stored[1::2] for run in self.runs if len(run.stored) >= 6]
        images = sum(2 * (len(ends) - 2) for ends in pairs)
        return sum(ends[-2] - ends[0] for ends in pairs) / images if images else None

    @property
    def utilisation_of_further_images(self) -> float | None:
        period = self.cycles_per_further_image
        return None if period is None else self.utilisation * self.cycles_per_image / period

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


def save_verilog(graph: Graph, config: Config, out: Path) -> Path:
    """Write the Verilog to simulate, once; returns its path. The folder is named by the configuration's digest."""
    family = family_of(config)
    name = f"{model_name(graph)}_w{family.weight_bits}a{config.bits}_simulate_{digest(family.described(config))}"
    path = out / name / "accelerator.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(accelerator_verilog(config))
    return aside.replace(path)


def programs(graph: Graph, config: Config, count: int) -> dict[int, Program]:
    """The programs that ``count`` images need, by their number of images.

    Raises
    ------
    InputError : the network does not fit the machine
    """
    family, rest = family_of(config), count % IMAGES_PER_RUN
    sizes = [IMAGES_PER_RUN] * (count >= IMAGES_PER_RUN) + [rest] * (rest > 0)
    return {size: family.compile(graph, config, size) for size in sizes}


def simulate(
    graph: Graph,
    config: Config,
    images: Sequence[np.ndarray],
    reference: Callable[[np.ndarray], Tensors],
    *,
    verilog: str,
    compiled: Mapping[int, Program] | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    waves: tuple[Path, int, int] | None = None,
    **options,
) -> SimulationResult:
    """Simulate `images`, each (size, size, channels) uint8, and compare every write of every row and every logit.

    Images share a program, up to `IMAGES_PER_RUN`; what is left over gets one of its own.

    reference : image -> the graph's tensors by name        verilog : of `accelerator_verilog`, or a changed one that must fail
    compiled : of `programs`, if they are there already        progress : is told every few thousand cycles
    waves : a file for FST waves of the first run, with the first and the last cycle
    options : for the simulator (`memory`)
    """
    began = time.monotonic()
    chunks = [images[first : first + IMAGES_PER_RUN] for first in range(0, len(images), IMAGES_PER_RUN)]
    compiled = compiled or programs(graph, config, len(images))
    Machine.build(config, verilog, waves=waves is not None)
    built = time.monotonic()
    found: list[ImageResult] = []
    runs = []
    for number, chunk in enumerate(chunks):
        told = _Teller(compiled[len(chunk)], progress, number, len(chunks))
        machine = Machine(config, compiled[len(chunk)], verilog, waves=waves is not None, **options)
        if waves is not None and number == 0:
            machine.simulator.dump(*waves)
        results, run = _run(graph, machine, chunk, reference, told)
        machine.simulator.close()
        found += results
        runs.append(run)
    family, cycles = family_of(config), sum(run.cycles for run in runs)
    return SimulationResult(
        images=tuple(found),
        runs=tuple(runs),
        build_seconds=built - began,
        run_seconds=time.monotonic() - built,
        utilisation=len(images) * family.macs(graph) / family.multipliers(config) / cycles,
    )


class _Teller:
    """Tells where run ``number`` of ``runs`` is."""

    def __init__(self, compiled: Program, progress: Callable[[Progress], None], number: int, runs: int):
        self.steps, self.progress, self.number, self.runs = StepProgress(compiled), progress, number, runs
        self.began = time.monotonic()

    def tell(self, simulator: Simulator, cycles: int) -> None:
        share, step = self.steps.at(simulator.tile)
        rate = cycles / max(1e-9, time.monotonic() - self.began)
        self.progress(Progress(done=(self.number + share) / self.runs, step=step, cycles=cycles, cycles_per_second=rate))


def _run(
    graph: Graph, machine: Machine, images: Sequence[np.ndarray], reference: Callable[[np.ndarray], Tensors], teller: _Teller
) -> tuple[list[ImageResult], RunResult]:
    """One program. The reference is computed beside the simulation."""
    simulator, compiled, family = machine.simulator, machine.compiled, family_of(machine.config)
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(_narrow, reference, image) for image in images]
        simulator.clear_trace()
        logits = machine.run(np.stack(images), progress=lambda cycles: teller.tell(simulator, cycles))
        tensors = [future.result() for future in pending]
    counts, attention_busy = simulator.account()
    counters = machine.counters()
    mismatches = family.compare(compiled, graph, tensors, machine.config, {channel: _Rows(simulator, channel) for channel in CHANNELS})
    references = [image["logits"].reshape(-1) for image in tensors]
    for number, (got, wanted) in enumerate(zip(logits, references, strict=True)):
        mismatches += _logit_mismatches(family, number, got, wanted)
    return [ImageResult(logits=got, reference=wanted) for got, wanted in zip(logits, references, strict=True)], RunResult(
        images=len(images),
        cycles=counters["cycles"],
        counters=counters,
        account=account_of(compiled, counts, None if family.pipelined else attention_busy, counters["cycles"]),
        bytes_moved=simulator.bytes_moved,
        mismatches=tuple(mismatches),
        stored=machine.stored() if family.pipelined else (),
    )


def _narrow(reference: Callable[[np.ndarray], Tensors], image: np.ndarray) -> Tensors:
    """The reference's tensors as s16, which all of them fit: those of several large images would not fit every host otherwise."""
    return {name: tensor.astype(np.int16) for name, tensor in reference(image).items()}


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


def _logit_mismatches(family: Family, image: int, got: np.ndarray, expected: np.ndarray) -> list[Mismatch]:
    """Differences of what arrived in memory."""
    where = f"logits (memory, image {image})"
    return [
        family.mismatch(step=-1, tensor=where, token=0, channel=int(i), row=0, got=int(got[i]), expected=int(expected[i]), cycle=None)
        for i in np.flatnonzero(got != expected)
    ]
