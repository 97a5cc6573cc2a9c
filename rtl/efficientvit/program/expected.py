"""What the machine must write, value by value: the reference side of the layer-by-layer comparison.

Two trace channels. ``linear``, of every row: the pairs of codes that each STEP makes, in the order of the array's queue; for each output
word its 16 pairs (c, c + 16), the first in the lower byte. ``attention``, of the first `DEPTH_TRACE` rows, each of which stands for a
channel of a half word: what the depthwise engine makes, per line pair for each word, each half and each x the pixels of both lines.

Codes beyond a tensor's channels, pixels or lines are there, but not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.efficientvit.graph import EfficientVitGraph
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS
from rtl.efficientvit.program.compiler import CompiledProgram
from rtl.efficientvit.program.layout import EMPTY, channel_orders
from rtl.efficientvit.program.tasks import Engine, Task
from rtl.program.expected import ATTENTION, LINEAR, Mismatch, Recorded

DEPTH_TRACE = 16
_LANES = np.arange(2)


@dataclass(frozen=True, kw_only=True)
class PixelMismatch(Mismatch):
    """A `Mismatch` whose ``token`` is a pixel in raster order; ``step``: number of the task in its queue."""

    place = "pixel"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tasks:
    """Per task, what its values are of; arrays of equal length.

    base : of the tensor in `Expected.flat`        pixels, width, channels : of the tensor        image : number in the program
    order : of the tensor's channel order in `Expected.orders`
    """

    names: Sequence[str]
    image: np.ndarray
    base: np.ndarray
    pixels: np.ndarray
    width: np.ndarray
    channels: np.ndarray
    order: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entries:
    """The writes of one channel in order, two codes each; arrays of equal length.

    task : that makes it        place : of the first code's channel in `Expected.orders`        pixel : of the tensor; both for row 0
    """

    tasks: _Tasks
    task: np.ndarray
    place: np.ndarray
    pixel: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What one row writes on one channel: arrays (writes, 2). ``values`` uint8 where ``care``."""

    pixel: np.ndarray
    channel: np.ndarray
    values: np.ndarray
    care: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """Traces of all rows, made on demand. ``flat``: codes of all tensors of all images, end to end. ``orders``: their channel orders."""

    rows: int
    flat: np.ndarray
    orders: np.ndarray
    channels: Mapping[str, _Entries]

    def trace(self, row: int, channel: str = LINEAR) -> Trace:
        entries = self.channels[channel]
        if channel == LINEAR:  # two channels of one pixel
            place, pixel = entries.place[:, None] + PAIRS * _LANES, (entries.pixel + row)[:, None]
        else:  # one channel of two pixels, the second below the first
            place, pixel = (entries.place + row)[:, None], entries.pixel[:, None] + entries.tasks.width[entries.task, None] * _LANES
        numbers, pixel = np.broadcast_arrays(self.orders[place], pixel)
        tasks, task = entries.tasks, entries.task[:, None]
        care = (numbers != EMPTY) & (pixel < tasks.pixels[task])
        where = np.where(care, tasks.base[task] + pixel * tasks.channels[task] + numbers, 0)
        return Trace(pixel=pixel, channel=numbers, values=self.flat[where], care=care)


def expected_trace(
    compiled: CompiledProgram, graph: EfficientVitGraph, tensors: Sequence[Mapping[str, np.ndarray]], config: EfficientVitMachine
) -> Expected:
    """Expected writes of every row. ``tensors``: per image, named as in the graph, (height, width, channels)."""
    if len(tensors) != compiled.images:
        raise ValueError(f"tensors must be given for every image: {len(tensors)} for {compiled.images}")
    return _Builder(compiled, graph, tensors).expected(config.rows)


class _Builder:
    def __init__(self, compiled: CompiledProgram, graph: EfficientVitGraph, tensors: Sequence[Mapping[str, np.ndarray]]):
        self.graph, self.tensors = graph, tensors
        plan = compiled.plan.order
        self.queues = {LINEAR: plan[Engine.ARRAY], ATTENTION: [task for task in plan[Engine.DEPTH] if task.makes is not None]}
        self.names = list(dict.fromkeys(task.makes[1] for tasks in self.queues.values() for task in tasks if task.makes is not None))

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {name: self.graph.tensors[name].pixels * self.graph.tensors[name].channels for name in self.names}

    def expected(self, rows: int) -> Expected:
        orders = channel_orders(self.graph)
        flat_orders = np.concatenate([orders[name] for name in self.names]).astype(np.int16)
        flat = np.concatenate([image[name].reshape(-1).astype(np.uint8) for image in self.tensors for name in self.names])
        starts = dict(zip(self.names, _starts([len(orders[name]) for name in self.names]), strict=True))
        places = {LINEAR: lambda task: _step_places(task, rows), ATTENTION: self._line_places}
        channels = {
            channel: _entries(self._tasks(tasks, starts), [places[channel](task) for task in tasks])
            for channel, tasks in self.queues.items()
        }
        return Expected(rows=rows, flat=flat, orders=flat_orders, channels=channels)

    def _tasks(self, tasks: Sequence[Task], starts: Mapping[str, int]) -> _Tasks:
        names = [task.makes[1] for task in tasks if task.makes is not None]
        base = dict(zip(self.names, _starts(list(self.sizes.values())), strict=True))
        total = sum(self.sizes.values())
        tensors = [self.graph.tensors[name] for name in names]
        image = np.array([task.image for task in tasks], dtype=np.int64)
        return _Tasks(
            names=names, image=image, base=image * total + np.array([base[name] for name in names], dtype=np.int64),
            pixels=np.array([tensor.pixels for tensor in tensors], dtype=np.int64),
            width=np.array([tensor.width for tensor in tensors], dtype=np.int64),
            channels=np.array([tensor.channels for tensor in tensors], dtype=np.int64),
            order=np.array([starts[name] for name in names], dtype=np.int64),
        )  # fmt: skip

    def _line_places(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """(places in the tensor's order, pixels) of a line pair: words outer, then halves, x inner."""
        assert task.makes is not None
        _, name, first, words, line = task.makes
        tensor = self.graph.tensors[name]
        halves = 1 if tensor.channels <= PAIRS else 2
        starts = first * WORD_CHANNELS + PAIRS * np.arange(words * halves)
        return np.repeat(starts, tensor.width), np.tile(line * tensor.width + np.arange(tensor.width), words * halves)


def _step_places(task: Task, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a STEP, for row 0: words outer, pairs inner."""
    assert task.makes is not None
    _, _, first, words, pass_index = task.makes
    starts = (first + np.arange(words)) * WORD_CHANNELS
    return (starts[:, None] + np.arange(PAIRS)).ravel(), np.full(words * PAIRS, pass_index * rows)


def _entries(tasks: _Tasks, places: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Entries:
    """int32: a run of several large images has millions of them."""
    task = np.repeat(np.arange(len(places)), [len(place) for place, _ in places]).astype(np.int32)
    nothing = np.zeros(0, dtype=np.int32)
    place = np.concatenate([nothing, *(place.astype(np.int32) for place, _ in places)])
    pixel = np.concatenate([nothing, *(pixel.astype(np.int32) for _, pixel in places)])
    return _Entries(tasks=tasks, task=task, place=place + tasks.order.astype(np.int32)[task], pixel=pixel)


def _starts(sizes: Sequence[int]) -> list[int]:
    return np.cumsum([0, *sizes])[:-1].tolist()


def compare(expected: Expected, got: Mapping[str, Sequence[Recorded]], limit: int = 16) -> list[Mismatch]:
    """The first ``limit`` mismatches in time, what is missing last; empty when every row of every channel given agrees.

    got : per channel ("linear", "attention"), one Recorded per row
    """
    found: list[Mismatch] = []
    for channel, recorded in got.items():
        for row in range(expected.rows if channel == LINEAR else DEPTH_TRACE):
            found += _compare_row(expected, channel, row, recorded[row], limit)
    return sorted(found, key=lambda m: (m.cycle is None, m.cycle or 0, m.step, m.row))[:limit]


def _compare_row(expected: Expected, channel: str, row: int, record: Recorded, limit: int) -> Iterator[Mismatch]:
    trace = expected.trace(row, channel)
    values = np.ascontiguousarray(record.values, dtype="<u2").view(np.uint8).reshape(-1, 2)
    both = min(len(values), len(trace.values))
    differ = (values[:both] != trace.values[:both]) & trace.care[:both]
    wrong, missing = np.argwhere(differ)[:limit], np.argwhere(trace.care[both:])[:limit] + [both, 0]
    entries = expected.channels[channel]
    for position, lane in [*wrong.tolist(), *missing.tolist()]:
        task, pixel = int(entries.task[position]), int(trace.pixel[position, lane])
        wrote = position < both
        yield PixelMismatch(
            step=task, image=int(entries.tasks.image[task]), tensor=entries.tasks.names[task], token=pixel,
            channel=int(trace.channel[position, lane]), row=pixel % expected.rows, got=int(values[position, lane]) if wrote else None,
            expected=int(trace.values[position, lane]), cycle=_cycle(record, position) if wrote else None,
        )  # fmt: skip
    if len(values) > len(trace.values):
        yield PixelMismatch(
            step=len(entries.tasks.names), tensor="(nothing)", token=None, channel=None, row=row, got=int(values[both, 0]), expected=None,
            cycle=_cycle(record, both),
        )  # fmt: skip


def _cycle(record: Recorded, position: int) -> int | None:
    return None if record.cycles is None else int(record.cycles[position])
