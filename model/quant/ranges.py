"""Scales of activations, from histograms, and of weights: all of the range, or that which costs least (papers/trio_vit.md, 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from model.quant.calibration import Histogram
from model.quant.quantization import round_half_up

RANGES = ("mse", "minmax")
#: The exponent of the cost |x - x^|, and the factors by which a range is tried: 1, 0.99 ... 0.21.
COST_EXPONENT = 2.4
SHRINKS = 1 - 0.01 * torch.arange(80, dtype=torch.float64)
#: Weights that are tried at a time, so that they stay in cache.
_PIECE = 1 << 15


def _candidates(rule: str) -> Tensor:
    return SHRINKS if rule == "mse" else SHRINKS[:1]


def format_of(bits: int, symmetric: bool) -> tuple[int, int]:
    """Least and greatest code. Symmetric: evenly about 2**(bits - 1)."""
    return (1 if symmetric else 0), (1 << bits) - 1


def zero_of(low: float, scale: float, bits: int, symmetric: bool) -> int:
    """The code of 0, for values from ``low`` on."""
    return 1 << (bits - 1) if symmetric else min(max(int(-low / scale + 0.5), 0), (1 << bits) - 1)


def cost(histogram: Histogram, scale: float, zero: int, limits: tuple[int, int]) -> float:
    x = histogram.centres
    codes = (round_half_up(x / scale) + zero).clamp(*limits)
    return float((histogram.counts * (x - scale * (codes - zero)).abs() ** COST_EXPONENT).sum())


def activation_scale(histogram: Histogram, bits: int, symmetric: bool, rule: str) -> tuple[float, float]:
    """(scale, least value) of a tensor; the range holds 0, for that is what padding needs. Scale 0 for a tensor of zeros."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    limits = format_of(bits, symmetric)
    span = (high - low) / (limits[1] - limits[0])
    if span == 0:
        return 0.0, 0.0
    steps = [(float(shrink) * span, float(shrink) * low) for shrink in _candidates(rule)]
    return min(steps, key=lambda step: cost(histogram, step[0], zero_of(step[1], step[0], bits, symmetric), limits))


def weight_scale(weight: Tensor, bits: int, rule: str) -> Tensor:
    """(outputs,) float64 of a weight (outputs, ...); 0 for a channel of zeros."""
    flat = weight.float().flatten(1)
    rows = max(1, _PIECE // flat.shape[1])
    shrinks = torch.cat([_shrinks(part, bits, rule) for part in flat.split(rows)])
    return shrinks * weight.double().flatten(1).abs().amax(1) / ((1 << (bits - 1)) - 1)


def _shrinks(rows: Tensor, bits: int, rule: str) -> Tensor:
    """(rows,) the factor by which each row's range costs least."""
    limit = (1 << (bits - 1)) - 1
    full = (rows.abs().amax(1, keepdim=True) / limit).clamp_min(torch.finfo(torch.float32).tiny)
    best, least = torch.ones(len(rows), dtype=torch.float64), torch.full((len(rows),), torch.inf)
    for shrink in _candidates(rule):
        scale = full * float(shrink)
        error = (rows - scale * round_half_up(rows / scale).clamp(-limit, limit)).abs().pow(COST_EXPONENT).sum(1)
        best, least = torch.where(error < least, shrink, best), torch.minimum(error, least)
    return best


def nearest_weight(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """int32 (outputs, ...), rounded half up to multiples of ``scale`` (outputs,)."""
    limit = (1 << (bits - 1)) - 1
    return round_half_up(weight.double() / scale[:, None, None, None]).clamp(-limit, limit).to(torch.int32)
