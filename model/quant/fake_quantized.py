"""The quantized network in torch: codes as floats, every code rounded and saturated as the integers are, ratios real.

What it leaves out: the fixed-point multipliers, and the rounding of Hardswish's argument and of results to 6 fraction bits. So single codes
differ by one from the integer graph's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from model.efficientvit.graph import LOGITS
from model.efficientvit.integer import EXPONENTS, OPERAND
from model.quant.folded import (
    FoldedAttention,
    FoldedConvolution,
    FoldedLayerNorm,
    FoldedOperator,
    FoldedPool,
    Observer,
    convolve,
    join_heads,
    operate,
    split_heads,
    walk,
)
from model.quant.quantization import Quantization, ScaleQuantization, round_half_up

_BYTE = 255


def rounded_log2(divisor: Tensor) -> Tensor:
    """``model.efficientvit.integer.rounded_log2``: of whole numbers >= 0."""
    mantissa, exponent = torch.frexp(divisor.clamp_min(1))
    return exponent - 1 + (mantissa >= 0.75)


def quotients(dividend: Tensor, divisor: Tensor, scale: ScaleQuantization) -> Tensor:
    """In units of the target's code; ``divisor`` broadcasts. See ``model.efficientvit.integer.divide``."""
    ratio = scale.quotient_ratio
    if scale.kind in ("log2_8bit", "uniform"):
        divisor, ratio = round_half_up(divisor * scale.divisor_ratio).clamp(0, _BYTE), ratio * scale.divisor_ratio
    if scale.kind in ("uniform", "exact"):
        return dividend * ratio / divisor.clamp_min(1)
    exponent = rounded_log2(divisor).clamp(scale.low, scale.low + EXPONENTS - 1)
    return torch.ldexp(dividend * ratio, -exponent)


def attend_scale(values: Tensor, head_dim: int, scale: ScaleQuantization) -> Tensor:
    """values: u - zero, (batch, heads * 3 * head_dim, height, width) -> quotients (batch, heads * head_dim, height, width).

    S and the sum of K are exact, in float64.
    """
    q, k, v = split_heads(values, head_dim)
    state, total = (k.transpose(-1, -2) @ v).double(), k.sum(-2).double()
    state = round_half_up(state * scale.state_ratio[:, None, None]).clamp(OPERAND.low, OPERAND.high).float()
    total = round_half_up(total * scale.sum_ratio[:, None]).clamp(0, OPERAND.high).float()
    return join_heads(quotients(q @ state, q @ total[..., None], scale), values)


class FakeQuantized:
    """``quantization`` as a function of uint8 images; `execute` is one operator of it, codes to codes."""

    def __init__(self, quantization: Quantization):
        self.quantization = quantization

    def execute(self, operator: FoldedOperator, codes: Mapping[str, Tensor]) -> Tensor:
        """Codes of the target, (batch, channels, height, width), from those of all that the operator reads."""
        if isinstance(operator, FoldedConvolution):
            return self._convolve(operator, codes)
        if isinstance(operator, FoldedAttention):
            return self._attend(operator, codes)
        real = {operator.source: self.quantization.tensors[operator.source].values(codes[operator.source])}
        assert isinstance(operator, FoldedPool | FoldedLayerNorm)
        return self.quantization.tensors[operator.target].codes(operate(operator, real))

    def _convolve(self, operator: FoldedConvolution, codes: Mapping[str, Tensor]) -> Tensor:
        quantization, convolution = self.quantization, self.quantization.convolutions[operator.name]
        source, target = quantization.tensors[operator.source], quantization.tensors[operator.target]
        sums = convolve(source.differences(codes[operator.source]), convolution.weight.float(), operator)
        scales = quantization.accumulator_scales(operator.source, convolution).float()
        real = sums * scales[:, None, None] + convolution.bias.float()[:, None, None]
        if operator.hardswish:
            real = functional.hardswish(real)
        if operator.shortcut is not None:
            real = real + quantization.tensors[operator.shortcut].values(codes[operator.shortcut])
        return target.codes(real)

    def _attend(self, operator: FoldedAttention, codes: Mapping[str, Tensor]) -> Tensor:
        tensors, scales = self.quantization.tensors, self.quantization.attentions[operator.name]
        parts = [attend_scale(tensors[source].differences(codes[source]), operator.head_dim, scale)
                 for source, scale in zip(operator.sources, scales, strict=True)]  # fmt: skip
        return tensors[operator.target].saturated(torch.cat(parts, dim=1))

    @torch.no_grad()
    def codes(self, images: Tensor, observe: Observer | None = None) -> Tensor:
        """Codes of the logits, (batch, classes, 1, 1); ``observe`` sees the codes of every tensor."""
        return walk(self.quantization.folded, self.quantization.image_codes(images), self.execute, observe)

    def __call__(self, images: Tensor, observe: Observer | None = None) -> Tensor:
        """Logits (batch, classes), real, of uint8 (batch, height, width, channels); ``observe`` sees every tensor's real values.

        The image's are those of `FoldedNetwork.image`, less the bits that its codes have dropped.
        """
        tensors = self.quantization.tensors
        watch = None if observe is None else lambda name, codes: observe(name, tensors[name].values(codes))
        return tensors[LOGITS].values(self.codes(images, watch)).flatten(1)
