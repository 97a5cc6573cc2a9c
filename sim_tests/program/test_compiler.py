"""The program computes what the graph says: executed instruction by instruction, every tensor equals the interpreter's."""

from __future__ import annotations

import numpy as np
import pytest

from model.interpreter import interpret
from model.random_graph import random_graph
from rtl.config import AcceleratorConfig
from rtl.errors import InputError
from rtl.program.compiler import CompiledProgram, compile_graph
from rtl.program.emitter import Emitter
from rtl.program.isa import Counter, Opcode
from sim_tests.program.executor import Executor, Policy, array_first, attend_last, dma_first, stream_first
from sim_tests.program.shapes import SMALL

#: Tensors that no row writes.
UNSEEN = ("patches", "norm1", "norm2", "norm", "norm_distilled")


def images_of(config: AcceleratorConfig, count: int, seed: int) -> np.ndarray:
    shape = config.shape
    return np.random.default_rng(seed).integers(0, 256, (count, shape.image_size, shape.image_size, shape.channels), dtype=np.uint8)


def window_of(compiled: CompiledProgram, images: np.ndarray) -> bytes:
    """Contents of the IMAGE window."""
    window = bytearray(compiled.image_bytes)
    for offset, image in zip(compiled.image_offsets, images, strict=True):
        window[offset : offset + image.size] = image.tobytes()
    return bytes(window)


def logits_of(compiled: CompiledProgram, result: bytes, classes: int) -> np.ndarray:
    """(images, classes) from the RESULT window."""
    assert len(result) == compiled.result_bytes
    return np.stack([np.frombuffer(result, "<i2", classes, offset) for offset in compiled.result_offsets])


def tensors_of(graph, images: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [interpret(graph, image) for image in images]


def execute(compiled: CompiledProgram, config: AcceleratorConfig, images: np.ndarray, policy: Policy = dma_first) -> tuple[Executor, bytes]:
    machine = Executor(config, compiled.program, compiled.weights, window_of(compiled, images), compiled.result_bytes)
    return machine, machine.run(policy)


def check(name: str, count: int, policy: Policy, seed: int) -> None:
    config = SMALL[name]
    graph, images = random_graph(config.shape, seed), images_of(config, count, seed)
    compiled = compile_graph(graph, config, count)
    machine, result = execute(compiled, config, images, policy)
    tensors = tensors_of(graph, images)
    logits = logits_of(compiled, result, config.shape.classes)
    assert np.array_equal(logits, [each["logits"] for each in tensors])
    if config.shape.depth:  # without a layer the class token sees no patch
        assert len({tuple(values) for values in logits.tolist()}) == count, "every image must have its own logits"
    _compare_tensors(compiled, machine, tensors)


def _compare_tensors(compiled: CompiledProgram, machine: Executor, tensors: list[dict[str, np.ndarray]]) -> None:
    """Each snapshot of the executor, by the instruction that wrote it, equals the slices that the step's annotation names."""
    steps = {step.instruction: step for step in compiled.steps}
    seen = set()
    for instruction, slot, tokens, written in machine.snapshots:
        step, column = steps[instruction], 0
        image = step.image + slot - compiled.instructions[instruction].payload["image"]
        assert step.image <= image < step.image + step.images
        for write in step.writes:
            tensor = np.atleast_2d(tensors[image][write.tensor])
            real = tokens < len(tensor)
            got = written[real, column : column + write.count]
            assert np.array_equal(got, tensor[tokens[real], write.first : write.first + write.count]), (step.name, image, write)
            column += write.count
            seen.add((image, write.tensor))
        assert column == written.shape[1]
    distilled = "head_distilled" in tensors[0]
    names = {name for name in tensors[0] if name.split(".")[-1] not in UNSEEN and not (distilled and name == "logits")}
    assert seen == {(image, name) for image in range(len(tensors)) for name in names}


@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_executes_the_graph(name: str, images: int, seed: int) -> None:
    check(name, images, dma_first, seed)


@pytest.mark.parametrize("policy", [stream_first, array_first, attend_last])
@pytest.mark.parametrize("name", ["tiny", "one_slot", "two_copies", "two_patch_parts", "distilled", "no_layers"])
def test_any_queue_may_lead(name: str, policy: Policy, seed: int) -> None:
    check(name, 5, policy, seed)


def test_instructions_round_trip(seed: int) -> None:
    compiled = compile_graph(random_graph(SMALL["tiny"].shape, seed), SMALL["tiny"], 2)
    machine = Executor(SMALL["tiny"], compiled.program, compiled.weights, b"", 0)
    for instruction, decoded in zip(compiled.instructions, machine.instructions, strict=True):
        assert decoded.encode() == instruction.encode()
        assert decoded.payload == instruction.payload
    assert compiled.instructions[-1].opcode == Opcode.END


def test_same_graph_same_bytes(seed: int) -> None:
    first, second = (compile_graph(random_graph(SMALL["micro"].shape, seed), SMALL["micro"]) for _ in range(2))
    assert (first.program, first.weights) == (second.program, second.weights)


def test_weights_are_shared(seed: int) -> None:
    """More images: a longer program, the same weights."""
    graph = random_graph(SMALL["tiny"].shape, seed)
    one, three = (compile_graph(graph, SMALL["tiny"], count) for count in (1, 3))
    assert one.weights == three.weights and len(three.program) > 2 * len(one.program)


def test_windows_of_several_images(seed: int) -> None:
    config = SMALL["odd_image"]
    compiled = compile_graph(random_graph(config.shape, seed), config, 3)
    assert (compiled.image_offsets, compiled.image_bytes) == ((0, 256, 512), 512 + 96)
    assert (compiled.result_offsets, compiled.result_bytes) == ((0, 16, 32), 48)


def test_posts_that_do_not_fit_a_counter_are_refused(monkeypatch) -> None:
    """Counters have 16 bits; here fewer."""
    monkeypatch.setattr("rtl.program.instruction.MOST_POSTS", 3)
    emitter = Emitter()
    for _ in range(3):
        emitter.emit(Opcode.LOAD, {}, Counter.TILE_LOADED)
    with pytest.raises(InputError, match=r"^a program must post at most 3 times to TILE_LOADED: 4 are more; put fewer images into one$"):
        emitter.emit(Opcode.LOAD, {}, Counter.TILE_LOADED)


def test_no_image_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="images must be at least 1: 0 does not; use 1"):
        compile_graph(random_graph(SMALL["tiny"].shape, seed), SMALL["tiny"], 0)
