"""The classification head as tasks, in pieces for which the head engine has room."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from model.efficientvit.graph import LOGITS, Convolution, LayerNorm, Pool
from rtl.efficientvit.head_command import HeadKind
from rtl.efficientvit.isa import WORD_CHANNELS, Opcode
from rtl.efficientvit.program.layout import words_of
from rtl.efficientvit.program.pack import BEAT_BYTES, SLICES, WORD_BYTES
from rtl.efficientvit.program.pack_head import linear_size, norm_fields, pack_linear, pack_norm, pack_pool, pack_weights
from rtl.efficientvit.program.tasks import Block, Engine, Event, Task
from rtl.efficientvit.program.workspace import Workspace

#: Weight words of one LINEAR, at most: four of them fit the head's buffer.
LINEAR_WORDS = 240
#: Words of codes whose parameters are in the head's memory at a time.
CODE_WORDS = 16
#: The head runs in the background, as fast as its weights come while nobody else's do. Planned faster, its queues would fill and hold up
#: the others.
UNHURRIED = 1.5


class HeadTasks:
    def __init__(self, workspace: Workspace):
        self.workspace, self.graph = workspace, workspace.graph
        self._pool_steps: list[Task] = []
        self._pool_readers: list[Task] = []  # who must be done before the pool is used again
        self._stores: list[Task] = []

    def _command(self, name: str, cycles: int, parameters: Block, **fields: int) -> Task:
        task = self.workspace.add(Engine.HEAD, Opcode.FULLY_CONNECTED, name, cycles, **fields)
        task.parameters = parameters
        return task

    def pool_step(self, task: Task, word: int, pass_index: int) -> None:
        """The step's results go to the pool, from its word ``word`` on."""
        task.payload |= {"pool": 1, "key_value": word, "bank": int(pass_index == 0)}
        task.after |= {(other, Event.DONE) for other in self._pool_readers}
        self._pool_steps.append(task)

    def pool(self, operator: Pool) -> None:
        """The averages of all steps since the last one."""
        source, target = self.graph.tensors[operator.source], self.graph.tensors[operator.target]
        packed = cache(partial(pack_pool, operator.requantizer, source.pixels, int(source.zero)))
        steps, self._pool_steps, self._pool_readers = self._pool_steps, [], []
        for first, words, block in self._pieces(operator.name, packed, source.channels):
            task = self._command(
                operator.name, 4 * WORD_CHANNELS * words, block, kind=HeadKind.POOL, words=words, first=first, zero=target.zero,
                low=target.limits.low,
            )  # fmt: skip
            task.after |= {(step, Event.COLLECTED) for step in steps}
            self._pool_readers.append(task)

    def norm(self, operator: LayerNorm) -> None:
        source, target = self.graph.tensors[operator.source], self.graph.tensors[operator.target]
        fields = norm_fields(operator) | {"zero": target.zero, "low": target.limits.low}
        for first, words, block in self._pieces(operator.name, cache(partial(pack_norm, operator)), source.channels):
            cycles = 4 * WORD_CHANNELS * words + (8 * source.channels if first == 0 else 0)
            self._command(operator.name, cycles, block, kind=HeadKind.NORM, words=words, first=first, statistics=first == 0, **fields)

    def _pieces(self, name: str, packed: Callable[[], bytes], channels: int) -> list[tuple[int, int, Block]]:
        """(first word, words, parameters) of codes, a beat per channel."""
        pieces = []
        for first in range(0, words_of(channels), CODE_WORDS):
            words = min(CODE_WORDS, words_of(channels) - first)
            beats = slice(WORD_CHANNELS * first, min(WORD_CHANNELS * (first + words), channels))
            pieces.append((first, words, self._beats(f"{name} words {first}..{first + words - 1} parameters", beats, packed)))
        return pieces

    def _beats(self, title: str, beats: slice, packed: Callable[[], bytes]) -> Block:
        """Some of the beats that ``packed`` makes."""
        count, part = beats.stop - beats.start, slice(BEAT_BYTES * beats.start, BEAT_BYTES * beats.stop)
        return self.workspace.block((title,), lambda: Block(title, count, count * BEAT_BYTES, lambda: packed()[part]))

    def linear(self, operator: Convolution) -> None:
        """A fully connected layer; after the last one the logits are stored."""
        weight = operator.weight[:, :, 0, 0]
        source = self.graph.tensors[operator.source]
        pairs, words = linear_size(*weight.shape)
        normed = any(isinstance(other, LayerNorm) and other.target == operator.source for other in self.graph.operators)
        packed = cache(partial(pack_weights, weight))
        beats = cache(partial(pack_linear, operator.requantizer, weight, int(source.zero), self.graph.bits))
        step = max(1, LINEAR_WORDS // words)
        logits = operator.target == LOGITS
        tasks = []
        for first in range(0, pairs, step):
            count = min(step, pairs - first)
            name = f"{operator.name} pairs {first}..{first + count - 1}"
            parameters = self._beats(f"{name} parameters", slice(first, first + count), beats)
            task = self._command(
                operator.name, round(words * count * UNHURRIED), parameters, kind=HeadKind.LINEAR, words=words, first=first, pairs=count,
                norm_vector=normed, logits=logits,
            )  # fmt: skip
            task.payload["image"] = task.image % 2
            task.weights = self._weights(f"{name} weights", slice(first * words, (first + count) * words), packed)
            tasks.append(task)
        if logits:
            if len(self._stores) > 1:
                tasks[0].after.add((self._stores[-2], Event.DONE))
            store = self.workspace.add(Engine.DMA, Opcode.STORE, "logits", 300, items=len(weight), image=tasks[0].image % 2)
            store.after = {(task, Event.DONE) for task in tasks}
            self._stores.append(store)

    def _weights(self, title: str, part: slice, packed: Callable[[], np.ndarray]) -> Block:
        """Some words of those that ``packed`` makes, slice by slice."""
        count = part.stop - part.start

        def pack() -> bytes:
            return np.ascontiguousarray(packed()[part].reshape(-1, SLICES, BEAT_BYTES).transpose(1, 0, 2)).tobytes()

        return self.workspace.block((title,), lambda: Block(title, count, count * WORD_BYTES, pack))
