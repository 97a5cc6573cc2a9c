"""Widths and rounding of ``model.integer`` against Python integers, at random and at the extremes."""

import math

import numpy as np
import pytest

from model import integer

RNG = np.random.default_rng(20)
S27 = integer.signed(integer.ACCUMULATOR_BITS)


@pytest.mark.parametrize("shift", range(9))
def test_round_shift_rounds_half_up(shift):
    values = np.arange(-600, 600)
    expected = [math.floor(int(v) / 2**shift + 0.5) for v in values]
    assert integer.round_shift(values, shift).tolist() == expected


@pytest.mark.parametrize("shift", integer.REQUANTIZE_SHIFTS)
def test_requantize_equals_python(shift):
    accumulator = np.concatenate([RNG.integers(S27.low, S27.high + 1, 500), [S27.low, S27.high, 0, -1, 1]])
    multiplier = np.concatenate([RNG.integers(0, 1 << 16, 500), [65535, 65535, 65535, 1, 1]])
    bias = np.clip(RNG.integers(-1000, 1000, 505), S27.low - accumulator, S27.high - accumulator)
    for limits in (integer.SIGNED8, integer.unsigned(4), integer.signed(16)):
        got = integer.requantize(accumulator, multiplier, shift, bias, limits)
        for a, m, b, g in zip(accumulator.tolist(), multiplier.tolist(), bias.tolist(), got.tolist(), strict=True):
            assert g == max(limits.low, min(limits.high, ((a + b) * m + 2 ** (shift - 1)) // 2**shift))


def test_choose_multiplier_is_close_and_in_range():
    for ratio in np.geomspace(1e-3, 15.99, 400).tolist():
        multiplier, shift = integer.choose_multiplier(ratio)
        assert 1 <= multiplier < 1 << 16 and shift in integer.REQUANTIZE_SHIFTS
        assert abs(multiplier / 2**shift / ratio - 1) <= max(2**-12, 0.5 / (ratio * 2**24))
    with pytest.raises(ValueError, match=r"requantize ratio must be below 16: 16.0 is not"):
        integer.choose_multiplier(16.0)


def test_isqrt_is_exact_at_squares():
    roots = np.array([0, 1, 2, 65535, 65536, 2**26 - 1, 3_037_000_498])
    squares = roots * roots
    assert (integer.isqrt(squares) == roots).all()
    assert (integer.isqrt(squares[1:] - 1) == roots[1:] - 1).all()


@pytest.mark.parametrize("embed_dim", (12, 64, 192, 384, 768))
def test_layernorm_energy_and_widths(embed_dim):
    """energy = Σ(2x - mean2)² exactly; the reciprocal fits its width; the extremes do not overflow int64."""
    alternating = np.where(np.arange(embed_dim) % 2, 32767, -32768)
    rows = [RNG.integers(-32768, 32768, embed_dim), np.full(embed_dim, -32768), np.full(embed_dim, 7), alternating]
    for x in np.array(rows):
        mean2, rsqrt = (int(t) for t in integer.layernorm_statistics(x))
        energy = sum((2 * int(v) - mean2) ** 2 for v in x)
        assert abs(mean2 - 2 * x.sum() / embed_dim) <= 1.5
        expected = min(integer.LayerNormConstants.of(embed_dim).dividend // max(math.isqrt(energy), 1), 2**26 - 1)
        assert rsqrt == expected < 1 << integer.RSQRT_BITS


def test_layernorm_output_is_unsigned():
    x = RNG.integers(-3000, 3000, (5, 64))
    for bits in range(1, 9):
        u = integer.layernorm(x, np.full(64, 32767), np.full(64, -32768), bits)
        assert u.min() >= 0 and u.max() < 1 << bits


@pytest.mark.parametrize("tokens", (5, 17, 197))
def test_attention_accumulator_fits(tokens):
    """The largest sum, rounded, fits 18 signed bits, and one bit less of shift would not do (unless none is needed)."""
    shift = integer.attention_accumulator_shift(tokens)
    largest = tokens * 255 * 127
    limit = 1 << (integer.ATTENTION_ACCUMULATOR_BITS - 1)
    assert integer.round_shift(np.int64(largest), shift) < limit
    assert shift == 0 or largest >> (shift - 1) >= limit


def test_softmax_numerators():
    numerators = integer.softmax_numerators(RNG.integers(-512, 512, (50, 17)))
    assert numerators.max(-1).min() == numerators.max() == 255 and numerators.min() >= 0
    assert integer.EXP_TABLE[0] == 255 and integer.EXP_TABLE[255] == 0


def test_plane_weights_are_horner_of_binary_weights():
    codes = np.arange(256)
    horner = np.zeros(256, dtype=np.int64)
    for plane in reversed(range(8)):
        horner = 2 * horner + 2 * (codes >> plane & 1) - 1
    assert (integer.plane_weights(codes, 8) == horner).all()
    assert integer.plane_weights(np.array([0, 1]), 1).tolist() == [-1, 1]


def test_residual_saturates():
    assert integer.add_residual([32767, -32768, 5], [1, -1, 6]).tolist() == [32767, -32768, 11]
