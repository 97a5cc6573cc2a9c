"""Weights and parameters from the WEIGHTS window to the machine's memories: LOADs and STREAMs, each before its first reader."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import HEAD_BUFFER, Counter, LoadTarget, Opcode
from rtl.efficientvit.program.emitter import COUNTER_OF, Emitter
from rtl.efficientvit.program.memories import CircularStore
from rtl.efficientvit.program.pack import BEAT_BYTES, SLICES
from rtl.efficientvit.program.schedule import Schedule
from rtl.efficientvit.program.tasks import Block, Engine, Task
from rtl.program.memory import Window

#: Bytes per cycle that weights come at: what `schedule` leaves to be planned here.
STREAM_BYTES = 56
LOAD_BYTES = 14
#: Weights and parameters of the depthwise engine, in its words; weight words that the head keeps, and beats of its parameters.
DEPTH_WORDS, HEAD_WORDS = 512, 1024


@dataclass(frozen=True, kw_only=True)
class Filling:
    """How a memory is filled.

    queue, opcode, post : of its transfers        reader : the counter that its readers add to
    target, beats : of a LOAD: which memory, and beats of one of its words        buffer : of a STREAM: what its address begins with
    """

    queue: Engine
    opcode: Opcode
    post: Counter
    reader: Counter
    target: LoadTarget = LoadTarget.PARAMETER
    beats: int = 1
    buffer: int = 0


_ARRAY = {"queue": Engine.DMA, "opcode": Opcode.LOAD, "post": Counter.LOADED, "reader": Counter.STEPS_WRITTEN}
_DEPTH = _ARRAY | {"reader": Counter.DEPTHS_DONE}
_HEAD = {"queue": Engine.HEAD_TRANSFER, "opcode": Opcode.HEAD_LOAD, "post": Counter.HEAD_LOADED, "reader": Counter.HEADS_DONE}
PARAMETERS = Filling(target=LoadTarget.PARAMETER, beats=2, **_ARRAY)
DEPTH_WEIGHTS = Filling(target=LoadTarget.DEPTH_WEIGHT, beats=16, **_DEPTH)
DEPTH_PARAMETERS = Filling(target=LoadTarget.DEPTH_PARAMETER, beats=4, **_DEPTH)
HEAD_PARAMETERS = Filling(target=LoadTarget.HEAD_PARAMETER, beats=1, **_HEAD)
WEIGHTS = Filling(queue=Engine.STREAM, opcode=Opcode.STREAM, post=Counter.STREAMED, reader=Counter.STEPS_WRITTEN)
HEAD_WEIGHTS = Filling(
    queue=Engine.HEAD_TRANSFER, opcode=Opcode.HEAD_STREAM, post=Counter.HEAD_STREAMED, reader=Counter.HEADS_DONE,
    buffer=1 << HEAD_BUFFER,
)  # fmt: skip


class Transfers:
    """``window``: where all blocks get their place."""

    def __init__(self, config: EfficientVitMachine, plan: Schedule, emitter: Emitter, window: Window):
        self._plan, self._emitter, self._window = plan, emitter, window
        self._stores = {
            WEIGHTS: CircularStore(config.weight_words),
            PARAMETERS: CircularStore(config.parameter_words),
            **{filling: CircularStore(DEPTH_WORDS) for filling in (DEPTH_WEIGHTS, DEPTH_PARAMETERS)},
            **{filling: CircularStore(HEAD_WORDS) for filling in (HEAD_WEIGHTS, HEAD_PARAMETERS)},
        }
        self._offsets: dict[Block, int] = {}
        self._free_at: dict[Engine, float] = defaultdict(float)

    def step(self, task: Task, use: int, waits: dict[Counter, int]) -> dict[str, int]:
        """The blocks of a STEP, its ``use``-th. Returns their fields; adds to ``waits``."""
        fields = {"parameter_address": self._load(PARAMETERS, task, task.parameters, use, waits)}
        if task.weights is not None:
            fields["weight_address"] = self._stream(WEIGHTS, task, task.weights, use, waits, Counter.LOADED)
        return fields

    def depth(self, task: Task, use: int, waits: dict[Counter, int]) -> dict[str, int]:
        """Those of a depthwise layer, whose last line pair is number ``use`` of its queue."""
        return {
            "weights": self._load(DEPTH_WEIGHTS, task, task.weights, use, waits),
            "parameters": self._load(DEPTH_PARAMETERS, task, task.parameters, use, waits),
        }

    def head(self, task: Task, use: int, waits: dict[Counter, int]) -> dict[str, int]:
        """Those of a command of the head."""
        fields = {"parameters": self._load(HEAD_PARAMETERS, task, task.parameters, use, waits)}
        if task.weights is not None:
            fields["weights"] = self._stream(HEAD_WEIGHTS, task, task.weights, use, waits, Counter.HEAD_LOADED)
        return fields

    def _load(self, filling: Filling, task: Task, block: Block | None, use: int, waits: dict[Counter, int]) -> int:
        """Address of a block, after a LOAD if it is not there."""
        assert block is not None
        address, fresh, over = self._stores[filling].place(block, use)
        if fresh:
            fields = {"target": filling.target, "beats": block.size // BEAT_BYTES, "address": address * filling.beats}
            self._transfer(filling, task, block, {filling.reader: over}, over, fields, LOAD_BYTES)
            waits[filling.post] = self._emitter.posted[filling.post]
        return address

    def _stream(self, filling: Filling, task: Task, block: Block, use: int, waits: dict[Counter, int], loaded: Counter) -> int:
        """Address of weights, after a STREAM if they are not there. What was loaded for the task comes before it: one wait for both."""
        address, fresh, over = self._stores[filling].place(block, use)
        if fresh:
            needs = {filling.reader: over, loaded: waits.pop(loaded, 0)}
            fields = {"stride": block.size // SLICES, "items": block.words, "address": address | filling.buffer}
            self._transfer(filling, task, block, needs, over, fields, STREAM_BYTES)
            waits[filling.post] = self._emitter.posted[filling.post]
        return address

    def _transfer(
        self, filling: Filling, task: Task, block: Block, needs: dict[Counter, int], over: int, fields: dict[str, int], speed: int
    ) -> None:
        """Planned to begin as soon as its place (after ``over`` readers) and its port are free."""
        if block not in self._offsets:
            self._offsets[block] = self._window.add(block.size, block.pack)
        begin = max(self._free_at[filling.queue], self._time_of(filling.reader, over))
        self._free_at[filling.queue] = begin + block.size / speed
        start = min(begin, self._plan.start[task])
        fields = fields | {"offset": self._offsets[block]}
        self._emitter.emit(filling.queue, filling.opcode, needs, fields, start, block.name, filling.post)

    def _time_of(self, counter: Counter, value: int) -> float:
        """When so many tasks are planned to be done."""
        if value == 0:
            return 0.0
        engine = next(engine for (engine, _), posted in COUNTER_OF.items() if posted is counter)
        task = self._plan.order[engine][value - 1]
        return self._plan.start[task] + task.cycles
