"""Checks that an EfficientVitGraph hangs together, and that every constant and accumulator fits the width that the arithmetic gives it."""

from __future__ import annotations

import numpy as np

from model import integer
from model.bounds import check_shift, check_within, require
from model.efficientvit.graph import (
    IMAGE,
    LOGITS,
    Convolution,
    Divisor,
    EfficientVitGraph,
    Hardswish,
    LayerNorm,
    LinearAttention,
    Operator,
    Pool,
    Requantizer,
    Scale,
    Tensor,
)
from model.efficientvit.integer import DIVISOR_KINDS, HARDSWISH_FRACTIONS, WIDE
from model.integer import Saturation, signed, unsigned

AGAIN = "quantize the network again"
_MULTIPLIER = unsigned(integer.MULTIPLIER_BITS)


def accumulator_range(convolution: Convolution, source: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest accumulator of each channel, over all codes that the source can have. Padding is 0, which lies between."""
    weight = convolution.weight.astype(np.int64)
    low, high = source.limits.low - source.zero, source.limits.high - source.zero  # per channel for the image
    least, greatest = (np.broadcast_to(np.reshape(value, (-1, 1, 1)), weight.shape[1:]) for value in (low, high))
    smaller, larger = np.minimum(weight * least, weight * greatest), np.maximum(weight * least, weight * greatest)
    return smaller.sum((1, 2, 3)), larger.sum((1, 2, 3))


def check_channels(name: str, values: np.ndarray, count: int) -> None:
    require(values.shape == (count,), f"{name} must have one value per channel, {count}", values.shape, AGAIN)


def check_hardswish(name: str, stage: Hardswish, channels: int) -> None:
    require(stage.fraction in HARDSWISH_FRACTIONS, f"{name} fraction must be in {HARDSWISH_FRACTIONS}", stage.fraction, AGAIN)
    for field in ("bias", "multiplier", "shift"):
        check_channels(f"{name} {field}", getattr(stage, field), channels)
    check_within(f"{name} bias", stage.bias, WIDE)
    check_within(f"{name} multiplier", stage.multiplier, _MULTIPLIER)
    check_shift(f"{name} shift", stage.shift)


def check_requantizer(graph: EfficientVitGraph, name: str, r: Requantizer, low: np.ndarray, high: np.ndarray, target: Tensor) -> None:
    """``low``, ``high``: of the accumulator, per channel."""
    for field in ("bias", "multiplier", "shift"):
        check_channels(f"{name} {field}", getattr(r, field), target.channels)
    check_within(f"{name} bias", r.bias, signed(integer.BIAS_BITS))
    check_within(f"{name} accumulator + bias", np.concatenate([low + r.bias, high + r.bias]), signed(integer.ACCUMULATOR_BITS))
    check_within(f"{name} multiplier", r.multiplier, _MULTIPLIER)
    check_shift(f"{name} shift", r.shift)
    if r.hardswish is not None:
        check_hardswish(f"{name} Hardswish", r.hardswish, target.channels)
    if r.shortcut is not None:
        source = tensor_of(graph, name, r.shortcut.source)
        same = (source.height, source.width, source.channels) == (target.height, target.width, target.channels)
        require(same, f"{name}: a shortcut must have the shape of what it is added to", r.shortcut.source, AGAIN)
        check_within(f"{name} shortcut multiplier", np.array([r.shortcut.multiplier]), _MULTIPLIER)


def tensor_of(graph: EfficientVitGraph, operator: str, name: str) -> Tensor:
    require(name in graph.tensors, f"{operator} must name tensors of the graph", name, AGAIN)
    return graph.tensors[name]


def check_convolution(graph: EfficientVitGraph, op: Convolution) -> None:
    source, target = tensor_of(graph, op.name, op.source), tensor_of(graph, op.name, op.target)
    kernel, groups = op.kernel, op.groups
    require(op.weight.ndim == 4 and kernel % 2 == 1, f"{op.name} weight must be (outputs, inputs, odd, odd)", op.weight.shape, AGAIN)
    fits = source.channels == groups * op.weight.shape[1] and target.channels == op.outputs and op.outputs % groups == 0
    require(fits, f"{op.name} weight must fit {source.channels} to {target.channels} channels", op.weight.shape, AGAIN)
    size = tuple((side + 2 * (kernel // 2) - kernel) // op.stride + 1 for side in (source.height, source.width))
    require((target.height, target.width) == size, f"{op.name} must give {size[0]} x {size[1]}", (target.height, target.width), AGAIN)
    limit = (1 << (graph.weight_bits - 1)) - 1
    check_within(f"{op.name} weight", op.weight, Saturation(low=-limit, high=limit))
    check_requantizer(graph, op.name, op.requantizer, *accumulator_range(op, source), target)


def check_limits(graph: EfficientVitGraph, name: str) -> None:
    """The three kinds that ``model.efficientvit.graph`` names, s16 where that says so and nowhere else; the zero point is a code."""
    limits, top = tensor_of(graph, name, name).limits, (1 << graph.bits) - 1
    if name == IMAGE:
        allowed = (unsigned(graph.bits),)
    elif name == LOGITS or any(isinstance(operator, LayerNorm) and operator.source == name for operator in graph.operators):
        allowed = (WIDE,)
    else:
        allowed = (Saturation(low=0, high=top), Saturation(low=1, high=top))
    require(limits in allowed, f"{name} limits must be one of {allowed}", limits, AGAIN)
    zeros = Saturation(low=0, high=0 if limits == WIDE else limits.high)
    check_within(f"{name} zero", np.atleast_1d(graph.tensors[name].zero), zeros)


def check_divisor(name: str, rule: Divisor) -> None:
    require(rule.kind in DIVISOR_KINDS, f"{name} must be one of {', '.join(DIVISOR_KINDS)}", rule.kind, AGAIN)
    check_within(f"{name} low", np.array([rule.low]), unsigned(5))
    if rule.kind in ("log2_8bit", "uniform"):
        check_within(f"{name} multiplier", np.array([rule.multiplier]), _MULTIPLIER)
        check_shift(f"{name} shift", np.array([rule.shift]))


def check_scale(graph: EfficientVitGraph, name: str, scale: Scale, head_dim: int) -> int:
    """Channels that it contributes."""
    source = tensor_of(graph, name, scale.source)
    heads, rest = divmod(source.channels, 3 * head_dim)
    require(rest == 0, f"{name}: channels must be a multiple of 3 * {head_dim}", source.channels, AGAIN)
    operands = Saturation(low=source.limits.low - int(source.zero), high=source.limits.high - int(source.zero))
    require(operands.low == -operands.high and operands.high <= 127, f"{name}: q, k, v must lie evenly about zero", operands, AGAIN)
    for part in ("state", "sum"):
        multiplier, shift = getattr(scale, f"{part}_multiplier"), getattr(scale, f"{part}_shift")
        check_channels(f"{name} {part} multiplier", multiplier, heads)
        check_channels(f"{name} {part} shift", shift, heads)
        check_within(f"{name} {part} multiplier", multiplier, _MULTIPLIER)
        check_shift(f"{name} {part} shift", shift)
    check_divisor(f"{name} divisor", scale.divisor)
    logarithmic = scale.divisor.kind.startswith("log2")
    limits = _MULTIPLIER if logarithmic else unsigned(integer.ATTENTION_DIVIDEND_BITS)
    check_within(f"{name} output multiplier", np.array([scale.output_multiplier]), limits)
    if logarithmic:
        check_shift(f"{name} output shift", np.array([scale.output_shift]))
    else:
        require(scale.output_shift == 0, f"{name} output shift must be 0 with {scale.divisor.kind} divisors", scale.output_shift, AGAIN)
    return heads * head_dim


def check_attention(graph: EfficientVitGraph, op: LinearAttention) -> None:
    channels = sum(check_scale(graph, f"{op.name} scale {index}", scale, op.head_dim) for index, scale in enumerate(op.scales))
    target = tensor_of(graph, op.name, op.target)
    require(target.channels == channels, f"{op.name} must give {channels} channels", target.channels, AGAIN)


def check_pool(graph: EfficientVitGraph, op: Pool) -> None:
    source, target = tensor_of(graph, op.name, op.source), tensor_of(graph, op.name, op.target)
    require((target.pixels, target.channels) == (1, source.channels), f"{op.name} must give one pixel of as many channels", target, AGAIN)
    low, high = (np.full(source.channels, source.pixels * (code - source.zero)) for code in (source.limits.low, source.limits.high))
    check_requantizer(graph, op.name, op.requantizer, low, high, target)


def check_norm(graph: EfficientVitGraph, op: LayerNorm) -> None:
    target = tensor_of(graph, op.name, op.target)
    for field, limits in (("gamma", WIDE), ("beta", signed(32))):
        check_channels(f"{op.name} {field}", getattr(op, field), target.channels)
        check_within(f"{op.name} {field}", getattr(op, field), limits)
    check_within(f"{op.name} fraction", np.array([op.fraction]), unsigned(4))
    check_hardswish(f"{op.name} Hardswish", op.hardswish, target.channels)


_CHECKS = {Convolution: check_convolution, LinearAttention: check_attention, Pool: check_pool, LayerNorm: check_norm}


def sources_of(operator: Operator) -> tuple[str, ...]:
    """Tensors that the operator reads, shortcuts included."""
    if isinstance(operator, LinearAttention):
        return tuple(scale.source for scale in operator.scales)
    shortcut = None if isinstance(operator, LayerNorm) else operator.requantizer.shortcut
    return (operator.source,) if shortcut is None else (operator.source, shortcut.source)


def check_graph(graph: EfficientVitGraph) -> EfficientVitGraph:
    """The graph itself. Raises InputError naming the first thing that does not fit."""
    for name, bits in (("bits", graph.bits), ("weight_bits", graph.weight_bits)):
        require(4 <= bits <= 8, f"{name} must be 4..8", bits, "choose a precision in that range")
    made = {IMAGE}
    check_limits(graph, IMAGE)
    for operator in graph.operators:
        for source in sources_of(operator):
            require(source in made, f"{operator.name} must read what an earlier operator made", source, "put the operators in order")
        check_limits(graph, operator.target)
        _CHECKS[type(operator)](graph, operator)
        require(operator.target not in made, f"{operator.name} must make a tensor of its own", operator.target, AGAIN)
        made.add(operator.target)
    require(made == set(graph.tensors) and LOGITS in made, "every tensor must be made by one operator, logits too", graph.name, AGAIN)
    return graph
