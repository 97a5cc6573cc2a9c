"""The blocks of ``model.quant.deit`` as a CPU trains them: the same values and gradients, in few passes over memory.

A quantizer costs as much as the multiplication before it when each of its steps is a tensor of its own. Here LayerNorm, attention and GELU
each go with their quantizers into one kernel, which keeps nothing for the backward pass but its input. GELU between two quantizers is a
table of 256 entries, as it is on the machine; its gradient goes through the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.integer import SCORE_STEP
from model.nets.deit import NORM_EPSILON
from model.quant.arithmetic import DIFFERENTIABLE, gelu_scaled, score_ratio
from model.quant.kernels import Kernels
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight

_CODES = 256
_DISTANCES = 1024


class _NormCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, kernels: Kernels, limits: tuple[int, int]) -> Tensor:
        x, codes = x.contiguous(), torch.empty(x.shape)
        kernels.call("norm_codes", x, gamma, beta, _rows(x), limits, NORM_EPSILON, codes)
        ctx.save_for_backward(x, gamma, beta)
        ctx.kernels, ctx.limits = kernels, limits
        return codes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta = ctx.saved_tensors
        dx, dgamma, dbeta = torch.empty_like(x), torch.zeros_like(gamma), torch.zeros_like(beta)
        ctx.kernels.call(
            "norm_codes_backward", gradient.contiguous(), x, gamma, beta, _rows(x), ctx.limits, NORM_EPSILON, dx, dgamma, dbeta
        )
        return dx, dgamma, dbeta, None, None


def _rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1]


class _TableCodes(torch.autograd.Function):
    """``entries[clamp(round(y), 0, 255)]`` rounded and clamped to ``limits``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, entries: Tensor, slope: Tensor, kernels: Kernels, limits: tuple[int, int]) -> Tensor:
        low, high = limits
        passes = ((entries > low - 0.5) & (entries < high + 0.5)).float()
        y, codes = y.contiguous(), torch.empty(y.shape)
        kernels.call("table_codes", y, entries.round().clamp(low, high), y.numel(), codes)
        ctx.save_for_backward(y, slope * passes, passes)
        ctx.kernels = kernels
        return codes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, slope, passes = ctx.saved_tensors
        dy, arrived = torch.empty_like(y), torch.empty(_CODES)
        ctx.kernels.call("table_codes_backward", gradient.contiguous(), y, slope, y.numel(), dy, arrived)
        return dy, arrived * passes, None, None, None


class _AttentionCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, to_score: Tensor, ratio: Tensor, kernels: Kernels, target: LearnedStep) -> Tensor:
        qkv = qkv.contiguous()
        codes = torch.empty(*qkv.shape[:2], qkv.shape[2] // 3)
        exponential = torch.exp(torch.arange(_DISTANCES) * -SCORE_STEP)
        ctx.scalars = float(to_score), float(ratio), float(target.zero)
        ctx.save_for_backward(qkv, exponential)
        ctx.kernels, ctx.limits = kernels, target.limits
        kernels.call("attention_codes", qkv, len(qkv), exponential, *ctx.scalars, ctx.limits, codes)
        return codes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        qkv, exponential = ctx.saved_tensors
        dqkv, scalars = torch.empty_like(qkv), torch.zeros(2)
        constants = exponential, SCORE_STEP, *ctx.scalars, ctx.limits
        ctx.kernels.call("attention_codes_backward", gradient.contiguous(), qkv, len(qkv), *constants, dqkv, scalars)
        return dqkv, *scalars.unbind(), None, None


class _FoldBinary(torch.autograd.Function):
    """gain, shift : (outputs,)"""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
        folded, constant = torch.empty_like(weight), torch.empty_like(bias)
        kernels.call("fold_binary", weight, bias, gain, shift, *weight.shape, folded, constant)
        ctx.save_for_backward(weight, gain, shift)
        ctx.kernels = kernels
        return folded, constant

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, shift = ctx.saved_tensors
        gradient, of_constant = (part.contiguous() for part in gradients)
        dweight, dgain, dshift = torch.empty_like(weight), torch.empty_like(gain), torch.empty_like(shift)
        ctx.kernels.call("fold_binary_backward", gradient, of_constant, weight, gain, shift, *weight.shape, dweight, dgain, dshift)
        return dweight, of_constant, dgain, dshift, None


@dataclass(frozen=True)
class Fused:
    """The arithmetic of ``DIFFERENTIABLE`` by the kernels of one network."""

    kernels: Kernels

    def folded(
        self, quantizer: BinaryWeight | PlaneWeight, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        if isinstance(quantizer, PlaneWeight):
            return DIFFERENTIABLE.folded(quantizer, weight, bias, gain, shift)
        return _FoldBinary.apply(weight, bias, *(part.expand(len(bias)).contiguous() for part in (gain, shift)), self.kernels)

    def norm_codes(self, x: Tensor, gamma: Tensor, beta: Tensor, target: LearnedStep) -> Tensor:
        return _NormCodes.apply(x, gamma, beta, self.kernels, target.limits)

    def attention_codes(
        self, qkv: Tensor, quantizers: tuple[LearnedStep, LearnedStep, LearnedStep], heads: int, target: LearnedStep
    ) -> Tensor:
        q, k, v = quantizers
        to_score = score_ratio(q, k, qkv.shape[-1] // 3 // heads)
        return _AttentionCodes.apply(qkv, to_score, v.step / target.step, self.kernels, target)

    def gelu_codes(self, y: Tensor, before: LearnedStep, target: LearnedStep) -> Tensor:
        indices = torch.arange(_CODES, dtype=torch.float32, requires_grad=True)
        entries = gelu_scaled(indices, before, target)
        (slope,) = torch.autograd.grad(entries.sum(), indices, retain_graph=True)
        return _TableCodes.apply(y, entries, slope, self.kernels, target.limits)
