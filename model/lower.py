"""Lowering: a trained fake-quantized DeiT to the integer DeitGraph. Scales become multipliers, zero points become biases.

python -m model.lower --start w1a8.pt --out model/checkpoints/deit_micro_w1a8.npz
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from model import data, integer
from model.bounds import check_graph, require
from model.checkpoint import save_graph
from model.configs import deit_config_of
from model.errors import InputError
from model.graph import DeitGraph, Layer, Linear, Norm
from model.nets.deit import Block, DeiT
from model.quant.deit import GELU_OFFSET, RATIO_TARGET, QuantBlock, QuantDeiT
from model.quant.packed import save_quantized
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight
from model.random_graph import hidden_table
from model.training.state import load_run

#: The largest value seen in calibration lands at this part of the 16-bit range.
HEADROOM = 2
#: ``integer.choose_multiplier`` takes ratios below 16.
_RATIO_LIMIT = 15.99
#: Training images whose largest values set the residual's and the logits' scale.
CALIBRATION_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class Source:
    """The real value of an input code: ``step * (u - zero)``."""

    step: float
    zero: float

    @classmethod
    def of(cls, quantizer: LearnedStep) -> Source:
        step = float(quantizer.step)
        return cls(step=step, zero=quantizer.zero - quantizer.offset / step)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _fixed(values: np.ndarray, fraction: int = 0) -> np.ndarray:
    return np.floor(values * 2.0**fraction + 0.5).astype(np.int64)


def lower_norm(norm: torch.nn.LayerNorm, target: LearnedStep) -> Norm:
    step = float(target.step)
    gamma, beta = _numpy(norm.weight) / step, _numpy(norm.bias) / step + target.zero
    return Norm(gamma=_fixed(gamma, integer.GAMMA_FRACTION), beta=_fixed(beta, integer.BETA_FRACTION))


def lower_linear(
    weight: Tensor,
    bias: Tensor | np.ndarray,
    quantizer: BinaryWeight | PlaneWeight,
    source: Source,
    out_step: np.ndarray | float,
    out_zero: float = 0.0,
    table: np.ndarray | None = None,
) -> Linear:
    """``W x + bias`` with x = step * (u - zero), into codes ``value / out_step + out_zero``.

    The zero point is weighed by exact integer row sums; only the rest of the bias passes through the rounded ratio.
    """
    codes = quantizer.codes(weight).numpy()
    row_sums = integer.plane_weights(codes, quantizer.planes).sum(1)
    ratios = _numpy(quantizer.scale(weight)).reshape(-1) * source.step / out_step
    require(ratios.max() < _RATIO_LIMIT, "requantize ratios must stay below 16", ratios.max(), "train with a larger output step")
    multiplier, shift = np.array([integer.choose_multiplier(ratio) for ratio in ratios], dtype=np.int64).T
    bias = (_numpy(bias) if isinstance(bias, Tensor) else bias) / out_step + out_zero
    folded = -source.zero * row_sums + bias / (multiplier / 2.0**shift)
    return Linear(codes=codes, planes=quantizer.planes, multiplier=multiplier, shift=shift, bias=_fixed(folded), table=table)


def lower_block(quant: QuantBlock, block: Block, residual_step: float, tokens: int, bits: int) -> Layer:
    q, k, v, out = (float(quantizer.step) for quantizer in (quant.q, quant.k, quant.v, quant.attention))
    dim = block.attn.qkv.in_features
    head_dim = dim // block.attn.heads
    multiplier, shift = integer.choose_multiplier(q * k / (math.sqrt(head_dim) * integer.SCORE_STEP))
    hidden, before = quant.hidden, quant.preactivation
    table = hidden_table(float(before.step), before.zero, float(hidden.step), GELU_OFFSET, bits)
    attention_shift = integer.ATTENTION_SHIFT + integer.attention_accumulator_shift(tokens)
    return Layer(
        norm1=lower_norm(block.norm1, quant.norm1),
        qkv=lower_linear(block.attn.qkv.weight, block.attn.qkv.bias, quant.weight, Source.of(quant.norm1), np.repeat([q, k, v], dim)),
        score_multiplier=multiplier,
        score_shift=shift,
        dividend=math.floor(v / out * 2.0**attention_shift + 0.5),
        projection=lower_linear(block.attn.proj.weight, block.attn.proj.bias, quant.weight, Source.of(quant.attention), residual_step),
        norm2=lower_norm(block.norm2, quant.norm2),
        fc1=lower_linear(
            block.mlp.fc1.weight, block.mlp.fc1.bias, quant.weight, Source.of(quant.norm2), float(before.step), before.zero, table
        ),
        fc2=lower_linear(block.mlp.fc2.weight, block.mlp.fc2.bias, quant.weight, Source.of(hidden), residual_step),
    )


@torch.no_grad()
def calibrated_ranges(network: QuantDeiT, images: Tensor) -> tuple[float, float]:
    """Largest magnitudes, over ``images``, of the residual between blocks, and of the logits and what each head gives to them."""
    x = network.embed(images)
    largest = x.abs().max()
    for quant, block in network.pairs():
        x = quant(x, block, False)
        largest = torch.maximum(largest, x.abs().max())
    parts = torch.stack(network.head_logits(x))
    return float(largest), float(torch.maximum(parts.abs().max(), parts.sum(0).abs().max()))


def _largest_scale(quantizer: BinaryWeight | PlaneWeight, weight: Tensor) -> float:
    return float(quantizer.scale(weight.detach()).max())


@torch.no_grad()
def residual_step(network: QuantDeiT, largest: float) -> float:
    """One scale for the whole residual stream: fine enough for the data, coarse enough that no requantize ratio reaches 16."""
    top = (1 << (integer.RESIDUAL_BITS - 1)) - 1
    steps = [HEADROOM * largest / top]
    for quant, block in network.pairs():
        for linear, source in ((block.attn.proj, quant.attention), (block.mlp.fc2, quant.hidden)):
            steps.append(_largest_scale(BinaryWeight(), linear.weight) * float(source.step) / RATIO_TARGET)
    steps.append(_largest_scale(network.planes, network.patch_weight()[0]) / ((1 << network.bits) - 1) / RATIO_TARGET)
    return max(steps)


def lower_heads(network: QuantDeiT, step: float) -> list[Linear]:
    """All heads on one scale: ``step`` per logit, or coarser where a requantize ratio would reach 16. Each carries its part of the mean."""
    source, heads = Source.of(network.norm), network.net.heads()
    limit = max(_largest_scale(network.planes, head.weight) for head in heads) * source.step / len(heads) / RATIO_TARGET
    step = max(step, limit) * len(heads)
    return [lower_linear(head.weight, head.bias, network.planes, source, step) for head in heads]


@torch.no_grad()
def lower(network: QuantDeiT, images: np.ndarray) -> DeitGraph:
    """The graph of ``network``, with ranges from calibration ``images`` (n, size, size, channels) uint8.

    Raises InputError where a constant does not fit its width.
    """
    net, bits = network.net, network.bits
    shape = net.config.shape(bits)
    largest, largest_logit = calibrated_ranges(network.eval(), torch.from_numpy(images.copy()))
    step = residual_step(network, largest)
    top = (1 << (integer.RESIDUAL_BITS - 1)) - 1
    patch_weight, mean = network.patch_weight()
    patch_bias = _numpy(cast(Tensor, net.patch_embed.proj.bias)) - _numpy(network.planes(patch_weight)) @ _numpy(mean)
    positions = _numpy(net.pos_embed)[0].copy()
    for row, token in enumerate(net.tokens()):
        positions[row] += _numpy(token)[0, 0]
    heads = lower_heads(network, HEADROOM * largest_logit / top)
    return check_graph(
        DeitGraph(
            shape=shape,
            positions=_fixed(positions / step),
            patch=lower_linear(patch_weight, patch_bias, network.planes, Source(step=1 / ((1 << bits) - 1), zero=0.0), step),
            layers=tuple(lower_block(quant, block, step, shape.tokens, bits) for quant, block in network.pairs()),
            norm=lower_norm(net.norm, network.norm),
            head=heads[0],
            head_distilled=heads[1] if shape.distilled else None,
        )
    )


def load_trained(path: str) -> tuple[QuantDeiT, dict]:
    """The network of a ``model.train`` checkpoint, in eval mode, and what the checkpoint says about itself."""
    stored = load_run(path)
    if stored["bits"] == "float":
        raise InputError(f"lowering needs a quantized network: {path} is float; train with --bits 1..8")
    network = QuantDeiT(DeiT(deit_config_of(stored["model"])), int(stored["bits"]))
    network.load_state_dict(stored["state"])
    return network.eval(), {key: stored[key] for key in ("seed", "epoch")}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.lower", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", required=True, help="checkpoint of model.train")
    parser.add_argument(
        "--out", required=True, type=Path, help="integer graph (.npz); the fake-quantized network goes beside it (.quant.npz)"
    )
    parser.add_argument("--source", default="fashion-mnist", choices=data.SOURCES, help="calibration images")
    arguments = parser.parse_args(argv)
    try:
        network, metadata = load_trained(arguments.start)
        shape = network.net.config.shape(network.bits)
        images = data.load(arguments.source, "train", shape)[0][:CALIBRATION_IMAGES]
        save_graph(arguments.out, lower(network, images), metadata)
        save_quantized(arguments.out.with_suffix(".quant.npz"), network)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
