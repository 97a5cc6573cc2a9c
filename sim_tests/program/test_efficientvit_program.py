"""The compiled EfficientViT program, executed by queues of random speed: whatever the speeds, its waits keep what each task needs."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections import defaultdict

import pytest
from amaranth import Signal

from model.efficientvit.graph import EfficientVitGraph
from model.zoo import load_graph_and_metadata
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import HEAD_BUFFER, QUEUE_OF, Counter, Instruction, LoadTarget, Opcode
from rtl.efficientvit.program.compiler import CompiledProgram, compile_graph
from rtl.efficientvit.program.emitter import COUNTER_OF, Emitter
from rtl.efficientvit.program.layout import attention_order
from rtl.efficientvit.program.tasks import Engine, Event, Task
from rtl.errors import InputError
from rtl.instruction_queue import Counters
from rtl.program.instruction import HEADER, MOST_POSTS

QUEUE_DEPTH = 32
IMAGES = 3


@functools.cache
def graph(bits: int = 8) -> EfficientVitGraph:
    return load_graph_and_metadata("efficientvit_micro", bits, "random:0")[0]


@functools.cache
def program(bits: int = 8) -> CompiledProgram:
    """A small weight memory, so that tiles replace each other."""
    config = EfficientVitMachine(image_size=28, channels=1, classes=10, rows=16, bits=bits, weight_words=1024, parameter_words=256)
    return compile_graph(graph(bits), config, images=IMAGES)


class Run:
    """Times of all starts and events, by program index. Engines are in order; each takes as long as it likes."""

    def __init__(self, instructions: tuple[Instruction, ...], seed: int):
        self.instructions, self.rng = instructions, random.Random(seed)
        self.start: dict[int, float] = {}
        self.events: dict[tuple[int, Event], float] = {}
        self.reached: dict[Counter, list[float]] = defaultdict(list)
        self.speed = {queue: self.rng.choice([0.1, 1, 10]) for queue in set(QUEUE_OF.values())}
        self._execute()

    def _execute(self) -> None:
        queues: dict[int, list[int]] = defaultdict(list)
        waiting = list(range(len(self.instructions)))
        free: dict[int, float] = defaultdict(float)
        last: dict[tuple[int, Event], float] = defaultdict(float)
        while waiting or any(queues.values()):
            while waiting and len(queues[QUEUE_OF[self.instructions[waiting[0]].opcode]]) < QUEUE_DEPTH:
                index = waiting.pop(0)
                queues[QUEUE_OF[self.instructions[index].opcode]].append(index)
            startable = {queue: self._may_start(line[0], free[queue]) for queue, line in queues.items() if line}
            startable = {queue: when for queue, when in startable.items() if when is not None}
            assert startable, f"the program hangs at {[self.instructions[line[0]].comment for line in queues.values() if line]}"
            queue = min(startable, key=lambda queue: startable[queue])
            index, now = queues[queue].pop(0), startable[queue]
            self.start[index] = now
            free[queue] = now + self.speed[queue] * self.rng.uniform(1, 20)
            for event in (Event.WRITTEN, Event.COLLECTED) if queue == Engine.ARRAY else (Event.DONE,):
                when = max(free[queue] + self.rng.uniform(0, 30), last[queue, event])
                last[queue, event] = self.events[index, event] = when
                counter = self._counter(index, event)
                if counter is not None:
                    self.reached[counter].append(when)

    def _may_start(self, index: int, free: float) -> float | None:
        when = free
        for counter, value in self.instructions[index].waits:
            reached = self.reached[Counter(counter)]
            if value > len(reached):
                return None
            when = max(when, reached[value - 1])
        return when

    def _counter(self, index: int, event: Event) -> Counter | None:
        instruction = self.instructions[index]
        if instruction.post_enable:
            return Counter(instruction.post_counter)
        return COUNTER_OF.get((Engine(QUEUE_OF[instruction.opcode]), event)) if instruction.opcode is not Opcode.END else None


def tasks_of(compiled: CompiledProgram) -> dict[Task, int]:
    """The program index of every task."""
    places: dict[Engine, list[int]] = defaultdict(list)
    for index, instruction in enumerate(compiled.instructions):
        if instruction.opcode not in (Opcode.LOAD, Opcode.STREAM, Opcode.HEAD_STREAM, Opcode.HEAD_LOAD, Opcode.END):
            places[Engine(QUEUE_OF[instruction.opcode])].append(index)
    return {task: places[engine][number] for engine, tasks in compiled.plan.order.items() for number, task in enumerate(tasks)}


@pytest.mark.parametrize("seed", range(6))
def test_waits_keep_what_every_task_needs(seed):
    compiled = program()
    run, index = Run(compiled.instructions, seed), tasks_of(compiled)
    assert len(run.start) == len(compiled.instructions)
    for task in index:
        for before, event in task.after:
            if event is Event.ORDER:
                assert index[before] < index[task], task.name
            else:
                assert run.events[index[before], event] <= run.start[index[task]], f"{task.name} before {before.name} is {event.value}"


def memory_of(instruction: Instruction) -> tuple[str, int, int] | None:
    """(memory, first, words) that a LOAD or STREAM writes."""
    payload = instruction.payload
    if instruction.opcode in (Opcode.STREAM, Opcode.HEAD_STREAM):
        memory = "head weights" if payload["address"] >> HEAD_BUFFER else "weights"
        return memory, payload["address"] % (1 << HEAD_BUFFER), payload["items"]
    if instruction.opcode in (Opcode.LOAD, Opcode.HEAD_LOAD):
        return LoadTarget(payload["target"]).name, payload["address"], payload["beats"]
    return None


def reads_of(task: Task, payload: dict[str, int]) -> list[tuple[str, int, int, bytes]]:
    """(memory, first, words, content) that a task reads."""
    if task.engine is Engine.ARRAY:
        memories = ("weights", 1, "weight_address"), ("PARAMETER", 2, "parameter_address")
    elif task.engine is Engine.HEAD:
        memories = ("head weights", 1, "weights"), ("HEAD_PARAMETER", 1, "parameters")
    elif task.opcode is Opcode.DEPTH_LAYER:
        memories = ("DEPTH_WEIGHT", 16, "weights"), ("DEPTH_PARAMETER", 4, "parameters")
    else:
        return []
    found = []
    for block, (memory, beats, field) in zip((task.weights, task.parameters), memories, strict=True):
        if block is not None:
            found.append((memory, payload[field] * beats, block.words * beats, block.pack()))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_weights_and_parameters_are_there_when_read_and_stay(seed):
    compiled = program()
    run, index = Run(compiled.instructions, seed), tasks_of(compiled)
    writes = defaultdict(list)
    for number, instruction in enumerate(compiled.instructions):
        where = memory_of(instruction)
        if where is not None:
            writes[where[0]].append((where[1], where[1] + where[2], run.start[number], run.events[number, Event.DONE], instruction.payload))
    ends = layer_ends(compiled)
    for task, number in index.items():
        begin = run.start[number]
        end = (
            run.events[index[ends[task]], Event.DONE]
            if task in ends
            else max(run.events.get((number, e), 0) for e in (Event.WRITTEN, Event.DONE))
        )
        for memory, first, words, content in reads_of(task, compiled.instructions[number].payload):
            covering = [write for write in writes[memory] if write[0] < first + words and first < write[1] and write[2] < end]
            loaded = max(covering, key=lambda write: write[2])
            assert loaded[:2] == (first, first + words) and loaded[3] <= begin, f"{task.name}: {memory}"
            offset = loaded[4]["offset"]
            assert compiled.weights[offset : offset + len(content)] == content, f"{task.name}: {memory}"


def layer_ends(compiled: CompiledProgram) -> dict[Task, Task]:
    """The last line pair of every layer command."""
    ends: dict[Task, Task] = {}
    for task in compiled.plan.order[Engine.DEPTH]:
        if task.opcode is Opcode.DEPTH_LAYER:
            layer = task
        ends[layer] = task
    return ends


def test_a_wait_less_is_noticed():
    """Each of many single waits that are left out lets some task come too early, at some speed."""
    compiled = program()
    index = tasks_of(compiled)
    rng = random.Random(1)
    candidates = [n for n, i in enumerate(compiled.instructions) if i.wait0_value and i.opcode in (Opcode.STEP, Opcode.DEPTH_LINES)]
    noticed = 0
    chosen = rng.sample(candidates, 12)
    for number in chosen:
        broken = list(compiled.instructions)
        old = broken[number]
        fields = {field.name: getattr(old, field.name) for field in dataclasses.fields(old)} | {"wait0_counter": 0, "wait0_value": 0}
        broken[number] = Instruction(**fields)
        task = next(task for task, place in index.items() if place == number)
        for seed in range(8):
            run = Run(tuple(broken), seed)
            early = [
                before for before, event in task.after if event is not Event.ORDER and run.events[index[before], event] > run.start[number]
            ]
            if early:
                noticed += 1
                break
    assert noticed >= len(chosen) // 2


@pytest.mark.parametrize(("heads", "head_dim"), [(3, 16), (4, 8)])
def test_heads_that_do_not_fill_words_are_refused(heads, head_dim):
    with pytest.raises(InputError, match="heads must be of 32 channels, or an even number of 16"):
        attention_order(3 * heads * head_dim, head_dim)


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 16), (3, 32)])
def test_attention_order_has_every_channel_once(heads, head_dim):
    assert sorted(attention_order(3 * heads * head_dim, head_dim)) == list(range(3 * heads * head_dim))


@pytest.mark.parametrize("bits", [4, 6])
def test_fewer_bits_change_constants_alone(bits):
    """Codes in instructions are of so many bits, as the machine takes them; the tasks and their order are those of 8 bits."""
    narrow, wide = program(bits), program()
    places = [[(task.opcode, task.name, task.image) for task in compiled.plan.order[Engine.ARRAY]] for compiled in (narrow, wide)]
    assert places[0] == places[1] and len(narrow.weights) == len(wide.weights) and narrow.image_bytes == wide.image_bytes
    fields = {"zero", "pad", "shortcut_zero", "pad_0", "pad_1", "pad_2"}
    for compiled, least, most in ((narrow, 1 << bits - 1, 1 << bits), (wide, 128, 256)):
        codes = [i.payload[name] for i in compiled.instructions for name in fields & i.payload.keys()]
        assert least <= max(codes) < most


def test_the_program_is_the_same_every_time():
    """Tasks are kept in sets, whose order is that of addresses: nothing of it may show."""
    program.cache_clear()
    first = program()
    program.cache_clear()
    again = program()
    assert first.program == again.program and first.weights == again.weights


def test_images_that_do_not_fit_a_program_are_refused(monkeypatch):
    """Counters have 16 bits; here fewer, so that it does not take 851 images of 77 steps each."""
    config = EfficientVitMachine(image_size=28, channels=1, classes=10, rows=16)
    monkeypatch.setattr("rtl.program.instruction.MOST_POSTS", 200)
    assert compile_graph(graph(), config, images=2).images == 2
    message = r"^a program must post at most 200 times to STEPS_WRITTEN: 231 are more; put fewer images into one$"
    with pytest.raises(InputError, match=message):
        compile_graph(graph(), config, images=IMAGES)


@pytest.mark.parametrize("posts", ["post", "posts"])
def test_posts_that_do_not_fit_a_counter_are_refused(monkeypatch, posts):
    """Of instructions, and of the machine itself."""
    monkeypatch.setattr("rtl.program.instruction.MOST_POSTS", 3)
    emitter = Emitter()

    def emit(number: int) -> None:
        told = {"post": Counter.LOADED} if posts == "post" else {"posts": {Counter.LOADED: number}}
        emitter.emit(Engine.DMA, Opcode.LOAD, {}, {}, 0, "load", **told)

    for number in (1, 2, 3):
        emit(number)
    with pytest.raises(InputError, match="at most 3 times to LOADED: 4 are more"):
        emit(4)


def test_the_limit_is_that_of_the_counters():
    bits = dict(HEADER)["wait0_value"]
    assert (1 << bits) - 1 == MOST_POSTS and len(Signal(Counters)[0]) == bits


@pytest.mark.parametrize("depth", ["key_value_depth", "state_depth", "ring_depth"])
def test_memories_that_are_too_small_are_refused(depth):
    config = EfficientVitMachine(image_size=28, channels=1, classes=10, rows=16, **{depth: 4})
    with pytest.raises(InputError, match=r"; use a deeper"):
        compile_graph(graph(), config)
