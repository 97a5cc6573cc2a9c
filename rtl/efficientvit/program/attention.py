"""Linear attention: q, k and v as they are made, K^T V of each head, and the quotients."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from model.efficientvit.graph import LinearAttention, Scale, Tensor
from model.integer import REQUANTIZE_SHIFTS
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS, Opcode
from rtl.efficientvit.program import pack
from rtl.efficientvit.program.layout import ATTENTION_WORDS, words_of
from rtl.efficientvit.program.memories import Region, Regions
from rtl.efficientvit.program.steps import Steps, Tile
from rtl.efficientvit.program.tasks import Block, Engine, Event, Task
from rtl.efficientvit.program.workspace import Workspace
from rtl.errors import InputError

#: Words of q in one score step: the divisors that a row keeps.
SCORE_WORDS = 16


def state_words(query_words: int) -> int:
    """Of the state memory, for the heads of so many words of q."""
    return PAIRS * (1 + query_words)


class State(NamedTuple):
    """The states of up to SCORE_WORDS words of q: where they are, and the tasks that make them."""

    region: Region
    outers: list[Task]


class AttentionTasks:
    def __init__(self, workspace: Workspace, steps: Steps):
        self.workspace, self.steps = workspace, steps
        config = workspace.config
        self._pass_words = 2 * config.groups  # of the key/value memory: k and v
        self._key_values = Regions("key_value_depth", config.key_value_depth)
        self._state_memory = Regions("state_depth", config.state_depth)
        self._states: dict[tuple[str, int, int], list[State]] = {}

    def key_value_region(self, tensor: Tensor) -> Region:
        """A place for k and v of one tile."""
        return self._key_values.take(self.workspace.passes(tensor) * self._pass_words)

    def collect(self, task: Task, region: Region, pass_index: int) -> None:
        """The step's k and v go to the key/value memory too."""
        task.payload |= {"attention": 1, "key_value": region.base + pass_index * self._pass_words}
        task.after |= {(other, Event.DONE) for other in region.before}
        region.users.add(task)

    def outers(self, source: str, tile: Tile, region: Region) -> None:
        """K^T V of the heads of one tile, as soon as all its pixels have come."""
        operator, index = self.workspace.readers.attention[source]
        tensor = self.workspace.graph.tensors[source]
        per_word = 1 if operator.head_dim == WORD_CHANNELS else 2
        tile_index = tile[0] // ATTENTION_WORDS
        word = tile_index % SCORE_WORDS
        state = self._state(operator, index, tensor, tile_index)
        steps = {task for task in region.users if task.engine is Engine.ARRAY}
        region.users.clear()
        for number in range(per_word):
            task = self._outer(operator, operator.scales[index], tensor, tile_index * per_word + number)
            task.payload |= {"address": region.base + number, "base": state.region.base, "place": word * per_word + number}
            task.after |= {(step, Event.COLLECTED) for step in steps} | {(step, Event.WRITTEN) for step in state.region.before}
            region.users.add(task)
            if number:  # the even head of a word clears the other's place
                task.after.add((state.outers[-1], Event.ORDER))
            state.outers.append(task)

    def _state(self, operator: LinearAttention, index: int, tensor: Tensor, tile_index: int) -> State:
        """Of the heads of a tile; a new one for the first of SCORE_WORDS words of q."""
        chunk, word = divmod(tile_index, SCORE_WORDS)
        states = self._states.setdefault((operator.name, index, self.workspace.number), [])
        if word == 0:
            left = words_of(tensor.channels // 3) - chunk * SCORE_WORDS
            states.append(State(self._state_memory.take(state_words(min(SCORE_WORDS, left))), []))
        return states[chunk]

    def _outer(self, operator: LinearAttention, scale: Scale, tensor: Tensor, head: int) -> Task:
        wide = operator.head_dim == WORD_CHANNELS
        return self.workspace.add(
            Engine.OUTER, Opcode.OUTER, operator.name, max(tensor.pixels * (8 if wide else 2), 288 if wide else 76),
            stride=2, pixels=tensor.pixels, wide=wide,
            state_multiplier=scale.state_multiplier[head], state_shift=REQUANTIZE_SHIFTS.index(int(scale.state_shift[head])),
            sum_multiplier=scale.sum_multiplier[head], sum_shift=REQUANTIZE_SHIFTS.index(int(scale.sum_shift[head])),
        )  # fmt: skip

    def scores(self, operator: LinearAttention) -> None:
        """Quotients of all heads: grouped steps with the states as weights."""
        workspace, target = self.workspace, operator.target
        workspace.place(target)
        done = 0
        for number, scale in enumerate(operator.scales):
            if scale.divisor.kind != "log2":
                raise InputError(f"divisors must be of kind log2: {scale.divisor.kind} is not done yet in the machine; quantize with log2")
            total = words_of(workspace.graph.tensors[scale.source].channels // 3)
            block = workspace.block((operator.name, number, "parameters"), partial(_parameters, operator.name, number, scale))
            for chunk, state in enumerate(self._states.pop((operator.name, number, workspace.number))):
                first = chunk * SCORE_WORDS
                tile = (done + first, min(SCORE_WORDS, total - first))
                for pass_index in range(workspace.passes(workspace.graph.tensors[target])):
                    task = self._score(operator, scale, state, first, tile, pass_index)
                    task.parameters = block
            done += total

    def _score(self, operator: LinearAttention, scale: Scale, state: State, first: int, tile: Tile, pass_index: int) -> Task:
        """Results ``tile`` of a pass, from words ``first``.. of q."""
        target, words = self.workspace.graph.tensors[operator.target], tile[1]
        task = self.workspace.add(
            Engine.ARRAY, Opcode.STEP, operator.name, PAIRS * (1 + words), weight_address=state.region.base,
            source_stride=ATTENTION_WORDS, words=1, outputs=words, score=1, zero=target.zero, low=target.limits.low,
            exponent_low=scale.divisor.low, pixels=self.workspace.pixels(target, pass_index),
        )  # fmt: skip
        task.payload["source"] = self.workspace.read(task, scale.source, pass_index, first * ATTENTION_WORDS, words, ATTENTION_WORDS)
        self.steps.write(task, operator.target, tile, pass_index)
        task.after |= {(outer, Event.DONE) for outer in state.outers}
        state.region.users.add(task)
        task.makes = ("step", operator.target, *tile, pass_index)
        return task


def _parameters(name: str, number: int, scale: Scale) -> Block:
    return Block(
        f"{name} scale {number} parameters", PAIRS, PAIRS * pack.PAIR_BYTES, lambda: pack.pack_parameters(pack.score_parameters(scale))
    )
