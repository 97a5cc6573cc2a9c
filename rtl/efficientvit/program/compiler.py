"""An integer graph as a program: tasks in the order that `schedule` finds, with waits, weights and parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from model.efficientvit.graph import EfficientVitGraph
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import Counter, Instruction, Opcode
from rtl.efficientvit.program.emitter import COUNTER_OF, Emitter
from rtl.efficientvit.program.expand import expand
from rtl.efficientvit.program.pack import BEAT_BYTES
from rtl.efficientvit.program.schedule import Schedule, schedule
from rtl.efficientvit.program.tasks import IMAGES_TOGETHER, Engine, Event, Task
from rtl.efficientvit.program.transfers import Transfers
from rtl.program.image import LOGIT_BYTES
from rtl.program.memory import Outline, Window, WindowBuilder

#: Cycles after the last task's end by which END is planned.
END_CYCLES = 1000
#: The post of an instruction that has one; and what the machine itself posts for each that has none, by engine.
POST_OF = {Opcode.WINDOW: Counter.WINDOWS_DONE, Opcode.STORE: Counter.STORED}
POSTS_OF = {engine: [counter for (poster, _), counter in COUNTER_OF.items() if poster is engine] for engine in Engine}


@dataclass(frozen=True, kw_only=True)
class CompiledProgram:
    """instructions : in program order        weights : the WEIGHTS window        plan : the tasks behind the program
    image_offsets, result_offsets : of each image's pixels and logits in their windows (bytes)"""

    instructions: tuple[Instruction, ...]
    weights: bytes
    image_bytes: int
    result_bytes: int
    image_offsets: tuple[int, ...]
    result_offsets: tuple[int, ...]
    plan: Schedule

    @property
    def program(self) -> bytes:
        return b"".join(instruction.encode() for instruction in self.instructions)

    @property
    def images(self) -> int:
        return len(self.image_offsets)


def compile_graph(graph: EfficientVitGraph, config: EfficientVitMachine, *, images: int = 1) -> CompiledProgram:
    """The program of ``images`` images of one network.

    Raises
    ------
    InputError : the network does not fit the machine, or so many images do not fit a program
    """
    window = WindowBuilder()
    compiler = _Compiler(graph, config, images, expand(graph, config, images), window)
    instructions, pixels, logits = compiler.compile(), compiler.image_bytes, compiler.result_bytes
    return CompiledProgram(
        instructions=instructions, weights=window.image(), image_bytes=images * pixels, result_bytes=images * logits,
        image_offsets=tuple(number * pixels for number in range(images)), result_offsets=tuple(number * logits for number in range(images)),
        plan=compiler.plan,
    )  # fmt: skip


def outlines(graph: EfficientVitGraph, config: EfficientVitMachine, images: Sequence[int]) -> list[tuple[Instruction, ...]]:
    """The instructions of `compile_graph`, for plans, of a program for each number of images: no constant is looked at or packed, so their
    places in the WEIGHTS window are not those of the program. Tasks are made once: all programs but the longest must be of whole pairs of
    images, so that their tasks are the first of its own. Raises InputError as `compile_graph` does."""
    longest = max(images)
    assert all(count == longest or count % IMAGES_TOGETHER == 0 for count in images)
    tasks = expand(graph, config, longest)
    shares = [[task for task in tasks if task.image < count] for count in images]
    return [_Compiler(graph, config, count, share, Outline()).compile() for count, share in zip(images, shares, strict=True)]


class _Compiler:
    """``tasks``: of `expand`."""

    def __init__(self, graph: EfficientVitGraph, config: EfficientVitMachine, images: int, tasks: Sequence[Task], window: Window):
        self.plan, self.images = schedule(tasks), images
        self.emitter = Emitter()
        self.transfers = Transfers(config, self.plan, self.emitter, window)
        self.index = {task: number for tasks in self.plan.order.values() for number, task in enumerate(tasks)}
        self.layer_ends = self._layer_ends()
        image = graph.tensors["image"]
        self.image_bytes = image.height * image.width * image.channels
        self.result_bytes = -(-LOGIT_BYTES * config.classes // BEAT_BYTES) * BEAT_BYTES

    def compile(self) -> tuple[Instruction, ...]:
        """In program order."""
        for task in sorted(self.index, key=lambda task: (self.plan.start[task], task.engine, self.index[task])):
            self._emit(task)
        self.emitter.emit(Engine.DMA, Opcode.END, {Counter.STORED: self.images}, {"status": 1}, self.plan.end + END_CYCLES, "end")
        return self.emitter.instructions()

    def _emit(self, task: Task) -> None:
        waits = self._waits(task)
        payload = task.payload | self._fields(task, waits)
        post = POST_OF.get(task.opcode)
        posts = dict.fromkeys(() if post is not None else POSTS_OF[task.engine], self.index[task] + 1)
        comment = f"{task.name} image {task.image}"
        self.emitter.emit(task.engine, task.opcode, waits, payload, self.plan.start[task], comment, post, posts)

    def _waits(self, task: Task) -> dict[Counter, int]:
        """For other tasks; a queue's order is enough among its own, but the array's results come late."""
        waits: dict[Counter, int] = defaultdict(int)
        for before, event in task.after:
            if event is not Event.ORDER and not (before.engine is task.engine and task.engine is not Engine.ARRAY):
                counter = COUNTER_OF[before.engine, event]
                waits[counter] = max(waits[counter], self.index[before] + 1)
        return waits

    def _fields(self, task: Task, waits: dict[Counter, int]) -> dict[str, int]:
        """What is known of the payload only now: addresses of blocks, which ``waits`` then waits for, and places in the windows."""
        if task.engine is Engine.ARRAY:
            return self.transfers.step(task, self.index[task], waits)
        if task.opcode is Opcode.DEPTH_LAYER:
            return self.transfers.depth(task, self.layer_ends[self.index[task]], waits)
        if task.engine is Engine.HEAD:
            return self.transfers.head(task, self.index[task], waits)
        sizes = {Opcode.WINDOW: self.image_bytes, Opcode.STORE: self.result_bytes}
        return {"offset": task.image * sizes[task.opcode]} if task.opcode in sizes else {}

    def _layer_ends(self) -> dict[int, int]:
        """The number of the last line pair that each layer command is for, by the command's number."""
        ends, layer = {}, 0
        for number, task in enumerate(self.plan.order[Engine.DEPTH]):
            if task.opcode is Opcode.DEPTH_LAYER:
                layer = number
            ends[layer] = number
        return ends
