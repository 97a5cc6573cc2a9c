"""The integer semantics of EfficientViT's operators, stated once; what both families share is in ``model.integer``. int64 throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model.efficientvit.graph import Divisor, Hardswish, LayerNorm, Requantizer, Scale, Zero
from model.integer import (
    ATTENTION_SHIFT,
    NORMALIZE_SHIFT,
    NORMALIZED_FRACTION,
    Saturation,
    layernorm_statistics,
    requantize,
    round_shift,
    saturate,
    signed,
)

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: Fraction bits of a result before its last rounding, and of a shortcut's multiplier.
RESULT_FRACTION, SHORTCUT_FRACTION = 6, 12
#: What a requantizer's stages carry.
WIDE = signed(16)
#: Weights, S and V; Q, K and the sum of K are its upper half.
OPERAND = Saturation(low=-127, high=127)
#: Fraction bits that Hardswish's argument may have: units of 3 / 2**K, so that 16 bits reach 1536 ... 24.
HARDSWISH_FRACTIONS = range(6, 13)
#: A 4-bit exponent.
EXPONENTS = 16
DIVISOR_KINDS = ("log2", "log2_8bit", "uniform", "exact")
#: Of a pixel, as the host sends it.
PIXEL_BITS = 8


def image_codes(pixels: Any, bits: int) -> Any:
    """Pixels, an array or tensor of bytes -> codes of the image: their upper ``bits`` bits."""
    return pixels >> max(PIXEL_BITS - bits, 0)


def image_scale(bits: int) -> tuple[int, float]:
    """(pixel steps from one code to the next, mean of the pixels of code 0): what the dropped bits are worth is for lowering to add."""
    step = 1 << max(PIXEL_BITS - bits, 0)
    return step, (step - 1) / 2


def hardswish(p: np.ndarray, fraction: int) -> np.ndarray:
    """``x * clip(x + 3, 0, 6) / 6`` with x = 3p / 2**fraction, rounded half up to the same unit: no division, for 6 is a power of two."""
    return round_shift(p * np.clip(p + (1 << fraction), 0, 2 << fraction), fraction + 1)


def _second_stage(p: np.ndarray, stage: Hardswish) -> np.ndarray:
    """``hardswish(p) + bias`` lies in [-2**15 - 2**9, 2**16 - 2]: at most 17 bits signed."""
    return requantize(hardswish(p, stage.fraction), stage.multiplier, stage.shift, stage.bias, WIDE)


def requantize_code(
    accumulator: np.ndarray, r: Requantizer, zero: Zero, limits: Saturation, shortcut: np.ndarray | None = None
) -> np.ndarray:
    """Accumulators (..., channels) -> codes.

    p = requantize(accumulator, multiplier, shift, bias) saturated to s16: the result with 6 fraction bits, or Hardswish's argument, or,
        where the codes are s16 themselves (``limits`` WIDE: fc1, logits), the code
    Hardswish: p = requantize(hardswish(p), its multiplier, its shift, its bias) saturated to s16
    code = saturate(round_shift((p << 6) + shortcut * its multiplier, 12) + zero)        shortcut: its codes less their zero, or None
    """
    p = requantize(accumulator, r.multiplier, r.shift, r.bias, WIDE)
    if limits == WIDE:
        assert r.hardswish is None and r.shortcut is None
        return p
    if r.hardswish is not None:
        p = _second_stage(p, r.hardswish)
    total = p << (SHORTCUT_FRACTION - RESULT_FRACTION)
    if r.shortcut is not None:
        assert shortcut is not None
        total = total + shortcut * r.shortcut.multiplier
    return saturate(round_shift(total, SHORTCUT_FRACTION) + zero, limits)


def rounded_log2(value: np.ndarray) -> np.ndarray:
    """Exponent of the power of two that stands for a value >= 0: index i of the leading one, i + 1 where the next bit is 1 as well
    (threshold 1.5 * 2**i). 0 counts as 1: exponent 0. Trio-ViT, section III-C."""
    value = np.maximum(np.asarray(value, dtype=np.int64), 1)
    leading = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1
    return leading + ((value >> np.maximum(leading - 1, 0)) & 1) * (leading > 0)


def divide(dividend: np.ndarray, divisor: np.ndarray, scale: Scale) -> np.ndarray:
    """The quotient in codes; ``divisor`` broadcasts. A divisor of 0 counts as 1.

    log2 kinds: round_shift(dividend * output_multiplier, output_shift + e - low); output_shift from REQUANTIZE_SHIFTS, e - low 0..15
    others: round_shift(dividend * (output_multiplier // max(divisor, 1)), ATTENTION_SHIFT)
    """
    rule: Divisor = scale.divisor
    if rule.kind in ("log2_8bit", "uniform"):
        divisor = requantize(divisor, rule.multiplier, rule.shift, 0, Saturation(low=0, high=255))
    if rule.kind in ("uniform", "exact"):
        return round_shift(dividend * (scale.output_multiplier // np.maximum(divisor, 1)), ATTENTION_SHIFT)
    exponent = np.clip(rounded_log2(divisor), rule.low, rule.low + EXPONENTS - 1) - rule.low + scale.output_shift
    product = dividend * scale.output_multiplier
    return (product + ((np.int64(1) << exponent) >> 1)) >> exponent


def linear_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: Scale, matmul: Product = np.matmul) -> np.ndarray:
    """All heads of one scale. q, k, v: (..., heads, tokens, head_dim) in [-127, 127]. Returns the quotients, same shape, not saturated.

    matmul : exact; whatever is quickest

    Q = max(q, 0), K = max(k, 0); S = requantize(K^T v) in [-127, 127]; s = requantize(sum of K) in [0, 127]
    dividend = Q S, divisor = Q s: see ``divide``
    """
    q, k = np.maximum(q, 0), np.maximum(k, 0)
    state = matmul(np.swapaxes(k, -1, -2), v)
    total = k.sum(-2)
    state = requantize(state, scale.state_multiplier[:, None, None], scale.state_shift[:, None, None], 0, OPERAND)
    total = requantize(total, scale.sum_multiplier[:, None], scale.sum_shift[:, None], 0, Saturation(low=0, high=OPERAND.high))
    return divide(matmul(q, state), matmul(q, total[..., None]), scale)


def layernorm_hardswish(x: np.ndarray, norm: LayerNorm, zero: Zero, limits: Saturation) -> np.ndarray:
    """``x`` s16 (..., channels) -> codes.

    normalized as in ``model.integer.layernorm``
    p = saturate16(round_shift(normalized * gamma + beta, fraction + 11)), Hardswish's argument; then as ``requantize_code``
    """
    mean2, rsqrt = layernorm_statistics(x)
    normalized = saturate(round_shift((2 * x - mean2[..., None]) * rsqrt[..., None], NORMALIZE_SHIFT), signed(18))
    p = saturate(round_shift(normalized * norm.gamma + norm.beta, norm.fraction + NORMALIZED_FRACTION), WIDE)
    return saturate(round_shift(_second_stage(p, norm.hardswish), RESULT_FRACTION) + zero, limits)
