"""What lies between two linear layers of a fake-quantized block, from one's output to the codes of the next, stated in plain torch.

Three arithmetics do the same: ``DIFFERENTIABLE``, the definition while training; ``EVALUATED``, with softmax numerators of 8 bits as the
machine has them; and ``model.quant.fused.Fused``, which computes the first in fewer passes on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from model.integer import SCORE_BITS, SCORE_STEP
from model.nets.deit import NORM_EPSILON
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight, affine, round_clamp, straight_through

SCORE_LIMITS = -(1 << (SCORE_BITS - 1)), (1 << (SCORE_BITS - 1)) - 1


class Arithmetic(Protocol):
    """``target`` quantizes the result, whose codes are returned."""

    def folded(
        self, quantizer: BinaryWeight | PlaneWeight, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Quantized weight (outputs, inputs) times gain, and the constant beside it: bias + shift * the sum of the quantized row.

        gain, shift : scalars or (outputs,). The constant is rounded to whole units of the accumulator, as it will be after lowering:
        with few bits a unit is no small thing.
        """
        ...

    def norm_codes(self, x: Tensor, gamma: Tensor, beta: Tensor, target: LearnedStep) -> Tensor:
        """LayerNorm of the last dimension; gamma and beta are in units of the target's step, its zero point in beta."""
        ...

    def attention_codes(
        self, qkv: Tensor, quantizers: tuple[LearnedStep, LearnedStep, LearnedStep], heads: int, target: LearnedStep
    ) -> Tensor:
        """(batch, tokens, 3 * embed_dim) q, k and v in units of their steps -> (batch, tokens, embed_dim)."""
        ...

    def gelu_codes(self, y: Tensor, before: LearnedStep, target: LearnedStep) -> Tensor:
        """y, in units of the step of ``before``, through its codes and GELU."""
        ...


def score_ratio(q: LearnedStep, k: LearnedStep, head_dim: int) -> Tensor:
    """Product of a code of q and one of k -> score, in units of SCORE_STEP."""
    return q.step * k.step / (head_dim**0.5 * SCORE_STEP)


def gelu_scaled(codes: Tensor, before: LearnedStep, target: LearnedStep) -> Tensor:
    """GELU of codes of ``before``, in units of the target's step."""
    step, inverse = before.step, 1 / target.step
    return affine(functional.gelu(affine(codes, step, -step * before.zero)), inverse, -target.offset * inverse + target.zero)


def softmax(scores: Tensor) -> Tensor:
    """Of integer scores, over the last dimension."""
    return torch.softmax(scores * SCORE_STEP, -1)


def softmax_as_numerators(scores: Tensor) -> Tensor:
    """Probabilities of integer scores with numerators rounded to 8 bits, as ``integer.softmax_numerators``."""
    distance = (scores.amax(-1, keepdim=True) - scores).clamp_max(255)
    numerators = (255 * torch.exp(-distance * SCORE_STEP)).round()
    return numerators / numerators.sum(-1, keepdim=True)


def attention(qkv: Tensor, quantizers: tuple[LearnedStep, LearnedStep, LearnedStep], heads: int, softmax=softmax) -> Tensor:
    """The mean of v's codes: (batch, tokens, embed_dim)."""
    q_step, k_step, _ = quantizers
    batch, tokens, width = qkv.shape
    head_dim = width // 3 // heads
    q, k, v = quantizers[0].codes(qkv).reshape(batch, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    scores = round_clamp((q * score_ratio(q_step, k_step, head_dim)) @ k.transpose(-1, -2), *SCORE_LIMITS)
    return (softmax(scores) @ v).transpose(1, 2).reshape(batch, tokens, width // 3)


@dataclass(frozen=True)
class PlainArithmetic:
    """Plain torch; ``numerators``: softmax as the machine computes it, which has no useful gradient."""

    numerators: bool

    def folded(
        self, quantizer: BinaryWeight | PlaneWeight, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        unit, weight = quantizer.scale(weight).squeeze(1) * gain, quantizer(weight)
        constant = bias + shift * weight.sum(1)
        return weight * (gain[:, None] if gain.ndim else gain), straight_through(constant, unit * (constant / unit).round())

    def norm_codes(self, x: Tensor, gamma: Tensor, beta: Tensor, target: LearnedStep) -> Tensor:
        return target.codes(functional.layer_norm(x, x.shape[-1:], gamma, beta, NORM_EPSILON))

    def attention_codes(
        self, qkv: Tensor, quantizers: tuple[LearnedStep, LearnedStep, LearnedStep], heads: int, target: LearnedStep
    ) -> Tensor:
        out = attention(qkv, quantizers, heads, softmax_as_numerators if self.numerators else softmax)
        return target.codes(affine(out, quantizers[2].step / target.step, out.new_tensor(target.zero)))

    def gelu_codes(self, y: Tensor, before: LearnedStep, target: LearnedStep) -> Tensor:
        return target.codes(gelu_scaled(before.codes(y), before, target))


DIFFERENTIABLE, EVALUATED = PlainArithmetic(numerators=False), PlainArithmetic(numerators=True)
