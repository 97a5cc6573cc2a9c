"""Skeletons: the shapes of the graphs that have constants, in no memory, and within the laws that compilers check."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from model import bounds
from model.configs import Config, DeiTConfig, config_of
from model.efficientvit import bounds as efficientvit_bounds
from model.efficientvit import random_graph as efficientvit_random_graph
from model.efficientvit.graph import Divisor, EfficientVitGraph, Tensor
from model.errors import InputError
from model.graph import DeitGraph
from model.random_graph import random_graph
from model.skeleton import skeleton

#: Numbers that are constants, not dimensions.
CONSTANTS = {"multiplier", "shift", "fraction", "score_multiplier", "score_shift", "dividend", "output_multiplier", "output_shift"}
NETWORKS = [("deit_micro", 8), ("deit_micro", 1), ("deit_tiny_distilled", 6), ("efficientvit_micro", 8), ("efficientvit_micro", 4)]


def with_constants(config: Config, bits: int) -> DeitGraph | EfficientVitGraph:
    if isinstance(config, DeiTConfig):
        return random_graph(config.shape(bits), 1)
    return efficientvit_random_graph.random_graph(config, bits, 1)


def shapes(value: Any) -> Any:
    """Everything but constants: of an array its shape."""
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, Divisor):
        return value.kind
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {
            name: shapes(getattr(value, name)) for name in names if name not in CONSTANTS or isinstance(getattr(value, name), np.ndarray)
        }
    if isinstance(value, dict):
        return {key: shapes(part) for key, part in value.items()}
    return [shapes(part) for part in value] if isinstance(value, tuple | list) else value


def constants(value: Any) -> Iterator[np.ndarray]:
    """Every array of operators and layers. Tensors have a zero point of their own, which is no weight."""
    if isinstance(value, np.ndarray):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, Tensor):
        for field in dataclasses.fields(value):
            yield from constants(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from constants(part)


@pytest.mark.parametrize("name, bits", NETWORKS)
def test_shapes_are_those_of_graphs_with_constants(name: str, bits: int) -> None:
    config = config_of(name)
    assert shapes(skeleton(config, bits)) == shapes(with_constants(config, bits))


@pytest.mark.parametrize("name", ["deit_base", "efficientvit_b3"])
def test_no_memory(name: str) -> None:
    """Every constant is one number, seen many times."""
    found = list(constants(skeleton(config_of(name), 8)))
    assert sum(array.size for array in found) > 40_000_000
    assert not any(any(array.strides) or array.flags.writeable for array in found)


@pytest.mark.parametrize("name", ["deit_micro", "deit_tiny_distilled", "efficientvit_micro", "efficientvit_b3"])
def test_the_graphs_own_laws_hold(name: str) -> None:
    graph = skeleton(config_of(name), 8)
    assert (bounds.check_graph(graph) if isinstance(graph, DeitGraph) else efficientvit_bounds.check_graph(graph)) is graph


@pytest.mark.parametrize("name, bits", [("deit_micro", 9), ("efficientvit_micro", 3)])
def test_a_precision_that_does_not_exist(name: str, bits: int) -> None:
    with pytest.raises(InputError, match=f"{bits} is not"):
        skeleton(config_of(name), bits)
