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

from model.integer import BETA_FRACTION, GAMMA_FRACTION, SCORE_BITS, SCORE_STEP
from model.nets.deit import NORM_EPSILON, Block, DeiT
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight, affine, fixed_point, round_clamp, straight_through

#: Requantize ratios must stay below 16 (``integer.choose_multiplier``); steps that are chosen, not learned, keep them below this.
RATIO_TARGET = 15.9
#: GELU's minimum is -0.16997: hidden activations are stored as codes above this.
GELU_OFFSET = -0.17


def fold(
    quantizer: BinaryWeight | PlaneWeight,
    weight: Tensor,
    bias: Tensor,
    source: LearnedStep,
    out_step: Tensor | float = 1.0,
    out_zero: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Weight and constant that take codes of ``source`` to ``value / out_step + out_zero``; ``out_step`` a scalar or (outputs,).

    The constant is rounded to whole units of the accumulator, as it will be after lowering: with few bits a unit is no small thing.
    """
    unit = quantizer.scale(weight).squeeze(1) * (source.step / out_step)
    weight = quantizer(weight)
    constant = (bias + (source.offset - source.step * source.zero) * weight.sum(1)) / out_step + out_zero
    constant = straight_through(constant, unit * (constant / unit).round())
    scale = source.step / out_step
    return weight * (scale[:, None] if scale.ndim else scale), constant


def least_step(quantizer: BinaryWeight, weight: Tensor, source: LearnedStep) -> Tensor:
    """The smallest output step of a linear layer over codes of ``source`` that keeps every requantize ratio below RATIO_TARGET."""
    return quantizer.scale(weight).max() * source.step / RATIO_TARGET


def normalize(x: Tensor, norm: nn.LayerNorm, target: LearnedStep, calibrating: bool) -> Tensor:
    """LayerNorm straight into the codes of ``target``, gamma and beta at their fixed-point resolution.

    Calibration keeps the step so large that gamma fits its 16 bits.
    """
    if calibrating:
        least = norm.weight.abs().max() * 2**GAMMA_FRACTION / (2**15 - 1)
        target.calibrate(functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, NORM_EPSILON), least)
    gamma = fixed_point(norm.weight / target.step, GAMMA_FRACTION)
    beta = fixed_point(norm.bias / target.step + target.zero, BETA_FRACTION)
    return target.codes(functional.layer_norm(x, x.shape[-1:], gamma, beta, NORM_EPSILON))


def softmax_as_numerators(scores: Tensor) -> Tensor:
    """Probabilities of integer scores with numerators rounded to 8 bits, as ``integer.softmax_numerators``."""
    distance = (scores.amax(-1, keepdim=True) - scores).clamp_max(255)
    numerators = (255 * torch.exp(-distance * SCORE_STEP)).round()
    return numerators / numerators.sum(-1, keepdim=True)


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

    def forward(self, x: Tensor, block: Block, calibrating: bool) -> Tensor:
        x = x + self._attend(normalize(x, block.norm1, self.norm1, calibrating), block, calibrating)
        u = normalize(x, block.norm2, self.norm2, calibrating)
        return x + self._mlp(u, block, calibrating)

    def _mlp(self, u: Tensor, block: Block, calibrating: bool) -> Tensor:
        """Codes of norm2 -> fc2's output."""
        fc1, fc2, before, hidden = block.mlp.fc1, block.mlp.fc2, self.preactivation, self.hidden
        if calibrating:
            real = functional.linear(u, *fold(self.weight, fc1.weight, fc1.bias, self.norm2))
            before.calibrate(real, least_step(self.weight, fc1.weight, self.norm2))
        codes = before.codes(functional.linear(u, *fold(self.weight, fc1.weight, fc1.bias, self.norm2, before.step, before.zero)))
        active = functional.gelu(affine(codes, before.step, -before.step * before.zero))
        if calibrating:
            hidden.calibrate(active)
        codes = hidden.codes(affine(active, 1 / hidden.step, -GELU_OFFSET / hidden.step))
        return functional.linear(codes, *fold(self.weight, fc2.weight, fc2.bias, hidden))

    def _attend(self, u: Tensor, block: Block, calibrating: bool) -> Tensor:
        """Codes of norm1 -> the projection's output."""
        batch, tokens, embed_dim = u.shape
        heads = block.attn.heads
        layer = block.attn.qkv
        if calibrating:
            real = functional.linear(u, *fold(self.weight, layer.weight, layer.bias, self.norm1))
            for target, part in zip((self.q, self.k, self.v), real.chunk(3, -1), strict=True):
                target.calibrate(part, least_step(self.weight, layer.weight, self.norm1))
        steps = torch.stack((self.q.step, self.k.step, self.v.step)).repeat_interleave(embed_dim)
        qkv = self.q.codes(functional.linear(u, *fold(self.weight, layer.weight, layer.bias, self.norm1, steps)))
        q, k, v = qkv.reshape(batch, tokens, 3, heads, embed_dim // heads).permute(2, 0, 3, 1, 4).unbind(0)
        to_score = self.q.step * self.k.step / ((embed_dim // heads) ** 0.5 * SCORE_STEP)
        scores = round_clamp((q * to_score) @ k.transpose(-1, -2), -(1 << (SCORE_BITS - 1)), (1 << (SCORE_BITS - 1)) - 1)
        probabilities = torch.softmax(scores * SCORE_STEP, -1) if self.training else softmax_as_numerators(scores)
        out = (probabilities @ v).transpose(1, 2).reshape(batch, tokens, embed_dim)
        if calibrating:
            self.attention.calibrate(out * self.v.step)
        out = self.attention.codes(affine(out, self.v.step / self.attention.step, torch.tensor(self.attention.zero)))
        return functional.linear(out, *fold(self.weight, block.attn.proj.weight, block.attn.proj.bias, self.attention))


class QuantDeiT(nn.Module):
    """W1A``bits`` DeiT over the parameters of ``net`` (state_dict: ``net.*`` with timm's keys, and one ``log_step`` per quantizer)."""

    def __init__(self, net: DeiT, bits: int):
        super().__init__()
        self.net, self.bits = net, bits
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
        weight = (conv.weight.permute(0, 2, 3, 1) / torch.tensor(config.std)).reshape(config.embed_dim, -1)
        return weight, torch.tensor(config.mean).repeat(pixels)

    def embed(self, images: Tensor) -> Tensor:
        """The initial residual."""
        weight, mean = self.patch_weight()
        weight = self.planes(weight)
        codes = self.patches(images)
        x = functional.linear(codes, weight / ((1 << self.bits) - 1), self.net.patch_embed.proj.bias - weight @ mean)
        return torch.cat([*(token.expand(len(x), -1, -1) for token in self.net.tokens()), x], dim=1) + self.net.pos_embed

    def forward(self, images: Tensor, calibrating: bool = False) -> Tensor:
        """(batch, size, size, channels) uint8 images -> (batch, classes) logits. ``calibrating`` sets every step from this batch first."""
        x = self.embed(images)
        for quant, block in self.pairs():
            x = quant(x, block, calibrating)
        return torch.stack(self.head_logits(x, calibrating)).sum(0)

    def head_logits(self, x: Tensor, calibrating: bool = False) -> list[Tensor]:
        """The last residual -> of each head (batch, classes), weighted so that their sum is the mean of the heads."""
        heads = self.net.heads()
        u = normalize(x[:, : len(heads)], self.net.norm, self.norm, calibrating).unbind(1)
        return [
            functional.linear(token, *fold(self.planes, head.weight, head.bias, self.norm)) / len(heads)
            for token, head in zip(u, heads, strict=True)
        ]
