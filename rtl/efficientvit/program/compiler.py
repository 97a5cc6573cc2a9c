"""An integer graph as a program: tasks in the order that `schedule` finds, with waits, weights and parameters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from model.efficientvit.graph import EfficientVitGraph
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import Counter, Instruction, LoadTarget, Opcode
from rtl.efficientvit.program.expand import Expander
from rtl.efficientvit.program.schedule import Schedule, schedule
from rtl.efficientvit.program.tasks import Block, Engine, Event, Task
from rtl.errors import InputError
from rtl.program.instruction import WAITS
from rtl.program.memory import WindowBuilder

#: The counter that an event of an engine's tasks adds to.
COUNTER_OF = {
    (Engine.ARRAY, Event.WRITTEN): Counter.STEPS_WRITTEN,
    (Engine.ARRAY, Event.COLLECTED): Counter.STEPS_COLLECTED,
    (Engine.DEPTH, Event.DONE): Counter.DEPTHS_DONE,
    (Engine.OUTER, Event.DONE): Counter.OUTERS_DONE,
    (Engine.WINDOW, Event.DONE): Counter.WINDOWS_DONE,
    (Engine.HEAD, Event.DONE): Counter.HEADS_DONE,
    (Engine.DMA, Event.DONE): Counter.STORED,
}
#: Bytes per cycle that weights come at: what `schedule` leaves to be planned here.
STREAM_BYTES = 56
LOAD_BYTES = 14
LOGIT_BYTES = 2
#: Weight words that the head keeps, and beats of parameters; the bit of an address that names its buffer.
HEAD_WORDS, HEAD_BUFFER = 1024, 1 << 15
BEAT_BYTES = 16
#: Cycles from an instruction's place in the program to its earliest start.
LEAD = 64


class CircularStore:
    """Blocks in a memory that is filled round and round. A block that is still there is not loaded again."""

    def __init__(self, words: int):
        self.words, self._next = words, 0
        self._blocks: dict[Block, list[int]] = {}  # address, end, last use

    def place(self, block: Block, use: int) -> tuple[int, bool, int]:
        """(address, whether it must be loaded, uses that must be over before). ``use``: number of the task that reads it."""
        if block in self._blocks:
            found = self._blocks[block]
            found[2] = use
            return found[0], False, 0
        assert block.words <= self.words, block.name
        base = 0 if self._next + block.words > self.words else self._next
        self._next = base + block.words
        over = [other for other, (start, end, _) in self._blocks.items() if start < self._next and base < end]
        last = max((self._blocks.pop(other)[2] for other in over), default=-1)
        self._blocks[block] = [base, self._next, use]
        return base, True, last + 1


@dataclass(frozen=True)
class Issue:
    """An instruction and when it is planned to be dispatched."""

    time: float
    queue: Engine
    number: int
    instruction: Instruction


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


class _Compiler:
    def __init__(self, graph: EfficientVitGraph, config: EfficientVitMachine, images: int):
        self.graph, self.config, self.images = graph, config, images
        expander = Expander(graph, config)
        expander.images(images)
        self.plan = schedule(expander.tasks)
        self.index = {task: number for tasks in self.plan.order.values() for number, task in enumerate(tasks)}
        self.layer_ends = self._layer_ends()
        self.window = WindowBuilder()
        self.offsets: dict[Block, int] = {}
        self.issues: list[Issue] = []
        self.free_at: dict[Engine, float] = defaultdict(float)
        self.posted: dict[Counter, int] = defaultdict(int)
        self.last_time: dict[Engine, float] = defaultdict(float)
        # Of a queue: what counters have reached when its last instruction so far starts. Of a post: when it is made.
        self.known: dict[Engine, dict[Counter, int]] = defaultdict(dict)
        self.known_at: dict[tuple[Counter, int], dict[Counter, int]] = {}
        image = graph.tensors["image"]
        self.image_bytes = image.height * image.width * image.channels
        self.result_bytes = -(-LOGIT_BYTES * config.classes // BEAT_BYTES) * BEAT_BYTES

    def compile(self) -> CompiledProgram:
        self._stores()
        tasks = sorted(self.index, key=lambda task: (self.plan.start[task], task.engine, self.index[task]))
        for task in tasks:
            self._emit_task(task)
        self._end()
        order = sorted(self.issues, key=lambda issue: (issue.time, issue.number))
        return CompiledProgram(
            instructions=tuple(issue.instruction for issue in order), weights=self.window.image(),
            image_bytes=self.images * self.image_bytes, result_bytes=self.images * self.result_bytes,
            image_offsets=tuple(number * self.image_bytes for number in range(self.images)),
            result_offsets=tuple(number * self.result_bytes for number in range(self.images)), plan=self.plan,
        )  # fmt: skip

    def _stores(self) -> None:
        config = self.config
        self.weights, self.parameters = CircularStore(config.weight_words), CircularStore(config.parameter_words)
        self.depth_weights, self.depth_parameters = CircularStore(512), CircularStore(512)
        self.head_weights, self.head_parameters = CircularStore(HEAD_WORDS), CircularStore(HEAD_WORDS)

    def _emit(
        self, queue: Engine, opcode: Opcode, waits: dict[Counter, int], payload: dict[str, int], time: float, comment: str,
        post: Counter | None = None, posts: dict[Counter, int] | None = None,
    ) -> None:  # fmt: skip
        """``posts``: what the machine itself posts when it is done, and the values that the counters then have."""
        needed = self._needed(queue, {counter: value for counter, value in sorted(waits.items()) if value})  # sets have no order
        if len(needed) > WAITS:
            raise InputError(f"an instruction waits for at most {WAITS} counters: {comment} needs {len(needed)}; use larger memories")
        header: dict[str, int] = {}
        for number, (counter, value) in enumerate(needed.items()):
            header |= {f"wait{number}_counter": int(counter), f"wait{number}_value": value}
        if post is not None:
            header |= {"post_enable": 1, "post_counter": int(post)}
            self.posted[post] += 1
            posts = {post: self.posted[post]}
        for counter, value in (posts or {}).items():
            self.known_at[counter, value] = dict(self.known[queue])
        time = max(time, self.last_time[queue])
        self.last_time[queue] = time
        full = {name: int(payload.get(name, 0)) for name, _ in Instruction.payloads[opcode]}
        self.issues.append(Issue(time, queue, len(self.issues), Instruction(opcode=opcode, payload=full, comment=comment, **header)))

    def _needed(self, queue: Engine, waits: dict[Counter, int]) -> dict[Counter, int]:
        """The waits that do not follow from earlier ones of the queue or from each other."""
        known = self.known[queue]
        left = {counter: value for counter, value in waits.items() if known.get(counter, 0) < value}
        for counter, value in list(left.items()):
            others = (self.known_at[other].get(counter, 0) for other in left.items() if other[0] is not counter)
            if max(others, default=0) >= value:
                del left[counter]
        for counter, value in left.items():
            known[counter] = value
            for other, reached in self.known_at[counter, value].items():
                known[other] = max(known.get(other, 0), reached)
        return left

    def _emit_task(self, task: Task) -> None:
        waits: dict[Counter, int] = defaultdict(int)
        for before, event in task.after:
            if event is not Event.ORDER and not (before.engine is task.engine and task.engine is not Engine.ARRAY):
                counter = COUNTER_OF[before.engine, event]
                waits[counter] = max(waits[counter], self.index[before] + 1)
        payload = dict(task.payload)
        start = self.plan.start[task]
        if task.engine is Engine.ARRAY:
            self._step_blocks(task, payload, waits, start)
        elif task.opcode is Opcode.DEPTH_LAYER:
            self._depth_blocks(task, payload, waits, start)
        elif task.engine is Engine.HEAD:
            self._head_blocks(task, payload, waits, start)
        elif task.opcode is Opcode.WINDOW:
            payload["offset"] = task.image * self.image_bytes
        elif task.opcode is Opcode.STORE:
            payload["offset"] = task.image * self.result_bytes
        post = {Opcode.WINDOW: Counter.WINDOWS_DONE, Opcode.STORE: Counter.STORED}.get(task.opcode)
        number = self.index[task] + 1
        posts = {counter: number for (engine, _), counter in COUNTER_OF.items() if engine is task.engine and post is None}
        self._emit(task.engine, task.opcode, waits, payload, start - LEAD, f"{task.name} image {task.image}", post, posts)

    def _step_blocks(self, task: Task, payload: dict[str, int], waits: dict[Counter, int], start: int) -> None:
        use = self.index[task]
        assert task.parameters is not None
        address, loaded = self._load(self.parameters, task.parameters, LoadTarget.PARAMETER, use, start, 2, Counter.STEPS_WRITTEN)
        payload["parameter_address"] = address
        if loaded:
            waits[Counter.LOADED] = self.posted[Counter.LOADED]
        if task.weights is not None:
            payload["weight_address"] = self._stream(self.weights, task.weights, use, start, Counter.STEPS_WRITTEN, waits)

    def _head_blocks(self, task: Task, payload: dict[str, int], waits: dict[Counter, int], start: int) -> None:
        use = self.index[task]
        assert task.parameters is not None
        payload["parameters"], loaded = self._load(
            self.head_parameters, task.parameters, LoadTarget.HEAD_PARAMETER, use, start, 1, Counter.HEADS_DONE
        )
        if loaded:
            waits[Counter.HEAD_LOADED] = self.posted[Counter.HEAD_LOADED]
        if task.weights is not None:
            payload["weights"] = self._stream(self.head_weights, task.weights, use, start, Counter.HEADS_DONE, waits)

    def _stream(self, store: CircularStore, block: Block, use: int, start: int, reader: Counter, waits: dict[Counter, int]) -> int:
        """Address of weights, after a STREAM if they are not there. What was loaded for the task comes before it: one wait for both."""
        address, fresh, over = store.place(block, use)
        if fresh:
            queue, opcode, post, buffer = Engine.STREAM, Opcode.STREAM, Counter.STREAMED, 0
            if store is self.head_weights:
                queue, opcode, post, buffer = Engine.HEAD_TRANSFER, Opcode.HEAD_STREAM, Counter.HEAD_STREAMED, HEAD_BUFFER
            if block not in self.offsets:
                self.offsets[block] = self.window.add(block.data)
            begin = self._begin(queue, self._time_of(reader, over), start, len(block.data) / STREAM_BYTES)
            loaded = Counter.HEAD_LOADED if store is self.head_weights else Counter.LOADED
            needs = {reader: over, loaded: waits.pop(loaded, 0)}
            fields = {"offset": self.offsets[block], "stride": len(block.data) // 4, "items": block.words, "address": address | buffer}
            self._emit(queue, opcode, needs, fields, begin - LEAD, block.name, post)
            waits[post] = self.posted[post]
        return address

    def _depth_blocks(self, task: Task, payload: dict[str, int], waits: dict[Counter, int], start: int) -> None:
        use = self.layer_ends[self.index[task]]
        assert task.weights is not None and task.parameters is not None
        payload["weights"], fresh = self._load(
            self.depth_weights, task.weights, LoadTarget.DEPTH_WEIGHT, use, start, 16, Counter.DEPTHS_DONE
        )
        payload["parameters"], new = self._load(
            self.depth_parameters, task.parameters, LoadTarget.DEPTH_PARAMETER, use, start, 4, Counter.DEPTHS_DONE
        )
        if fresh or new:
            waits[Counter.LOADED] = self.posted[Counter.LOADED]

    def _layer_ends(self) -> dict[int, int]:
        """The number of the last line pair that each layer command is for, by the command's number."""
        ends, layer = {}, 0
        for number, task in enumerate(self.plan.order[Engine.DEPTH]):
            if task.opcode is Opcode.DEPTH_LAYER:
                layer = number
            ends[layer] = number
        return ends

    def _load(
        self, store: CircularStore, block: Block, target: LoadTarget, use: int, start: int, beats: int, reader: Counter
    ) -> tuple[int, bool]:
        """Address of a block, after a LOAD if it is not there."""
        address, fresh, over = store.place(block, use)
        if fresh:
            if block not in self.offsets:
                self.offsets[block] = self.window.add(block.data)
            queue, opcode, post = Engine.DMA, Opcode.LOAD, Counter.LOADED
            if target is LoadTarget.HEAD_PARAMETER:
                queue, opcode, post = Engine.HEAD_TRANSFER, Opcode.HEAD_LOAD, Counter.HEAD_LOADED
            begin = self._begin(queue, self._time_of(reader, over), start, len(block.data) / LOAD_BYTES)
            fields = {"target": target, "offset": self.offsets[block], "beats": len(block.data) // BEAT_BYTES, "address": address * beats}
            self._emit(queue, opcode, {reader: over}, fields, begin - LEAD, block.name, post)
        return address, fresh

    def _begin(self, engine: Engine, possible: float, needed: float, cycles: float) -> float:
        """When a transfer is planned to begin: as soon as its place and its port are free."""
        begin = max(self.free_at[engine], possible)
        self.free_at[engine] = begin + cycles
        return min(begin, needed)

    def _time_of(self, counter: Counter, value: int) -> float:
        """When so many tasks are planned to be done."""
        if value == 0:
            return 0.0
        engine = next(engine for (engine, _), posted in COUNTER_OF.items() if posted is counter)
        task = self.plan.order[engine][value - 1]
        return self.plan.start[task] + task.cycles

    def _end(self) -> None:
        end = self.plan.end + 1000
        self._emit(Engine.DMA, Opcode.END, {Counter.STORED: self.images}, {"status": 1}, end, "end")


def compile_graph(graph: EfficientVitGraph, config: EfficientVitMachine, *, images: int = 1) -> CompiledProgram:
    """The program of ``images`` images of one network.

    Raises
    ------
    InputError : the network does not fit the machine
    """
    return _Compiler(graph, config, images).compile()
