"""The program computes what the graph says: executed instruction by instruction, every tensor equals the interpreter's."""

from __future__ import annotations

import numpy as np
import pytest

from model.interpreter import interpret
from model.random_graph import random_graph
from rtl.program.compiler import compile_graph
from rtl.program.isa import Opcode
from sim_tests.program.executor import Executor, array_first, dma_first
from sim_tests.program.shapes import SMALL


def image_of(config, seed: int) -> np.ndarray:
    shape = config.shape
    return np.random.default_rng(seed).integers(0, 256, (shape.image_size, shape.image_size, shape.channels), dtype=np.uint8)


@pytest.mark.parametrize("policy", [dma_first, array_first])
@pytest.mark.parametrize("name", SMALL)
def test_executes_the_graph(name: str, policy, seed: int) -> None:
    config = SMALL[name]
    graph, image = random_graph(config.shape, seed), image_of(config, seed)
    compiled = compile_graph(graph, config)
    machine = Executor(config, compiled.program, compiled.weights, image.tobytes().ljust(compiled.image_bytes, b"\0"))
    logits = machine.run(policy)
    tensors = interpret(graph, image)
    assert np.array_equal(logits, tensors["logits"])
    assert len(set(logits.tolist())) > 1, "the logits must say something"
    _compare_tensors(compiled, machine, tensors)


def _compare_tensors(compiled, machine: Executor, tensors: dict[str, np.ndarray]) -> None:
    """Each snapshot of the executor, by the instruction that wrote it, equals the slices that the step's annotation names."""
    steps = {step.instruction: step for step in compiled.steps}
    seen = set()
    for instruction, _, written in machine.snapshots:
        column = 0
        for write in steps[instruction].writes:
            tensor = np.atleast_2d(tensors[write.tensor])
            got = written[: len(tensor), column : column + write.count]
            assert np.array_equal(got, tensor[:, write.first : write.first + write.count]), (steps[instruction].name, write)
            column += write.count
            seen.add(write.tensor)
        assert column == written.shape[1]
    assert seen == {name for name in tensors if "norm" not in name and name != "patches"}


def test_instructions_round_trip(seed: int) -> None:
    compiled = compile_graph(random_graph(SMALL["tiny"].shape, seed), SMALL["tiny"])
    machine = Executor(SMALL["tiny"], compiled.program, compiled.weights, b"")
    for instruction, decoded in zip(compiled.instructions, machine.instructions, strict=True):
        assert decoded.encode() == instruction.encode()
        assert decoded.payload == instruction.payload
    assert compiled.instructions[-1].opcode == Opcode.END


def test_same_graph_same_bytes(seed: int) -> None:
    first, second = (compile_graph(random_graph(SMALL["micro"].shape, seed), SMALL["micro"]) for _ in range(2))
    assert (first.program, first.weights) == (second.program, second.weights)
