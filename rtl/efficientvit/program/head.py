"""The classification head as tasks, in pieces for which the head engine has room."""

from __future__ import annotations

import numpy as np

from model.efficientvit.graph import LOGITS, Convolution, LayerNorm, Pool
from rtl.efficientvit.head_command import HeadKind
from rtl.efficientvit.isa import WORD_CHANNELS, Opcode
from rtl.efficientvit.program.layout import words_of
from rtl.efficientvit.program.pack import BEAT_BYTES, SLICES
from rtl.efficientvit.program.pack_head import norm_fields, pack_linear, pack_norm, pack_pool, pack_weights
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
        packed = pack_pool(operator.requantizer, source.pixels, int(source.zero))
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
        for first, words, block in self._pieces(operator.name, pack_norm(operator), source.channels):
            cycles = 4 * WORD_CHANNELS * words + (8 * source.channels if first == 0 else 0)
            self._command(operator.name, cycles, block, kind=HeadKind.NORM, words=words, first=first, statistics=first == 0, **fields)

    def _pieces(self, name: str, packed: bytes, channels: int) -> list[tuple[int, int, Block]]:
        """(first word, words, parameters) of codes, a beat per channel."""
        pieces = []
        for first in range(0, words_of(channels), CODE_WORDS):
            words = min(CODE_WORDS, words_of(channels) - first)
            part = packed[BEAT_BYTES * WORD_CHANNELS * first : BEAT_BYTES * WORD_CHANNELS * (first + words)]
            title = f"{name} words {first}..{first + words - 1} parameters"
            block = self.workspace.block((title,), lambda part=part, title=title: Block(title, part, len(part) // BEAT_BYTES))
            pieces.append((first, words, block))
        return pieces

    def linear(self, operator: Convolution) -> None:
        """A fully connected layer; after the last one the logits are stored."""
        weight = operator.weight[:, :, 0, 0]
        source = self.graph.tensors[operator.source]
        words, pairs = words_of(weight.shape[1]), -(-len(weight) // 2)
        normed = any(isinstance(other, LayerNorm) and other.target == operator.source for other in self.graph.operators)
        packed, beats = pack_weights(weight), pack_linear(operator.requantizer, weight, int(source.zero), self.graph.bits)
        step = max(1, LINEAR_WORDS // words)
        logits = operator.target == LOGITS
        tasks = []
        for first in range(0, pairs, step):
            count = min(step, pairs - first)
            name = f"{operator.name} pairs {first}..{first + count - 1}"
            part = packed[first * words : (first + count) * words].reshape(-1, SLICES, BEAT_BYTES)
            parameters = self.workspace.block((name, "parameters"), lambda first=first, count=count, name=name: Block(
                f"{name} parameters", beats[BEAT_BYTES * first : BEAT_BYTES * (first + count)], count))  # fmt: skip
            task = self._command(
                operator.name, round(words * count * UNHURRIED), parameters, kind=HeadKind.LINEAR, words=words, first=first, pairs=count,
                norm_vector=normed, logits=logits,
            )  # fmt: skip
            task.payload["image"] = task.image % 2
            task.weights = self.workspace.block((name, "weights"), lambda part=part, name=name: Block(
                f"{name} weights", np.ascontiguousarray(part.transpose(1, 0, 2)).tobytes(), len(part)))  # fmt: skip
            tasks.append(task)
        if logits:
            if len(self._stores) > 1:
                tasks[0].after.add((self._stores[-2], Event.DONE))
            store = self.workspace.add(Engine.DMA, Opcode.STORE, "logits", 300, items=len(weight), image=tasks[0].image % 2)
            store.after = {(task, Event.DONE) for task in tasks}
            self._stores.append(store)
