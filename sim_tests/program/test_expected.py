"""The expected writes of every row equal what the executor writes, and a single wrong value is found and named."""

from __future__ import annotations

import numpy as np
import pytest

from model.random_graph import random_graph
from rtl.program.compiler import compile_graph
from rtl.program.expected import ATTENTION, LINEAR, Expected, Recorded, compare, expected_trace
from sim_tests.program.shapes import SMALL
from sim_tests.program.test_compiler import execute, images_of, tensors_of


def run(name: str, seed: int, count: int = 1) -> tuple[Expected, dict[str, list[Recorded]]]:
    """What the reference expects, and what the executor recorded."""
    config = SMALL[name]
    graph, images = random_graph(config.shape, seed), images_of(config, count, seed)
    compiled = compile_graph(graph, config, count)
    machine, _ = execute(compiled, config, images)
    got = {}
    for channel in (LINEAR, ATTENTION):
        rows = [np.concatenate([np.zeros(0, np.int64), *values]) for values in getattr(machine.record, channel)]
        got[channel] = [Recorded(values=values & 0xFFFF, cycles=10 * np.arange(len(values))) for values in rows]
    return expected_trace(compiled, tensors_of(graph, images), config), got


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_every_row_agrees(name: str, images: int, seed: int) -> None:
    expected, got = run(name, seed, images)
    assert compare(expected, got) == []
    for row in range(SMALL[name].rows):
        for channel in got:
            trace = expected.trace(row, channel)
            assert len(trace.values) == len(got[channel][row].values)


def test_garbage_slots_are_not_compared(seed: int) -> None:
    """tiny: 5 tokens in 6 slots; row 2 holds no token in pass 1."""
    expected, got = run("tiny", seed)
    trace = expected.trace(2)
    idle = trace.entries.pass_index == 1
    assert not trace.care[idle].any() and trace.care[~idle].all() and idle.any()
    got[LINEAR][2].values[idle] ^= 1
    assert compare(expected, got) == []


@pytest.mark.parametrize("image", [0, 1])
def test_names_the_first_mismatch(image: int, seed: int) -> None:
    expected, got = run("tiny", seed, 2)
    trace = expected.trace(1)
    hidden = expected.names.index("1.hidden")
    position = int(np.flatnonzero((trace.entries.tensor == hidden) & (trace.entries.image == image))[3])
    for later in range(position, position + 100):
        got[LINEAR][1].values[later] ^= 1
    found = compare(expected, got, limit=5)
    assert len(found) == 5
    first = found[0]
    assert (first.image, first.tensor, first.token, first.channel) == (image, "1.hidden", 1, 3)
    assert (first.row, first.cycle) == (1, 10 * position)
    assert first.got == int(trace.values[position]) ^ 1 and first.expected == int(trace.values[position])
    assert str(first) == f"image {image}: 1.hidden[1, 3]: got {first.got}, expected {first.expected}, row 1, cycle {10 * position}"


@pytest.mark.parametrize("name, row, tensor", [("tiny", 0, "logits"), ("distilled", 1, "head_distilled")])
def test_missing_and_extra_writes(name: str, row: int, tensor: str, seed: int) -> None:
    expected, got = run(name, seed, 2)
    values = got[LINEAR][row].values
    got[LINEAR][row] = Recorded(values=values[:-1])
    (short,) = compare(expected, got)
    assert (short.image, short.tensor, short.token, short.channel, short.got) == (1, tensor, 0, 9, None)
    got[LINEAR][row] = Recorded(values=np.append(values, 7))
    (extra,) = compare(expected, got)
    assert (extra.image, extra.tensor, extra.got, extra.expected) == (None, "(nothing)", 7, None)


def test_heads_are_written_by_one_row(seed: int) -> None:
    """Row 0 the head, row 1 the distilled head, row 2 neither."""
    expected, _ = run("distilled", seed)
    heads = [{expected.names[index] for index in expected.trace(row).entries.tensor} & {"head", "head_distilled"} for row in range(3)]
    assert heads == [{"head"}, {"head_distilled"}, set()]


def test_images_differ(seed: int) -> None:
    """Exchanged images are found in every tensor that depends on them."""
    config = SMALL["tiny"]
    graph, images = random_graph(config.shape, seed), images_of(config, 2, seed)
    compiled = compile_graph(graph, config, 2)
    machine, _ = execute(compiled, config, images)
    got = {LINEAR: [Recorded(values=np.concatenate(values)) for values in machine.record.linear]}
    expected = expected_trace(compiled, tensors_of(graph, images[::-1]), config)
    assert {mismatch.image for mismatch in compare(expected, got, limit=10**9)} == {0, 1}


def test_wrong_sizes_are_refused(seed: int) -> None:
    expected, got = run("tiny", seed)
    with pytest.raises(ValueError, match="must have 3 rows"):
        compare(expected, {LINEAR: got[LINEAR][:2]})
    config = SMALL["tiny"]
    with pytest.raises(ValueError, match="tensors must be given for every image: 1 for 2"):
        graph = random_graph(config.shape, seed)
        expected_trace(compile_graph(graph, config, 2), tensors_of(graph, images_of(config, 1, seed)), config)
