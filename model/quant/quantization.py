"""What post-training quantization decides: the numbers from which the fake-quantized run and the integer graph both follow.

Real value of a tensor's code u: ``scale * migration * (u - zero) + centre``. All real constants are float64, ratios of steps and not yet
the fixed-point numbers that ``model.efficientvit.lower`` makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.efficientvit.integer import image_codes
from model.quant.folded import FoldedNetwork


def round_half_up(x: Tensor) -> Tensor:
    return (x + 0.5).floor()


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorQuantization:
    """scale : of one code. zero, migration, centre : (channels,), centres but the image's in whole units of Hardswish's.
    low, high : least and greatest code. size : (height, width)"""

    scale: float
    zero: Tensor
    migration: Tensor
    centre: Tensor
    low: int
    high: int
    size: tuple[int, int]

    @property
    def steps(self) -> Tensor:
        """(channels,) what one code is worth."""
        return self.scale * self.migration

    @property
    def wide(self) -> bool:
        """s16."""
        return self.low < 0

    def codes(self, x: Tensor) -> Tensor:
        """Real (batch, channels, height, width) -> codes."""
        return self.saturated((x - _planes(self.centre, x)) / _planes(self.steps, x))

    def saturated(self, units: Tensor) -> Tensor:
        """Units of one code, (batch, channels, height, width) -> codes."""
        return (round_half_up(units) + _planes(self.zero, units)).clamp(self.low, self.high)

    def differences(self, codes: Tensor) -> Tensor:
        """u - zero."""
        return codes - _planes(self.zero, codes)

    def values(self, codes: Tensor) -> Tensor:
        return self.differences(codes) * _planes(self.steps, codes) + _planes(self.centre, codes)


def _planes(channels: Tensor, like: Tensor) -> Tensor:
    return channels.to(like.dtype)[:, None, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvolutionQuantization:
    """``weight * weight_scale`` stands for the folded weight times the migration of its input channel.

    weight : int32, shaped like the folded one. weight_scale : (outputs,)
    bias : (outputs,) real, with what the source's centres add, in whole units of the accumulator: with few bits these are large
    fraction : fraction bits of Hardswish's argument in units of 3, or None
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    fraction: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleQuantization:
    """One scale of an attention. state_ratio, sum_ratio : (heads,) codes of S and of the sum of K per unit of their accumulators.

    kind, low : see `model.efficientvit.graph.Divisor`. divisor_ratio : of the 8-bit step. quotient_ratio : the target's codes per
    dividend / divisor
    """

    state_ratio: Tensor
    sum_ratio: Tensor
    kind: str
    low: int
    divisor_ratio: float
    quotient_ratio: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantization:
    """tensors by name, all else by operator: attentions, their scales; norms, the fraction of the Hardswish behind them."""

    folded: FoldedNetwork
    bits: int
    weight_bits: int
    tensors: dict[str, TensorQuantization]
    convolutions: dict[str, ConvolutionQuantization]
    attentions: dict[str, tuple[ScaleQuantization, ...]]
    norms: dict[str, int]

    def image_codes(self, images: Tensor) -> Tensor:
        """uint8 (batch, height, width, channels) -> codes of the tensor "image"."""
        return image_codes(images, self.bits).permute(0, 3, 1, 2).float()

    def accumulator_scales(self, source: str, convolution: ConvolutionQuantization) -> Tensor:
        """(outputs,) what one unit of the convolution's accumulators is worth."""
        return self.tensors[source].scale * convolution.weight_scale
