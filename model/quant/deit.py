"""The fake-quantized DeiT: float arithmetic, with a quantizer exactly where ``model.graph`` has an integer tensor.

Activations travel as integer codes u (held in float32); steps and zero points are folded into the weights and biases on either side,
as they are after lowering. Left in float on purpose: the residual (16 bits after lowering, a hundredth of an activation step) and, while
training, the softmax numerators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.integer import BETA_FRACTION, GAMMA_FRACTION
from model.nets.deit import NORM_EPSILON, Block, DeiT
from model.quant.arithmetic import DIFFERENTIABLE, EVALUATED, Arithmetic, attention
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight, affine, fixed_point

#: Requantize ratios must stay below 16 (``integer.choose_multiplier``); steps that are chosen, not learned, keep them below this.
RATIO_TARGET = 15.9
#: GELU's minimum is -0.16997: hidden activations are stored as codes above this.
GELU_OFFSET = -0.17


def fold(
    quantizer: BinaryWeight | PlaneWeight,
    layer: nn.Linear,
    source: LearnedStep,
    out_step: Tensor | float = 1.0,
    out_zero: float = 0.0,
    arithmetic: Arithmetic = EVALUATED,
) -> tuple[Tensor, Tensor]:
    """Weight and constant that take codes of ``source`` to ``value / out_step + out_zero``; ``out_step`` a scalar or (outputs,)."""
    step = source.step
    shift = (source.offset - step * source.zero) / out_step
    return arithmetic.folded(quantizer, layer.weight, layer.bias / out_step + out_zero, step / out_step, shift)


def least_step(quantizer: BinaryWeight, weight: Tensor, source: LearnedStep) -> Tensor:
    """The smallest output step of a linear layer over codes of ``source`` that keeps every requantize ratio below RATIO_TARGET."""
    return quantizer.scale(weight).max() * source.step / RATIO_TARGET


def normalize(x: Tensor, norm: nn.LayerNorm, target: LearnedStep, calibrating: bool, arithmetic: Arithmetic) -> Tensor:
    """LayerNorm straight into the codes of ``target``, gamma and beta at their fixed-point resolution.

    Calibration keeps the step so large that gamma fits its 16 bits.
    """
    if calibrating:
        least = norm.weight.abs().max() * 2**GAMMA_FRACTION / (2**15 - 1)
        target.calibrate(functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, NORM_EPSILON), least)
    step = target.step
    gamma = fixed_point(norm.weight / step, GAMMA_FRACTION)
    beta = fixed_point(norm.bias / step + target.zero, BETA_FRACTION)
    return arithmetic.norm_codes(x, gamma, beta, target)


class QuantBlock(nn.Module):
    """Quantizers of one encoder block; the weights are the float block's, passed in."""

    def __init__(self, bits: int):
        super().__init__()
        self.norm1, self.norm2 = LearnedStep.mid_rise(bits), LearnedStep.mid_rise(bits)
        self.q, self.k, self.v = (LearnedStep.symmetric8() for _ in range(3))
        self.attention = LearnedStep.mid_rise(bits)
        self.preactivation = LearnedStep.mid_rise(8)
        self.hidden = LearnedStep.above(bits, GELU_OFFSET)
        self.weight = BinaryWeight()

    def forward(self, x: Tensor, block: Block, calibrating: bool, arithmetic: Arithmetic = EVALUATED) -> Tensor:
        u = normalize(x, block.norm1, self.norm1, calibrating, arithmetic)
        x = x + self._attend(u, block, calibrating, arithmetic)
        u = normalize(x, block.norm2, self.norm2, calibrating, arithmetic)
        return x + self._mlp(u, block, calibrating, arithmetic)

    def _mlp(self, u: Tensor, block: Block, calibrating: bool, arithmetic: Arithmetic) -> Tensor:
        """Codes of norm2 -> fc2's output."""
        fc1, fc2, before, hidden = block.mlp.fc1, block.mlp.fc2, self.preactivation, self.hidden
        if calibrating:
            real = functional.linear(u, *fold(self.weight, fc1, self.norm2))
            before.calibrate(real, least_step(self.weight, fc1.weight, self.norm2))
        y = functional.linear(u, *fold(self.weight, fc1, self.norm2, before.step, before.zero, arithmetic))
        if calibrating:
            hidden.calibrate(functional.gelu(affine(before.codes(y), before.step, -before.step * before.zero)))
        codes = arithmetic.gelu_codes(y, before, hidden)
        return functional.linear(codes, *fold(self.weight, fc2, hidden, arithmetic=arithmetic))

    def _attend(self, u: Tensor, block: Block, calibrating: bool, arithmetic: Arithmetic) -> Tensor:
        """Codes of norm1 -> the projection's output."""
        layer, quantizers = block.attn.qkv, (self.q, self.k, self.v)
        if calibrating:
            real = functional.linear(u, *fold(self.weight, layer, self.norm1))
            for target, part in zip(quantizers, real.chunk(3, -1), strict=True):
                target.calibrate(part, least_step(self.weight, layer.weight, self.norm1))
        steps = torch.stack([quantizer.step for quantizer in quantizers]).repeat_interleave(u.shape[-1])
        qkv = functional.linear(u, *fold(self.weight, layer, self.norm1, steps, arithmetic=arithmetic))
        if calibrating:
            self.attention.calibrate(attention(qkv, quantizers, block.attn.heads) * self.v.step)
        out = arithmetic.attention_codes(qkv, quantizers, block.attn.heads, self.attention)
        return functional.linear(out, *fold(self.weight, block.attn.proj, self.attention, arithmetic=arithmetic))


class QuantDeiT(nn.Module):
    """W1A``bits`` DeiT over the parameters of ``net`` (state_dict: ``net.*`` with timm's keys, and one ``log_step`` per quantizer).

    training_arithmetic : what it computes with in training mode; otherwise as the machine does
    """

    def __init__(self, net: DeiT, bits: int, training_arithmetic: Arithmetic = DIFFERENTIABLE):
        super().__init__()
        self.net, self.bits, self.training_arithmetic = net, bits, training_arithmetic
        self.blocks = nn.ModuleList(QuantBlock(bits) for _ in net.blocks)
        self.norm = LearnedStep.mid_rise(bits)
        self.planes = PlaneWeight()

    def pairs(self) -> Iterator[tuple[QuantBlock, Block]]:
        """The quantizers of each block with its weights."""
        return cast("Iterator[tuple[QuantBlock, Block]]", zip(self.blocks, self.net.blocks, strict=True))

    def patches(self, images: Tensor) -> Tensor:
        """(batch, size, size, channels) uint8 -> (batch, patches, patch_dim) codes ``pixel >> (8 - bits)``, ordered (y, x, channel)."""
        size, (batch, image_size, _, channels) = self.net.config.patch_size, images.shape
        grid = image_size // size
        codes = (images >> (8 - self.bits)).reshape(batch, grid, size, grid, size, channels)
        return codes.permute(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, -1).float()

    def patch_weight(self) -> tuple[Tensor, Tensor]:
        """Patch embedding of pixels in [0, 1] with 1 / std folded in: weight (embed_dim, patch_dim), unquantized, and mean (patch_dim,)."""
        conv, config = self.net.patch_embed.proj, self.net.config
        pixels = config.patch_size**2
        mean, std = conv.weight.new_tensor(config.mean), conv.weight.new_tensor(config.std)
        return (conv.weight.permute(0, 2, 3, 1) / std).reshape(config.embed_dim, -1), mean.repeat(pixels)

    def embed(self, images: Tensor) -> Tensor:
        """The initial residual."""
        weight, mean = self.patch_weight()
        weight = self.planes(weight)
        codes = self.patches(images)
        x = functional.linear(codes, weight / ((1 << self.bits) - 1), self.net.patch_embed.proj.bias - weight @ mean)
        return torch.cat([*(token.expand(len(x), -1, -1) for token in self.net.tokens()), x], dim=1) + self.net.pos_embed

    def forward(self, images: Tensor, calibrating: bool = False) -> Tensor:
        """(batch, size, size, channels) uint8 images -> (batch, classes) logits. ``calibrating`` sets every step from this batch first."""
        arithmetic = self.training_arithmetic if self.training and not calibrating else EVALUATED
        x = self.embed(images)
        for quant, block in self.pairs():
            x = quant(x, block, calibrating, arithmetic)
        return torch.stack(self.head_logits(x, calibrating, arithmetic)).sum(0)

    def head_logits(self, x: Tensor, calibrating: bool = False, arithmetic: Arithmetic = EVALUATED) -> list[Tensor]:
        """The last residual -> of each head (batch, classes), weighted so that their sum is the mean of the heads."""
        heads = self.net.heads()
        u = normalize(x[:, : len(heads)], self.net.norm, self.norm, calibrating, arithmetic).unbind(1)
        return [functional.linear(token, *fold(self.planes, head, self.norm)) / len(heads) for token, head in zip(u, heads, strict=True)]
