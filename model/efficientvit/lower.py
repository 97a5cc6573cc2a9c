"""Lowering: a `Quantization` to the integer EfficientVitGraph. Ratios of steps become multipliers; biases and centres, integers.

Nothing is decided here: the one freedom, how a ratio is written, is ``model.integer.choose_multiplier``'s.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor as TorchTensor

from model import integer
from model.bounds import require
from model.efficientvit.bounds import AGAIN, check_graph
from model.efficientvit.graph import (
    IMAGE,
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
    Shortcut,
    Tensor,
)
from model.efficientvit.integer import RESULT_FRACTION, SHORTCUT_FRACTION, WIDE
from model.integer import Saturation
from model.quant.folded import FoldedAttention, FoldedConvolution, FoldedLayerNorm, FoldedOperator, FoldedPool
from model.quant.quantization import Quantization, ScaleQuantization, TensorQuantization

_LARGEST_NORM_FRACTION = 15


def _fixed(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.int64)


def _numpy(tensor: TorchTensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def hardswish_unit(fraction: int) -> float:
    return 3 / (1 << fraction)


def multipliers(name: str, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(multiplier, shift) of each ratio. Raises InputError where one does not fit."""
    require(bool(np.isfinite(ratios).all()) and ratios.max() < 16, f"{name}: requantize ratios must stay below 16", ratios.max(), AGAIN)
    pairs = np.array([integer.choose_multiplier(float(ratio)) for ratio in ratios], dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def lower_hardswish(name: str, fraction: int, target: TensorQuantization) -> Hardswish:
    """Per channel the centre is taken away, then to steps of 1 / 64 code: here migration divides."""
    unit = hardswish_unit(fraction)
    multiplier, shift = multipliers(name, unit / (_numpy(target.steps) / (1 << RESULT_FRACTION)))
    return Hardswish(fraction=fraction, bias=_fixed(-_numpy(target.centre) / unit), multiplier=multiplier, shift=shift)


def lower_requantizer(
    name: str, sums: np.ndarray, bias: np.ndarray, target: TensorQuantization, fraction: int | None = None, shortcut: Shortcut | None = None
) -> Requantizer:
    """sums : (outputs,) what one unit of the accumulator is worth. bias : (outputs,) real. fraction : of Hardswish, or None."""
    if fraction is not None:
        unit, gate = hardswish_unit(fraction), lower_hardswish(name, fraction, target)
    else:
        unit, gate = target.scale / (1 if target.wide else 1 << RESULT_FRACTION), None
        assert not target.centre.any() and bool((target.migration == 1).all())
    multiplier, shift = multipliers(name, sums / unit)
    folded = _fixed(bias / unit / (multiplier / 2.0**shift))
    return Requantizer(bias=folded, multiplier=multiplier, shift=shift, hardswish=gate, shortcut=shortcut)


def lower_divisor(scale: ScaleQuantization) -> Divisor:
    if scale.kind not in ("log2_8bit", "uniform"):
        return Divisor(kind=scale.kind, low=scale.low)
    multiplier, shift = integer.choose_multiplier(scale.divisor_ratio)
    return Divisor(kind=scale.kind, multiplier=multiplier, shift=shift)


def output_constants(name: str, scale: ScaleQuantization, divisor: Divisor) -> tuple[int, int]:
    """(multiplier, shift) of the quotient, see ``model.efficientvit.integer.divide``."""
    ratio = scale.quotient_ratio * (divisor.multiplier / 2.0**divisor.shift if divisor.multiplier else 1)
    if not scale.kind.startswith("log2"):
        return math.floor(ratio * (1 << integer.ATTENTION_SHIFT) + 0.5), 0
    ratio /= 1 << divisor.low
    multiplier, shift = multipliers(f"{name} quotient", np.array([ratio]))
    return int(multiplier[0]), int(shift[0])


def lower_scale(name: str, source: str, scale: ScaleQuantization) -> Scale:
    state, total = (multipliers(name, _numpy(ratio)) for ratio in (scale.state_ratio, scale.sum_ratio))
    divisor = lower_divisor(scale)
    multiplier, shift = output_constants(name, scale, divisor)
    return Scale(
        source=source, state_multiplier=state[0], state_shift=state[1], sum_multiplier=total[0], sum_shift=total[1], divisor=divisor,
        output_multiplier=multiplier, output_shift=shift,
    )  # fmt: skip


class _Lowering:
    def __init__(self, quantization: Quantization):
        self.quantization, self.tensors = quantization, quantization.tensors

    def tensor(self, name: str) -> Tensor:
        quantized = self.tensors[name]
        zeros = quantized.zero.long().numpy()
        zero = zeros if name == IMAGE else int(zeros[0])
        height, width = quantized.size
        limits = Saturation(low=quantized.low, high=quantized.high)
        return Tensor(height=height, width=width, channels=len(zeros), zero=zero, limits=limits)

    def convolution(self, operator: FoldedConvolution) -> Convolution:
        convolution, target = self.quantization.convolutions[operator.name], self.tensors[operator.target]
        sums = _numpy(self.quantization.accumulator_scales(operator.source, convolution))
        shortcut = None
        if operator.shortcut is not None:
            ratio = self.tensors[operator.shortcut].scale / target.scale
            shortcut = Shortcut(source=operator.shortcut, multiplier=math.floor(ratio * (1 << SHORTCUT_FRACTION) + 0.5))
        requantizer = lower_requantizer(operator.name, sums, _numpy(convolution.bias), target, convolution.fraction, shortcut)
        weight = convolution.weight.numpy().astype(np.int8)
        return Convolution(
            name=operator.name, source=operator.source, target=operator.target, weight=weight, stride=operator.stride,
            groups=operator.groups, requantizer=requantizer,
        )  # fmt: skip

    def attention(self, operator: FoldedAttention) -> LinearAttention:
        parts = zip(operator.sources, self.quantization.attentions[operator.name], strict=True)
        scales = tuple(lower_scale(f"{operator.name} scale {index}", *part) for index, part in enumerate(parts))
        return LinearAttention(name=operator.name, target=operator.target, head_dim=operator.head_dim, scales=scales)

    def pool(self, operator: FoldedPool) -> Pool:
        source, target = self.tensors[operator.source], self.tensors[operator.target]
        sums = _numpy(source.steps) / math.prod(source.size)
        requantizer = lower_requantizer(operator.name, sums, _numpy(source.centre), target)
        return Pool(name=operator.name, source=operator.source, target=operator.target, requantizer=requantizer)

    def norm(self, operator: FoldedLayerNorm) -> LayerNorm:
        """The scale of its source cancels; gamma takes as many fraction bits as fit."""
        stage = lower_hardswish(operator.name, self.quantization.norms[operator.name], self.tensors[operator.target])
        gamma, beta = (_numpy(values) / hardswish_unit(stage.fraction) for values in (operator.weight, operator.bias))
        largest = max(float(np.abs(gamma).max()), 2.0**-_LARGEST_NORM_FRACTION)
        fraction = min(_LARGEST_NORM_FRACTION, math.floor(math.log2(WIDE.high / largest)))
        require(fraction >= 0, f"{operator.name} gamma must fit 16 bits", largest, AGAIN)
        return LayerNorm(
            name=operator.name, source=operator.source, target=operator.target, gamma=_fixed(gamma * 2.0**fraction),
            beta=_fixed(beta * 2.0 ** (fraction + integer.NORMALIZED_FRACTION)), fraction=fraction, hardswish=stage,
        )  # fmt: skip

    def operator(self, operator: FoldedOperator) -> Operator:
        if isinstance(operator, FoldedConvolution):
            return self.convolution(operator)
        if isinstance(operator, FoldedAttention):
            return self.attention(operator)
        return self.pool(operator) if isinstance(operator, FoldedPool) else self.norm(operator)


def lower(quantization: Quantization) -> EfficientVitGraph:
    """The graph, every constant and accumulator checked. Raises InputError naming what does not fit."""
    lowering = _Lowering(quantization)
    return check_graph(
        EfficientVitGraph(
            name=quantization.folded.config.name,
            bits=quantization.bits,
            weight_bits=quantization.weight_bits,
            tensors={name: lowering.tensor(name) for name in quantization.tensors},
            operators=tuple(lowering.operator(operator) for operator in quantization.folded.operators),
        )
    )
