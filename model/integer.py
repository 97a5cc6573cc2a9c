"""The integer semantics of every operator, stated once. The RTL cites this file; nothing here is approximate.

All functions take and return ``numpy.int64`` arrays and import numpy alone, so that ``rtl`` may share the constants.

Conventions
-----------
* Activations of ``bits`` bits are stored unsigned, ``u`` in ``[0, 2**bits - 1]``. Their real value is ``scale * (u - zero)``; the zero
  point is a *real* number that lowering folds into biases, so no integer operator ever sees it. Signed activations use
  ``zero = (2**bits - 1) / 2`` (mid-rise: symmetric, and meaningful at one bit).
* Binary weights are ``{-1, +1}``, stored as ``{0, 1}``. With ``S`` the sum of the activations whose bit is 1 and ``total`` the sum of all
  activations, the dot product is ``2 * S - total``. Inputs beyond a layer's own are never filled: their weight bit is 0 and they are
  in neither sum.
* A weight of ``planes`` bits is ``planes`` binary weights: ``w = sum(2**k * (2*bit_k - 1)) = 2*B - (2**planes - 1)``, odd values only.
  The array evaluates plane ``planes-1`` first (Horner): ``acc = 2*acc + (2*S - total)``.
* Every ``>>`` is arithmetic (floor); every rounding is half up: add half, then floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RESIDUAL_BITS = 16
ACCUMULATOR_BITS = 27
BIAS_BITS = 27
MULTIPLIER_BITS = 16
#: The four right shifts that a requantizer can make; two bits per output channel choose one.
REQUANTIZE_SHIFTS = (12, 16, 20, 24)

SCORE_BITS = 10
#: Scores are in units of 1/32 nat.
SCORE_STEP = 1 / 32
PROBABILITY_BITS = 8
#: ``EXP_TABLE[d] = round(255 * exp(-d / 32))``: unsigned 8 bits, d = maximum score - score, limited to 255.
EXP_TABLE = np.floor(255 * np.exp(-np.arange(256) * SCORE_STEP) + 0.5).astype(np.int64)
#: Right shift after the reciprocal product of the attention output.
ATTENTION_SHIFT = 22
ATTENTION_DIVIDEND_BITS = 32
RECIPROCAL_BITS = 25
ATTENTION_ACCUMULATOR_BITS = 18

#: Fraction bits of the normalised value, of gamma and of beta in LayerNorm.
NORMALIZED_FRACTION, GAMMA_FRACTION, BETA_FRACTION = 11, 7, 4
NORMALIZE_SHIFT = 18
RSQRT_BITS = 26


def round_shift(value: np.ndarray, shift: int) -> np.ndarray:
    """``(value + half) >> shift`` with half = 2**(shift-1), or 0 when shift is 0 (round half up)."""
    return (value + ((1 << shift) >> 1)) >> shift


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """An output range. ``low`` and ``high`` are inclusive."""

    low: int
    high: int


def unsigned(bits: int) -> Saturation:
    return Saturation(low=0, high=(1 << bits) - 1)


def signed(bits: int) -> Saturation:
    return Saturation(low=-(1 << (bits - 1)), high=(1 << (bits - 1)) - 1)


#: Operands of the int8 x int8 products: symmetric, so that eight products fit a 19-bit lane.
SIGNED8 = Saturation(low=-127, high=127)


def saturate(value: np.ndarray, limits: Saturation) -> np.ndarray:
    return np.clip(value, limits.low, limits.high)


def requantize(accumulator, multiplier, shift, bias, limits: Saturation) -> np.ndarray:
    """``saturate(((accumulator + bias) * multiplier + 2**(shift-1)) >> shift)``.

    Parameters
    ----------
    accumulator : signed ACCUMULATOR_BITS; accumulator + bias must fit too (lowering proves it per channel)
    multiplier : unsigned MULTIPLIER_BITS, per output channel
    shift : an element of REQUANTIZE_SHIFTS, per output channel
    bias : signed BIAS_BITS, in accumulator units, per output channel
    """
    accumulator, multiplier, shift, bias = (np.asarray(v, dtype=np.int64) for v in (accumulator, multiplier, shift, bias))
    product = (accumulator + bias) * multiplier
    return saturate((product + (np.int64(1) << (shift - 1))) >> shift, limits)


def choose_multiplier(ratio: float) -> tuple[int, int]:
    """The (multiplier, shift) closest to a real ``ratio`` > 0: the largest shift whose multiplier still fits in 16 bits."""
    for shift in reversed(REQUANTIZE_SHIFTS):
        multiplier = math.floor(ratio * 2.0**shift + 0.5)
        if multiplier < 1 << MULTIPLIER_BITS:
            return max(multiplier, 1), shift
    raise ValueError(f"requantize ratio must be below 16: {ratio} is not; rescale the layer's output")


def add_residual(residual, update) -> np.ndarray:
    """Saturating 16-bit sum."""
    return saturate(np.asarray(residual, dtype=np.int64) + update, signed(RESIDUAL_BITS))


@dataclass(frozen=True, kw_only=True)
class LayerNormConstants:
    """Constants of the integer LayerNorm over ``embed_dim`` channels.

    ``inverse``: ``2 / embed_dim`` scaled by ``2**inverse_shift`` (at most 17 bits). ``dividend``: ``sqrt(embed_dim) * 2**29``.
    """

    embed_dim: int
    inverse: int
    inverse_shift: int
    dividend: int

    @classmethod
    def of(cls, embed_dim: int) -> LayerNormConstants:
        inverse_shift = embed_dim.bit_length() - 1 + 15
        return cls(
            embed_dim=embed_dim,
            inverse=math.floor(2 ** (inverse_shift + 1) / embed_dim + 0.5),
            inverse_shift=inverse_shift,
            dividend=math.floor(math.sqrt(embed_dim) * 2 ** (NORMALIZED_FRACTION + NORMALIZE_SHIFT) + 0.5),
        )


def isqrt(value: np.ndarray) -> np.ndarray:
    """Exact floor of the square root."""
    return np.vectorize(math.isqrt, otypes=[np.int64])(np.asarray(value, dtype=np.int64))


def layernorm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per token: ``mean2`` (twice the mean, rounded) and ``rsqrt``, of residuals ``x`` with shape (..., embed_dim).

    sum1 = Σx, sum2 = Σx²; mean2 = round_shift(sum1 * inverse, inverse_shift);
    energy = 4*sum2 - mean2 * (4*sum1 - embed_dim*mean2)  = Σ(2x - mean2)², exactly, hence never negative;
    root = isqrt(energy); rsqrt = min(dividend // max(root, 1), 2**RSQRT_BITS - 1).
    """
    x = np.asarray(x, dtype=np.int64)
    constants = LayerNormConstants.of(x.shape[-1])
    sum1, sum2 = x.sum(-1), (x * x).sum(-1)
    mean2 = round_shift(sum1 * constants.inverse, constants.inverse_shift)
    energy = 4 * sum2 - mean2 * (4 * sum1 - constants.embed_dim * mean2)
    rsqrt = np.minimum(constants.dividend // np.maximum(isqrt(energy), 1), (1 << RSQRT_BITS) - 1)
    return mean2, rsqrt


def layernorm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bits: int) -> np.ndarray:
    """Integer LayerNorm with its output quantizer folded in.

    normalized = round_shift((2x - mean2) * rsqrt, 18)               signed 18 bits, 11 fraction bits
    u = saturate((normalized*gamma + (beta << 14) + 2**17) >> 18)    unsigned ``bits``

    gamma: signed 16 bits, 7 fraction bits, = gamma_real / output_scale.
    beta: signed 16 bits, 4 fraction bits, = beta_real / output_scale + zero.
    """
    x = np.asarray(x, dtype=np.int64)
    mean2, rsqrt = layernorm_statistics(x)
    normalized = saturate(round_shift((2 * x - mean2[..., None]) * rsqrt[..., None], NORMALIZE_SHIFT), signed(18))
    fraction = NORMALIZED_FRACTION + GAMMA_FRACTION
    scaled = normalized * np.asarray(gamma, dtype=np.int64) + (np.asarray(beta, dtype=np.int64) << (fraction - BETA_FRACTION))
    return saturate(round_shift(scaled, fraction), unsigned(bits))


def attention_accumulator_shift(tokens: int) -> int:
    """Right shift that brings a sum of ``tokens`` products of 255 x 127 into ATTENTION_ACCUMULATOR_BITS signed bits."""
    return max(0, (tokens * 255 * 127).bit_length() + 1 - ATTENTION_ACCUMULATOR_BITS)


def softmax_numerators(scores: np.ndarray) -> np.ndarray:
    """``EXP_TABLE[min(max - score, 255)]`` along the last axis; the largest score always gives 255."""
    scores = np.asarray(scores, dtype=np.int64)
    return EXP_TABLE[np.minimum(scores.max(-1, keepdims=True) - scores, 255)]


def attention(q, k, v, score_multiplier: int, score_shift: int, dividend: int, bits: int) -> np.ndarray:
    """One head. q, k, v: (tokens, head_dim) in [-127, 127]. Returns unsigned ``bits``, (tokens, head_dim).

    score = requantize(q . k, score_multiplier, score_shift, 0) saturated to signed SCORE_BITS
    p = softmax_numerators(score); total = Σp                        (normalisation deferred past the product with v)
    sum = round_shift(Σ p*v, attention_accumulator_shift(tokens))     signed 18 bits
    u = saturate(((sum * (dividend // total)) >> 22) + 2**(bits-1))   mid-rise: floor, then the offset
    """
    q, k, v = (np.asarray(t, dtype=np.int64) for t in (q, k, v))
    scores = requantize(q @ k.T, score_multiplier, score_shift, 0, signed(SCORE_BITS))
    numerators = softmax_numerators(scores)
    reciprocal = dividend // numerators.sum(-1, keepdims=True)
    weighted = round_shift(numerators @ v, attention_accumulator_shift(len(k)))
    return saturate(((weighted * reciprocal) >> ATTENTION_SHIFT) + (1 << (bits - 1)), unsigned(bits))


def plane_weights(codes: np.ndarray, planes: int) -> np.ndarray:
    """Codes ``B`` in [0, 2**planes - 1] to weights ``2B - (2**planes - 1)``. ``planes=1`` maps {0,1} to {-1,+1}."""
    return 2 * np.asarray(codes, dtype=np.int64) - ((1 << planes) - 1)
