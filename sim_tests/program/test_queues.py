"""Synchronisation: whichever queue goes first, nothing deadlocks and every instruction finds its own operands."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from model.random_graph import random_graph
from rtl.config import AcceleratorConfig, preset
from rtl.program.compiler import CompiledProgram, compile_graph
from rtl.program.instruction import COUNTERS, WAITS
from rtl.program.isa import Counter, Destination, Instruction, LoadTarget, Opcode, Source
from sim_tests.program.executor import QUEUES, Executor, array_first, attend_last, dma_first, first_of, input_first, met, stream_first
from sim_tests.program.shapes import BASE, SMALL
from sim_tests.program.test_compiler import images_of, logits_of, tensors_of, window_of


def compiled_for(name: str, seed: int, images: int) -> tuple[CompiledProgram, AcceleratorConfig]:
    config = SMALL[name]
    return compile_graph(random_graph(config.shape, seed), config, images), config


def follow(compiled: CompiledProgram, config: AcceleratorConfig, policy) -> None:
    """Run queues and buffers without numbers."""
    windows = (compiled.program, compiled.weights, bytes(compiled.image_bytes))
    Executor(config, *windows, compiled.result_bytes, numbers=False).run(policy)


def wait_of(instruction: Instruction, counter: Counter) -> int:
    """The value of ``counter`` that the instruction waits for."""
    return max((value for waited, value in instruction.waits if waited == counter), default=0)


@pytest.fixture(scope="module", params=[1, 2])
def base(request) -> tuple[CompiledProgram, AcceleratorConfig]:
    config = preset(BASE)
    graph = random_graph(BASE, 1)
    start = time.perf_counter()
    compiled = compile_graph(graph, config, request.param)
    assert time.perf_counter() - start < 30
    return compiled, config


def test_base_keeps_its_buffers(base) -> None:
    compiled, config = base
    for policy in (dma_first, stream_first, array_first):
        follow(compiled, config, policy)


def test_base_size(base) -> None:
    """86 M binary weights, 768 kB of head and 590 kB of patch planes, once; every image byte and logit accounted for."""
    compiled, _ = base
    images = compiled.images
    assert compiled.image_bytes == images * 224 * 224 * 3
    assert compiled.result_bytes == images * 2000  # whole beats
    opcodes = [instruction.opcode for instruction in compiled.instructions]
    alone = (
        images == 1
    )  # projection and the first two of the feed-forward in two parts; attention: the first heads, then others in two parts
    assert opcodes.count(Opcode.TILE) == images * (8 + 1 + 12 * (3 + 1 + 4 + 4 + 3 * alone)) + 11
    assert opcodes.count(Opcode.STREAM) == images * (8 + 12 * (3 + 1 + 4 + 4)) + 11  # both parts use the words that came once
    assert opcodes.count(Opcode.ATTEND) == images * 12 * 3
    assert 10.6e6 + 1.3e6 < len(compiled.weights) < 14e6


@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("name", SMALL)
def test_random_orders(name: str, images: int, seed: int) -> None:
    compiled, config = compiled_for(name, seed, images)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        follow(compiled, config, lambda ready: ready[rng.integers(len(ready))])


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_shallow_queues(name: str, images: int, depth: int, seed: int) -> None:
    """Instructions are dealt in order to queues of ``depth``: a full one holds back all that follow, and still nothing deadlocks."""
    program = list(compiled_for(name, seed, images)[0].instructions)
    counters: list[int] = [0] * COUNTERS
    queues: dict[str, list[Instruction]] = {name: [] for name in QUEUES.values()}
    while program or any(queues.values()):
        progress = False
        while program and len(queues[QUEUES[program[0].opcode]]) < depth:
            instruction, progress = program.pop(0), True
            queues[QUEUES[instruction.opcode]].append(instruction)
        for queue in queues.values():
            if queue and met(queue[0], counters):
                done, progress = queue.pop(0), True
                counters[done.post_counter] += done.post_enable
        assert progress, f"deadlock: {counters}, {[queue[0] for queue in queues.values() if queue]}"


@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize("name", SMALL)
def test_waits_look_back(name: str, images: int, seed: int) -> None:
    """Every wait is met by posts earlier in the program: then no queue depth can deadlock."""
    posts = [0] * COUNTERS
    for instruction in compiled_for(name, seed, images)[0].instructions:
        assert met(instruction, posts), instruction
        posts[instruction.post_counter] += instruction.post_enable
    assert posts[Counter.NONE] == 0


@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize("name", SMALL)
def test_shared_memories_are_free(name: str, images: int, seed: int) -> None:
    """Activations, residuals, logits, keys and values: whoever takes them over waits for the last one who used them."""
    compiled, config = compiled_for(name, seed, images)
    residuals, logits, last_query = ([0] * config.images for _ in range(3))
    activations, attended, asked = (np.zeros((config.images, config.passes), dtype=int) for _ in range(3))  # used, written and read last
    readers, queries = (np.zeros(config.key_value_heads, dtype=int) for _ in range(2))
    tiles = attends = waited = 0
    for instruction in compiled.instructions:
        p, done = instruction.payload, wait_of(instruction, Counter.TILES_DONE)
        if instruction.opcode == Opcode.INPUT:
            assert done >= activations[p["image"]].max()
        elif instruction.opcode == Opcode.LOAD and p["target"] == LoadTarget.POSITION and p["address"] == 0:
            assert done >= residuals[p["image"]]
        elif instruction.opcode == Opcode.STORE:
            assert done >= logits[p["image"]] > 0
        elif instruction.opcode == Opcode.ATTEND:
            assert done >= queries[p["key_value_head"] : p["key_value_head"] + p["heads"]].max() > 0
            # where o meets q, every query of the layer must be in place; elsewhere, nobody else may be at work
            passes, attends = slice(p["first_pass"], p["first_pass"] + p["passes"]), attends + 1
            assert done >= (last_query[p["image"]] if p["output_image"] == p["image"] else activations[p["output_image"], passes].max())
            attended[p["output_image"], passes] = asked[p["image"], passes] = attends
            readers[p["key_value_head"] : p["key_value_head"] + p["heads"]] = attends
        elif instruction.opcode == Opcode.TILE:
            tiles, waited = tiles + 1, max(waited, wait_of(instruction, Counter.ATTENTIONS_DONE))
            passes = slice(p["first_pass"], p["first_pass"] + p["passes"])
            for slot in range(p["image"], p["image"] + p["images"]):
                reads = [slot ^ p["image"] ^ p["source_image"]] * (p["source"] == Source.ACTIVATION)
                writes = [slot] * (p["destination"] == Destination.ACTIVATION)
                assert all(waited >= asked[used, passes].max() for used in writes)
                for used in [*reads, *writes]:
                    activations[used, passes] = tiles
                    assert waited >= attended[used, passes].max()
                if p["source"] == Source.NORMALIZED or p["destination"] == Destination.RESIDUAL:
                    residuals[slot] = tiles
                if p["destination"] == Destination.LOGITS:
                    logits[slot] = tiles
                if p["destination"] == Destination.QKV:
                    places = slice(p["key_value_head"], p["key_value_head"] + p["heads"])
                    assert waited >= readers[places].max()
                    queries[places] = last_query[slot] = tiles


def test_one_image_overlaps_its_own_attention(seed: int) -> None:
    """Where the other slot is idle, ATTEND j waits for QKV tile j alone, and its last pass comes apart; in a pair for the whole layer."""
    for images, slots, distances in ((1, 2, [0, 0, 0]), (2, 2, [1, 0]), (1, 1, [1, 0])):
        config = dataclasses.replace(SMALL["tiny"], images=slots)
        compiled = compile_graph(random_graph(config.shape, seed), config, images)
        tiles, made, found = 0, {}, []
        for instruction in compiled.instructions:
            if instruction.opcode == Opcode.TILE:
                tiles += 1
                if instruction.payload["destination"] == Destination.QKV:
                    made[instruction.payload["key_value_head"]] = tiles
            elif instruction.opcode == Opcode.ATTEND:
                assert instruction.payload["output_image"] == (instruction.payload["image"] ^ (images < slots))
                found.append(wait_of(instruction, Counter.TILES_DONE) - made[instruction.payload["key_value_head"]])
        assert found == distances * (config.shape.depth * images)


def test_prefetch_fills_the_ring(seed: int) -> None:
    """Without waiting for any tile, one bundle per weight buffer is loaded."""
    for name in ("tiny", "two_buffers", "eight_buffers"):
        compiled, config = compiled_for(name, seed, 1)
        streams = [i for i in compiled.instructions if i.opcode == Opcode.STREAM]
        loads = [i for i in compiled.instructions if i.opcode == Opcode.LOAD and i.payload["target"] == LoadTarget.PARAMETER]
        for bundle in (streams, loads):
            waits = [wait_of(i, Counter.TILES_DONE) for i in bundle]
            assert waits[: config.weight_buffers + 1] == [0] * config.weight_buffers + [1]


@pytest.mark.parametrize("images", [1, 2, 4])
def test_pairs_share_norms_and_tables(images: int, seed: int) -> None:
    """Both images of a pair use what was loaded for the first."""
    compiled, config = compiled_for("micro", seed, images)
    for target, once in ((LoadTarget.NORM, 2 * config.shape.depth + 1), (LoadTarget.TABLE, config.shape.depth)):
        loads = [i for i in compiled.instructions if i.opcode == Opcode.LOAD and i.payload["target"] == target]
        assert len(loads) == once * -(-images // 2)


def _without_waits(compiled: CompiledProgram, opcode: Opcode, counter: Counter) -> CompiledProgram:
    """A mutant: ``opcode`` no longer waits for ``counter``."""
    changed = []
    for instruction in compiled.instructions:
        if instruction.opcode == opcode:
            for number in range(WAITS):
                if getattr(instruction, f"wait{number}_counter") == counter:
                    instruction = dataclasses.replace(instruction, **{f"wait{number}_counter": 0, f"wait{number}_value": 0})
        changed.append(instruction.encode())
    return dataclasses.replace(compiled, program=b"".join(changed))


@pytest.mark.parametrize(
    "opcode, counter, policy",
    [
        (Opcode.LOAD, Counter.TILES_DONE, dma_first),
        (Opcode.STREAM, Counter.TILES_DONE, first_of("stream", "input", "dma", "array", "attend")),
        (Opcode.TILE, Counter.TILE_LOADED, array_first),
        (Opcode.TILE, Counter.TILE_STREAMED, first_of("dma", "input", "array", "attend", "stream")),
    ],
)
def test_missing_waits_are_caught(opcode, counter, policy, seed: int) -> None:
    compiled, config = compiled_for("tiny", seed, 1)
    with pytest.raises(AssertionError, match="memory holds"):
        follow(_without_waits(compiled, opcode, counter), config, policy)


@pytest.mark.parametrize(
    "opcode, counter, policy",
    [
        (Opcode.TILE, Counter.ATTENTIONS_DONE, attend_last),
        (Opcode.ATTEND, Counter.TILES_DONE, first_of("attend", "input", "dma", "stream", "array")),
        (Opcode.INPUT, Counter.TILES_DONE, input_first),
        (Opcode.TILE, Counter.INPUT_LOADED, array_first),
        (Opcode.STORE, Counter.TILES_DONE, dma_first),
    ],
)
def test_missing_waits_change_the_logits(opcode, counter, policy, seed: int) -> None:
    config = SMALL["tiny"]
    graph, images = random_graph(config.shape, seed), images_of(config, 3, seed)
    mutant = _without_waits(compile_graph(graph, config, 3), opcode, counter)
    machine = Executor(config, mutant.program, mutant.weights, window_of(mutant, images), mutant.result_bytes)
    try:
        logits = logits_of(mutant, machine.run(policy), config.shape.classes)
    except AssertionError as error:
        assert "before" in str(error)  # END before an ATTEND, a STORE before its logits
    else:
        assert not np.array_equal(logits, [each["logits"] for each in tensors_of(graph, images)])
