"""The three quantizers of the network. Each names the integers it stands for, so that lowering reads them off instead of guessing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Step, in standard deviations, of the uniform quantizer with 2**bits levels that fits a Gaussian best (Max, 1960), by bits.
GAUSSIAN_STEPS = {1: 1.596, 2: 0.996, 3: 0.586, 4: 0.335, 5: 0.188, 6: 0.104, 7: 0.0569, 8: 0.0308}


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """``rounded``, with the gradient of ``value``."""
    return value + (rounded - value).detach()


def fixed_point(value: Tensor, fraction: int) -> Tensor:
    """Rounded half up to ``fraction`` fraction bits, straight-through."""
    return straight_through(value, (value * 2**fraction + 0.5).floor() / 2**fraction)


class _RoundClamp(torch.autograd.Function):
    """torch's own fake-quantize kernels take several times as long on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = low - 0.5, high + 0.5
        return x.round().clamp_(low, high)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, *ctx.limits), None, None


def round_clamp(x: Tensor, low: int, high: int) -> Tensor:
    """``clamp(round(x), low, high)`` with a straight-through gradient: 1 inside the range, 0 outside."""
    return _RoundClamp.apply(x, low, high)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x.mul(scale).add_(offset)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        gradient = gradient.contiguous()
        return gradient * scale, torch.dot(gradient.view(-1), x.reshape(-1)), gradient.sum()


def affine(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """``x * scale + offset`` with scalar tensors: half the passes over x that broadcasting takes in backward."""
    return _Affine.apply(x, scale, offset)


class BinaryWeight(nn.Module):
    """Weight -> ``scale * {-1, +1}``, scale = mean|w| per output channel (row)."""

    planes = 1

    @staticmethod
    def codes(weight: Tensor) -> Tensor:
        """(outputs, inputs) in {0, 1}."""
        return (weight >= 0).to(torch.uint8)

    @staticmethod
    def scale(weight: Tensor) -> Tensor:
        """(outputs, 1)."""
        return weight.abs().mean(1, keepdim=True)

    def forward(self, weight: Tensor) -> Tensor:
        """Clipped straight-through estimator: the gradient of the sign is 1 where ``|w| <= 1``, else 0."""
        clipped = weight.clamp(-1, 1)
        return self.scale(weight) * straight_through(clipped, torch.where(weight >= 0, 1.0, -1.0))


class PlaneWeight(nn.Module):
    """Weight -> ``scale * (2B - 255)``, B in [0, 255], scale = max|w| / 255 per output channel: eight planes of binary weights."""

    planes = 8

    @staticmethod
    def scale(weight: Tensor) -> Tensor:
        """(outputs, 1)."""
        return weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 255

    def codes(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) B: the odd multiple of scale nearest to w is 2B - 255."""
        return ((weight / self.scale(weight) + 255) / 2).round().clamp(0, 255).to(torch.uint8)

    def forward(self, weight: Tensor) -> Tensor:
        quantized = self.scale(weight) * (2 * self.codes(weight).float() - 255)
        return straight_through(weight, quantized)


class LearnedStep(nn.Module):
    """Activation step size, learned (LSQ). Integers in [low, high]; real value = ``step * (u - zero) + offset``.

    The network works on u: what feeds the quantizer is computed in units of the step (``x / step + zero``), and what consumes u folds
    step and zero into its weights and bias. With a straight-through ``round_clamp`` between, autograd yields exactly LSQ's gradient of the
    step: ``u - x / step`` inside the range, the bound outside. The parameter is log(step): Adam then moves it in relative terms.
    """

    def __init__(self, low: int, high: int, zero: float, offset: float = 0.0):
        super().__init__()
        self.low, self.high, self.zero, self.offset = low, high, zero, offset
        self.log_step = nn.Parameter(torch.zeros(()))

    @classmethod
    def mid_rise(cls, bits: int) -> LearnedStep:
        """Signed values in unsigned codes, symmetric about zero = (2**bits - 1) / 2."""
        return cls(0, (1 << bits) - 1, ((1 << bits) - 1) / 2)

    @classmethod
    def above(cls, bits: int, offset: float) -> LearnedStep:
        """Values from ``offset`` upwards."""
        return cls(0, (1 << bits) - 1, 0.0, offset)

    @classmethod
    def symmetric8(cls) -> LearnedStep:
        return cls(-127, 127, 0.0)

    @property
    def limits(self) -> tuple[int, int]:
        return self.low, self.high

    @property
    def step(self) -> Tensor:
        return self.log_step.exp()

    def calibrate(self, x: Tensor, least: Tensor | float = 1e-12) -> None:
        """Sets the step from real values x: the best Gaussian step for this many levels, ``least`` at least."""
        bits = round(math.log2(self.high - self.low + 1))
        spread = x.float().sub(self.offset).pow(2).mean().sqrt() if self.offset else x.float().std()
        with torch.no_grad():
            self.log_step.copy_((GAUSSIAN_STEPS[bits] * spread.clamp_min(1e-6)).clamp_min(least).log())

    def codes(self, scaled: Tensor) -> Tensor:
        """``x / step + zero`` -> u."""
        return round_clamp(scaled, self.low, self.high)
