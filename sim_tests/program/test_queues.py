"""Synchronisation: whichever queue goes first, nothing deadlocks and every TILE finds its own weights, parameters, norm and table."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from model.random_graph import random_graph
from rtl.config import AcceleratorConfig, preset
from rtl.program.compiler import CompiledProgram, Counter, compile_graph
from rtl.program.isa import LoadTarget, Opcode
from sim_tests.program.executor import Executor, array_first, dma_first
from sim_tests.program.shapes import BASE, SMALL


def follow(compiled: CompiledProgram, config: AcceleratorConfig, policy) -> Executor:
    """Run queues and buffers without numbers."""
    machine = Executor(config, compiled.program, compiled.weights, bytes(compiled.image_bytes), numbers=False)
    machine.run(policy)
    return machine


@pytest.fixture(scope="module")
def base() -> tuple[CompiledProgram, AcceleratorConfig]:
    config = preset(BASE)
    graph = random_graph(BASE, 1)
    start = time.perf_counter()
    compiled = compile_graph(graph, config)
    assert time.perf_counter() - start < 30
    return compiled, config


def test_base_keeps_its_buffers(base) -> None:
    compiled, config = base
    for policy in (dma_first, array_first):
        follow(compiled, config, policy)


def test_base_size(base) -> None:
    """86 M binary weights, 768 kB of head and 590 kB of patch planes; every image byte and logit accounted for."""
    compiled, _ = base
    assert compiled.image_bytes == 224 * 224 * 3
    assert compiled.result_bytes == 2000  # whole beats
    opcodes = [instruction.opcode for instruction in compiled.instructions]
    assert opcodes.count(Opcode.TILE) == 8 + 12 * (3 + 1 + 4 + 4) + 11
    assert opcodes.count(Opcode.ATTEND) == 12
    assert 10.6e6 + 1.3e6 < len(compiled.weights) < 14e6


@pytest.mark.parametrize("name", SMALL)
def test_random_orders(name: str, seed: int) -> None:
    config = SMALL[name]
    compiled = compile_graph(random_graph(config.shape, seed), config)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        follow(compiled, config, lambda ready: ready[rng.integers(len(ready))])


@pytest.mark.parametrize("name", SMALL)
def test_waits_look_back(name: str, seed: int) -> None:
    """Every wait is met by posts earlier in the program: then no queue depth can deadlock."""
    config = SMALL[name]
    posts = [0] * 16
    for instruction in compile_graph(random_graph(config.shape, seed), config).instructions:
        assert posts[instruction.wait0_counter] >= instruction.wait0_value
        assert posts[instruction.wait1_counter] >= instruction.wait1_value
        posts[instruction.post_counter] += instruction.post_enable
    assert posts[Counter.NONE] == 0


def test_prefetch_fills_the_ring(seed: int) -> None:
    """Without waiting for any tile, DMA can load one bundle per weight buffer."""
    for name in ("tiny", "two_buffers", "eight_buffers"):
        config = SMALL[name]
        instructions = compile_graph(random_graph(config.shape, seed), config).instructions
        loads = [i for i in instructions if i.opcode == Opcode.LOAD]
        first_wait = next(n for n, load in enumerate(loads) if load.wait0_value)
        assert sum(load.payload["target"] == LoadTarget.WEIGHT for load in loads[:first_wait]) == config.weight_buffers


def _without_waits(compiled: CompiledProgram, opcode: Opcode, counter: Counter) -> CompiledProgram:
    """A mutant: ``opcode`` no longer waits for ``counter``."""
    changed = []
    for instruction in compiled.instructions:
        if instruction.opcode == opcode:
            for wait in ("wait0", "wait1"):
                if getattr(instruction, f"{wait}_counter") == counter:
                    instruction = dataclasses.replace(instruction, **{f"{wait}_counter": 0, f"{wait}_value": 0})
        changed.append(instruction.encode())
    return dataclasses.replace(compiled, program=b"".join(changed))


@pytest.mark.parametrize(
    "opcode, counter, policy", [(Opcode.LOAD, Counter.TILES_DONE, dma_first), (Opcode.TILE, Counter.TILE_LOADED, array_first)]
)
def test_missing_waits_are_caught(opcode, counter, policy, seed: int) -> None:
    config = SMALL["tiny"]
    compiled = compile_graph(random_graph(config.shape, seed), config)
    with pytest.raises(AssertionError, match="memory holds LOADs"):
        follow(_without_waits(compiled, opcode, counter), config, policy)
