"""The expected writes of every row equal what the executor writes, and a single wrong value is found and named."""

from __future__ import annotations

import numpy as np
import pytest

from model.interpreter import interpret
from model.random_graph import random_graph
from rtl.program.compiler import compile_graph
from rtl.program.expected import ATTENTION, LINEAR, Expected, Recorded, compare, default_attention_order, expected_trace
from sim_tests.program.executor import Executor
from sim_tests.program.shapes import SMALL
from sim_tests.program.test_compiler import image_of


def run(name: str, seed: int, order=None) -> tuple[Expected, dict[str, list[Recorded]]]:
    """What the reference expects, and what the executor recorded."""
    config = SMALL[name]
    graph, image = random_graph(config.shape, seed), image_of(config, seed)
    compiled = compile_graph(graph, config)
    machine = Executor(config, compiled.program, compiled.weights, image.tobytes().ljust(compiled.image_bytes, b"\0"))
    machine.run()
    got = {}
    for channel in (LINEAR, ATTENTION):
        rows = [np.concatenate([np.zeros(0, np.int64), *values]) for values in getattr(machine.record, channel)]
        got[channel] = [Recorded(values=values & 0xFFFF, cycles=10 * np.arange(len(values))) for values in rows]
    return expected_trace(compiled, interpret(graph, image), config, order), got


@pytest.mark.parametrize("name", SMALL)
def test_every_row_agrees(name: str, seed: int) -> None:
    expected, got = run(name, seed)
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


def test_names_the_first_mismatch(seed: int) -> None:
    expected, got = run("tiny", seed)
    trace = expected.trace(1)
    hidden = expected.names.index("1.hidden")
    position = int(np.flatnonzero(trace.entries.tensor == hidden)[3])
    for later in range(position, position + 100):
        got[LINEAR][1].values[later] ^= 1
    found = compare(expected, got, limit=5)
    assert len(found) == 5
    first = found[0]
    assert (first.tensor, first.token, first.channel, first.row, first.cycle) == ("1.hidden", 1, 3, 1, 10 * position)
    assert first.got == int(trace.values[position]) ^ 1 and first.expected == int(trace.values[position])
    assert str(first) == f"1.hidden[1, 3]: got {first.got}, expected {first.expected}, row 1, cycle {10 * position}"


def test_missing_and_extra_writes(seed: int) -> None:
    expected, got = run("tiny", seed)
    values = got[LINEAR][0].values
    got[LINEAR][0] = Recorded(values=values[:-1])
    (short,) = compare(expected, got)
    assert (short.tensor, short.token, short.channel, short.got) == ("logits", 0, 9, None)
    got[LINEAR][0] = Recorded(values=np.append(values, 7))
    (extra,) = compare(expected, got)
    assert (extra.tensor, extra.got, extra.expected) == ("(nothing)", 7, None)


def test_attention_order_is_injected(seed: int) -> None:
    """Reversing both the order and the recording changes nothing; reversing one does."""
    config = SMALL["tiny"]
    order = default_attention_order(config)[::-1]
    expected, got = run("tiny", seed, [order] * config.shape.depth)
    assert compare(expected, {ATTENTION: got[ATTENTION]})
    size = len(order)
    backwards = [Recorded(values=np.concatenate([record.values[:size][::-1], record.values[size:][::-1]])) for record in got[ATTENTION]]
    assert compare(expected, {ATTENTION: backwards}) == []


def test_wrong_sizes_are_refused(seed: int) -> None:
    expected, got = run("tiny", seed)
    with pytest.raises(ValueError, match="must have 3 rows"):
        compare(expected, {LINEAR: got[LINEAR][:2]})
    with pytest.raises(ValueError, match="one order per ATTEND"):
        run("tiny", seed, [[]])
