"""What the hardware relies on, checked before a program is made. Every failure is one InputError line: rule, value, remedy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from model.graph import DeitGraph, Linear, Norm
from model.integer import (
    ACCUMULATOR_BITS,
    ATTENTION_DIVIDEND_BITS,
    BETA_FRACTION,
    BIAS_BITS,
    GAMMA_FRACTION,
    MULTIPLIER_BITS,
    REQUANTIZE_SHIFTS,
    RESIDUAL_BITS,
    Saturation,
    signed,
)
from rtl.config import AcceleratorConfig
from rtl.errors import InputError
from rtl.row_bus import CHANNEL_BITS

MAX_PLANES = 8
LOWER = "lower the network again with model.lower"


def require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} does not; {remedy}")


def check_graph(graph: DeitGraph, config: AcceleratorConfig) -> None:
    """Raise InputError unless ``graph`` can run on ``config``."""
    check_shape(graph, config)
    shape = config.shape
    _check_range("positions", graph.positions, signed(RESIDUAL_BITS))
    _check_shape("positions", graph.positions, (shape.tokens, shape.embed_dim))
    for name, norm in _norms(graph):
        _check_norm(name, norm, shape.embed_dim)
    for name, linear, size in _linears(graph):
        _check_linear(name, linear, size, shape.bits)
    for index, layer in enumerate(graph.layers):
        _check_range(f"{index}.score_multiplier", layer.score_multiplier, Saturation(low=0, high=(1 << MULTIPLIER_BITS) - 1))
        _check_range(f"{index}.dividend", layer.dividend, Saturation(low=0, high=(1 << ATTENTION_DIVIDEND_BITS) - 1))
        _check_shift(f"{index}.score_shift", layer.score_shift)


def check_shape(graph: DeitGraph, config: AcceleratorConfig) -> None:
    """The part of `check_graph` that looks at no constant."""
    shape = config.shape
    same, rule = graph.shape == shape, f"the graph must have the shape that the accelerator was built for, {shape.name}"
    require(same, rule, graph.shape.name, "build an accelerator for it")
    require(len(graph.layers) == shape.depth, "a graph must have depth layers", len(graph.layers), LOWER)
    require((graph.head_distilled is not None) == shape.distilled, "distilled networks alone must have a second head", shape.name, LOWER)
    _check_config(graph, config)


def _check_config(graph: DeitGraph, config: AcceleratorConfig) -> None:
    shape = config.shape
    require(
        shape.hidden_dim % config.hidden_tile == 0,
        "the hidden tile, min(inputs, hidden_dim, tile_words), must divide hidden_dim",
        config.hidden_tile,
        "use tile_words of at least inputs",
    )
    require(config.weight_words <= 1 << 16, "the weight memory must have at most 65536 words", config.weight_words, "lower tile_words")
    for name in ("embed_dim", "patch_dim", "classes"):
        size, most = getattr(shape, name), 1 << CHANNEL_BITS
        require(size <= most, f"{name} must be at most {most}, the rows' channel addresses", size, "choose a smaller network")
    require(shape.heads < 256, "heads must be below 256", shape.heads, "choose fewer heads")
    pixels = shape.image_size**2 * shape.channels
    require(pixels < 1 << 24, "an image must have fewer than 2**24 bytes", pixels, "choose a smaller image")
    require(not shape.distilled or config.rows >= 2, "a distilled network must have 2 rows or more", config.rows, "use more rows")
    for name, linear in (("patch", graph.patch), ("head", graph.head)):
        require(linear.planes <= config.tile_words, f"{name}: planes must fit one tile", linear.planes, "use more tile_words")


def _norms(graph: DeitGraph) -> Iterator[tuple[str, Norm]]:
    for index, layer in enumerate(graph.layers):
        yield f"{index}.norm1", layer.norm1
        yield f"{index}.norm2", layer.norm2
    yield "norm", graph.norm


def _linears(graph: DeitGraph) -> Iterator[tuple[str, Linear, tuple[int, int]]]:
    """(name, linear, expected shape of its codes)."""
    shape = graph.shape
    yield "patch", graph.patch, (shape.embed_dim, shape.patch_dim)
    for index, layer in enumerate(graph.layers):
        yield f"{index}.qkv", layer.qkv, (3 * shape.embed_dim, shape.embed_dim)
        yield f"{index}.projection", layer.projection, (shape.embed_dim, shape.embed_dim)
        yield f"{index}.fc1", layer.fc1, (shape.hidden_dim, shape.embed_dim)
        yield f"{index}.fc2", layer.fc2, (shape.embed_dim, shape.hidden_dim)
    yield "head", graph.head, (shape.classes, shape.embed_dim)
    if graph.head_distilled is not None:
        yield "head_distilled", graph.head_distilled, (shape.classes, shape.embed_dim)


def _check_norm(name: str, norm: Norm, embed_dim: int) -> None:
    for part, values, fraction in (("gamma", norm.gamma, GAMMA_FRACTION), ("beta", norm.beta, BETA_FRACTION)):
        _check_shape(f"{name}.{part}", values, (embed_dim,))
        _check_range(f"{name}.{part} ({fraction} fraction bits)", values, signed(16))


def _check_linear(name: str, linear: Linear, size: tuple[int, int], bits: int) -> None:
    layer = name.split(".")[-1]
    most_planes = MAX_PLANES if layer in ("patch", "head", "head_distilled") else 1
    require(1 <= linear.planes <= most_planes, f"{name}: planes must be 1..{most_planes}", linear.planes, LOWER)
    has_table = linear.table is not None
    require(has_table == (layer == "fc1"), f"{name}: fc1 alone must have a table", "a table" if has_table else "no table", LOWER)
    _check_shape(f"{name}.codes", linear.codes, size)
    _check_range(f"{name}.codes", linear.codes, Saturation(low=0, high=(1 << linear.planes) - 1))
    for part, limits in (("multiplier", Saturation(low=0, high=(1 << MULTIPLIER_BITS) - 1)), ("bias", signed(BIAS_BITS))):
        _check_shape(f"{name}.{part}", getattr(linear, part), (linear.outputs,))
        _check_range(f"{name}.{part}", getattr(linear, part), limits)
    _check_shape(f"{name}.shift", linear.shift, (linear.outputs,))
    for shift in np.unique(linear.shift):
        _check_shift(f"{name}.shift", int(shift))
    if linear.table is not None:
        _check_shape(f"{name}.table", linear.table, (256,))
        _check_range(f"{name}.table", linear.table, Saturation(low=0, high=(1 << bits) - 1))
    _check_accumulator(name, linear, bits)


def _check_accumulator(name: str, linear: Linear, bits: int) -> None:
    """Both ends of ``codes . u`` over all unsigned inputs of ``bits`` bits, with and without the bias, must fit the accumulator."""
    largest = (1 << bits) - 1
    total = linear.codes.sum(-1, dtype=np.int64)
    if linear.planes == 1:
        positive, negative = total, total - linear.inputs
    else:
        weights = 2 * linear.codes.astype(np.int64) - ((1 << linear.planes) - 1)
        positive, negative = np.maximum(weights, 0).sum(-1), np.minimum(weights, 0).sum(-1)
    for what, bias in (("accumulator", 0), ("accumulator + bias", linear.bias)):
        _check_range(f"{name}: {what}", positive * largest + bias, signed(ACCUMULATOR_BITS))
        _check_range(f"{name}: {what}", negative * largest + bias, signed(ACCUMULATOR_BITS))


def _check_shape(name: str, values: np.ndarray, size: tuple[int, ...]) -> None:
    require(np.shape(values) == size, f"{name} must have shape {size}", np.shape(values), LOWER)


def _check_range(name: str, values: np.ndarray | int, limits: Saturation) -> None:
    low, high = int(np.min(values)), int(np.max(values))
    require(limits.low <= low, f"{name} must be at least {limits.low}", low, LOWER)
    require(high <= limits.high, f"{name} must be at most {limits.high}", high, LOWER)


def _check_shift(name: str, shift: int) -> None:
    require(shift in REQUANTIZE_SHIFTS, f"{name} must be one of {REQUANTIZE_SHIFTS}", shift, LOWER)
