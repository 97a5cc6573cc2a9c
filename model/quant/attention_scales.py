"""The scales inside the attention: of S, of the sum of K, of the divisor and of the quotient (papers/trio_vit.md, sections 2.5 and 3.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.efficientvit.integer import EXPONENTS, OPERAND
from model.errors import InputError
from model.integer import choose_multiplier
from model.quant.calibration import DIVISOR_BINS_PER_OCTAVE, DIVISOR_LOG2_LOW, AttentionStatistics
from model.quant.quantization import ScaleQuantization
from model.quant.representable import RATIO_LIMIT

_BYTE = 255
#: The next bit below the leading one is set from 1.5 on.
_THRESHOLD = math.log2(1.5)


def exponents_of(counts: Tensor, unit: Tensor) -> Tensor:
    """Histogram over exponents 0, 1, 2 ... of the divisors in units of ``unit`` (heads,), from their ``divisor_counts`` (heads, bins)."""
    bins = torch.arange(counts.shape[1], dtype=torch.float64)
    log2 = DIVISOR_LOG2_LOW + (bins + 0.5) / DIVISOR_BINS_PER_OCTAVE - unit.log2()[:, None]
    exponent = (log2.floor() + (log2 - log2.floor() >= _THRESHOLD)).clamp_min(0).long()
    return torch.bincount(exponent.flatten(), weights=counts.flatten())


def exponent_window(counts: Tensor) -> int:
    """First exponent of the 16 that hold the most divisors, the lowest of equals. counts : by exponent"""
    held = [float(counts[low : low + EXPONENTS].sum()) for low in range(max(len(counts) - EXPONENTS, 0) + 1)]
    return held.index(max(held))


def first_exponent(counts: Tensor, quotient_ratio: float) -> int:
    """That of the window, or the lowest above it with which the quotient's ratio can be multiplied: ``quotient_ratio / 2**first``.

    Divisors below it count as 2**first. Few are: in efficientvit_micro one in 10,000, in the stress network one in 200.
    """
    return max(exponent_window(counts), math.ceil(math.log2(quotient_ratio / RATIO_LIMIT)))


def check_divisors(name: str, statistics: AttentionStatistics) -> None:
    """Raises InputError where no divisor of the scale is above 0."""
    if not float(statistics.divisor.max()) > 0:
        raise InputError(f"divisors must not all be zero over the calibration images: those of {name} are; give other images or weights")


def scale_quantization(statistics: AttentionStatistics, source: float, target: float, kind: str) -> ScaleQuantization:
    """source, target : scales of (q, k, v) and of the attention's target.

    S and the sum of K have scales per head, and the quotient one for all heads: so their ratio is the same in all, that of the median head.
    A head whose keys are all zero gives 0, as in the float network.
    """
    total, state = statistics.total / source, statistics.state / source**2
    alive = (total > 0) & (state > 0)
    ratio = float((total[alive] / state[alive]).median()) if alive.any() else 1.0
    most = min(RATIO_LIMIT, RATIO_LIMIT / ratio)
    sum_ratio = OPERAND.high / torch.maximum(total, ratio * state).clamp_min(OPERAND.high / most)
    unit = source**2 / sum_ratio
    quotient_ratio = source / (target * ratio)
    low = first_exponent(exponents_of(statistics.divisor_counts, unit), quotient_ratio) if kind == "log2" else 0
    divisor_ratio = min(_BYTE / float((statistics.divisor / unit).max()), RATIO_LIMIT)
    return ScaleQuantization(
        state_ratio=_written(sum_ratio * ratio), sum_ratio=_written(sum_ratio), kind=kind, low=low,
        divisor_ratio=float(_written(torch.tensor(divisor_ratio))), quotient_ratio=quotient_ratio,
    )  # fmt: skip


def _written(ratios: Tensor) -> Tensor:
    """As their multipliers and shifts say: where the divisor is small, one code of S more or less is several of the quotient."""
    pairs = [choose_multiplier(float(ratio)) for ratio in ratios.flatten()]
    return torch.tensor([math.ldexp(multiplier, -shift) for multiplier, shift in pairs], dtype=torch.float64).reshape(ratios.shape)
