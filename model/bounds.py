"""Checks that every constant of a DeitGraph fits the width that ``model.integer`` gives it, and every accumulator too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from model import integer
from model.errors import InputError
from model.graph import DeitGraph, Layer, Linear, Norm


def accumulator_range(layer: Linear, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest dot product per output channel, over all inputs of ``bits`` bits."""
    top = (1 << bits) - 1
    if layer.planes == 1:
        ones = layer.codes.sum(1, dtype=np.int64)
        return -top * (layer.inputs - ones), top * ones
    weights = integer.plane_weights(layer.codes, layer.planes)
    return top * np.minimum(weights, 0).sum(1), top * np.maximum(weights, 0).sum(1)


def linears(graph: DeitGraph) -> Iterator[tuple[str, Linear]]:
    """Every linear layer with its name, in execution order."""
    yield "patch", graph.patch
    for index, layer in enumerate(graph.layers):
        for name in ("qkv", "projection", "fc1", "fc2"):
            yield f"{index}.{name}", getattr(layer, name)
    yield "head", graph.head
    if graph.head_distilled is not None:
        yield "head_distilled", graph.head_distilled


def norms(graph: DeitGraph) -> Iterator[tuple[str, Norm]]:
    """Every LayerNorm with its name, in execution order."""
    for index, layer in enumerate(graph.layers):
        yield f"{index}.norm1", layer.norm1
        yield f"{index}.norm2", layer.norm2
    yield "norm", graph.norm


def require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} does not; {remedy}")


def check_within(name: str, values: np.ndarray, limits: integer.Saturation) -> None:
    low, high = int(values.min()), int(values.max())
    worst = low if low < limits.low else high
    require(limits.low <= low and high <= limits.high, f"{name} must lie in [{limits.low}, {limits.high}]", worst,
            "retrain or rescale that tensor")  # fmt: skip


def check_shift(name: str, values: np.ndarray) -> None:
    foreign = np.setdiff1d(values, integer.REQUANTIZE_SHIFTS)
    require(
        foreign.size == 0, f"{name} must be one of {integer.REQUANTIZE_SHIFTS}", foreign[:1], "choose it with integer.choose_multiplier"
    )


def check_linear(name: str, layer: Linear, bits: int) -> None:
    wide = integer.signed(integer.ACCUMULATOR_BITS)
    check_within(f"{name} bias", layer.bias, integer.signed(integer.BIAS_BITS))
    low, high = accumulator_range(layer, bits)
    check_within(f"{name} accumulator + bias", np.concatenate([low + layer.bias, high + layer.bias]), wide)
    check_within(f"{name} multiplier", layer.multiplier, integer.Saturation(low=0, high=(1 << integer.MULTIPLIER_BITS) - 1))
    check_shift(f"{name} shift", layer.shift)
    check_within(f"{name} code", layer.codes, integer.unsigned(layer.planes))
    if layer.table is not None:
        check_within(f"{name} table", layer.table, integer.unsigned(bits))


def check_attention(name: str, layer: Layer) -> None:
    dividend = np.array([layer.dividend])
    check_within(f"{name} dividend", dividend, integer.Saturation(low=1, high=(1 << integer.ATTENTION_DIVIDEND_BITS) - 1))
    check_within(f"{name} score multiplier", np.array([layer.score_multiplier]), integer.unsigned(integer.MULTIPLIER_BITS))
    check_shift(f"{name} score shift", np.array([layer.score_shift]))


def check_graph(graph: DeitGraph) -> DeitGraph:
    """The graph itself. Raises InputError naming the first constant that does not fit."""
    require((graph.head_distilled is not None) == graph.shape.distilled, "exactly the distilled networks must have head_distilled",
            graph.shape.name, "lower the network again")  # fmt: skip
    check_within("positions", graph.positions, integer.signed(integer.RESIDUAL_BITS))
    for name, layer in linears(graph):
        check_linear(name, layer, graph.shape.bits)
    for name, norm in norms(graph):
        check_within(f"{name} gamma", norm.gamma, integer.signed(16))
        check_within(f"{name} beta", norm.beta, integer.signed(16))
    for index, layer in enumerate(graph.layers):
        check_attention(f"{index}", layer)
    return graph
