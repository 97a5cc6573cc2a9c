"""Bad graphs are refused with one line: rule, value, remedy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from model.graph import DeitGraph
from model.random_graph import random_graph
from rtl.errors import InputError
from rtl.program.compiler import compile_graph
from sim_tests.program.shapes import SMALL, config, shape


def _changed(values: np.ndarray, value: int) -> np.ndarray:
    """A copy with the last element replaced."""
    copy = np.array(values)
    copy.reshape(-1)[-1] = value
    return copy


def _patch(graph: DeitGraph, **changes: object) -> DeitGraph:
    return dataclasses.replace(graph, patch=dataclasses.replace(graph.patch, **changes))


def _layer(graph: DeitGraph, **changes: object) -> DeitGraph:
    return dataclasses.replace(graph, layers=(*graph.layers[:-1], dataclasses.replace(graph.layers[-1], **changes)))


def _fc1(graph: DeitGraph, **changes: object) -> DeitGraph:
    return _layer(graph, fc1=dataclasses.replace(graph.layers[-1].fc1, **changes))


CASES = {
    "positions must be at most 32767: 32768 ": lambda g: dataclasses.replace(g, positions=_changed(g.positions, 32768)),
    r"positions must have shape \(5, 16\): \(4, 16\)": lambda g: dataclasses.replace(g, positions=g.positions[:4]),
    "a graph must have depth layers: 1 ": lambda g: dataclasses.replace(g, layers=g.layers[:1]),
    "patch: planes must be 1..8: 9 ": lambda g: _patch(g, planes=9),
    "1.fc1: planes must be 1..1: 2 ": lambda g: _fc1(g, planes=2),
    "1.fc1.codes must be at most 1: 2 ": lambda g: _fc1(g, codes=_changed(g.layers[-1].fc1.codes, 2)),
    "1.fc1: fc1 alone must have a table: no table ": lambda g: _fc1(g, table=None),
    "1.fc1.table must be at most 15: 16 ": lambda g: _fc1(g, table=_changed(g.layers[-1].fc1.table, 16)),
    "patch.multiplier must be at most 65535: 65536 ": lambda g: _patch(g, multiplier=_changed(g.patch.multiplier, 65536)),
    r"patch.shift must be one of \(12, 16, 20, 24\): 13 ": lambda g: _patch(g, shift=_changed(g.patch.shift, 13)),
    "patch.bias must be at least -67108864: -67108865 ": lambda g: _patch(g, bias=_changed(g.patch.bias, -(1 << 26) - 1)),
    r"patch: accumulator \+ bias must be at most 67108863": lambda g: _patch(g, bias=_changed(g.patch.bias, (1 << 26) - 1)),
    "1.score_shift must be one of .*: 8 ": lambda g: _layer(g, score_shift=8),
    "1.dividend must be at most 4294967295: 4294967296 ": lambda g: _layer(g, dividend=1 << 32),
    r"norm.gamma \(7 fraction bits\) must be at most 32767": lambda g: dataclasses.replace(
        g, norm=dataclasses.replace(g.norm, gamma=_changed(g.norm.gamma, 1 << 15))
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_bad_graph(message: str, seed: int) -> None:
    tiny = SMALL["tiny"]
    with pytest.raises(InputError, match=f"^{message}.*does not; .+") as error:
        compile_graph(CASES[message](random_graph(tiny.shape, seed)), tiny)
    assert "\n" not in str(error.value)


def test_wrong_network(seed: int) -> None:
    with pytest.raises(InputError, match="must have the shape that the accelerator was built for, micro: tiny does not"):
        compile_graph(random_graph(SMALL["tiny"].shape, seed), SMALL["micro"])


def test_hidden_tile_must_divide(seed: int) -> None:
    ragged = shape(hidden_dim=144)
    with pytest.raises(InputError, match="must divide hidden_dim: 32 does not"):
        compile_graph(random_graph(ragged, seed), config(ragged, inputs=48, tile_words=32))


def test_weight_memory_limit(seed: int) -> None:
    tiny = shape()
    with pytest.raises(InputError, match="must have at most 65536 words: 90000 does not"):
        compile_graph(random_graph(tiny, seed), config(tiny, tile_words=30000))
