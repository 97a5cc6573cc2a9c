"""What the integer graph's constants can express, as bounds of scales: quantization keeps them, so that lowering has nothing to decide.

A multiplier with its shift is below 16 (``model.integer.choose_multiplier``), results carry 6 fraction bits before their last rounding,
Hardswish's argument is s16 in units of 3 / 2**fraction, and so is the centre that is taken from its result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.efficientvit.integer import HARDSWISH_FRACTIONS, RESULT_FRACTION, WIDE
from model.errors import InputError
from model.quant.folded import FoldedConvolution
from model.quant.quantization import round_half_up

RATIO_LIMIT = 15.99
#: Largest bias in units of the accumulator; the accumulator itself needs the rest of its 27 bits.
BIAS_LIMIT = 1 << 24
#: Hardswish's argument may grow beyond what calibration has seen by this factor.
ARGUMENT_MARGIN = 1.25


def per_input(channels: Tensor, operator: FoldedConvolution) -> Tensor:
    """(channels of the source,) in the layout of the operator's weight, (outputs or 1, inputs / groups, 1, 1)."""
    outputs, inputs = operator.weight.shape[:2]
    return channels.reshape(operator.groups, 1, inputs).expand(-1, outputs // operator.groups, -1).reshape(outputs, inputs, 1, 1)


def least_scale(products: Tensor, wide: bool = False, hardswish: bool = False, shortcut: float = 0.0) -> float:
    """Of a target. products : what one unit of each accumulator is worth. shortcut : scale of the tensor that is added."""
    if hardswish:
        return 0.0
    gain = 1 if wide else 1 << RESULT_FRACTION
    return max(float(products.max()) * gain, shortcut) / RATIO_LIMIT


def least_weight_scale(scale: Tensor, bias: Tensor, source_scale: float) -> Tensor:
    """(outputs,): so that the bias fits, and above 0. It counts for channels whose weights are next to nothing beside their bias."""
    smallest = torch.clamp(scale.max() * 2.0**-16, min=torch.finfo(torch.float32).tiny)
    return torch.maximum(bias.abs() / (source_scale * BIAS_LIMIT), smallest)


def hardswish_argument(result: float) -> float:
    """The greatest argument, from Hardswish's greatest result: x (x + 3) / 6 up to x = 3, then x."""
    return result if result >= 3 else (math.sqrt(9 + 24 * max(result, 0.0)) - 3) / 2


def hardswish_fraction(name: str, result: float, products: Tensor | None = None) -> int:
    """The most fraction bits that the argument can have. Only its greatest value counts: from -3 down all is 0, saturated or not.

    result : greatest of Hardswish. products : what one unit of each accumulator is worth; see `greatest_product` where it is too much
    """
    argument = ARGUMENT_MARGIN * hardswish_argument(result)
    limit = WIDE.high * _unit(HARDSWISH_FRACTIONS[0])
    if argument > limit:
        raise InputError(
            f"Hardswish's argument must stay below {limit / ARGUMENT_MARGIN:.0f}: that of {name} reaches {argument / ARGUMENT_MARGIN:.4g}; "
            "normalise the network's activations"
        )
    product = 0.0 if products is None else float(products.max())
    fits = [k for k in HARDSWISH_FRACTIONS if argument <= WIDE.high * _unit(k) and product <= greatest_product(k)]
    return fits[-1] if fits else HARDSWISH_FRACTIONS[0]


def _unit(fraction: int) -> float:
    """What one unit of Hardswish's argument is worth."""
    return 3 / (1 << fraction)


def greatest_product(fraction: int) -> float:
    """Of what one unit of an accumulator before Hardswish is worth: with few bits and large weights, those beyond it are clipped."""
    return RATIO_LIMIT * _unit(fraction)


def whole_centre(centre: Tensor, fraction: int) -> Tensor:
    """The nearest that can be taken away: in whole units of Hardswish's result, which fit s16 where its argument does."""
    unit = _unit(fraction)
    return round_half_up(centre / unit) * unit


def gated(scale: float, migration: Tensor, fraction: int) -> tuple[float, Tensor]:
    """Scale and migration, such that no channel's step is finer than Hardswish's result can be multiplied to.

    Migration factors grow where there are some, else the scale.
    """
    least = _unit(fraction) * (1 << RESULT_FRACTION) / RATIO_LIMIT
    if scale > 0 and bool((migration != 1).any()):
        return scale, migration.clamp_min(least / scale)
    return max(scale, least), migration
