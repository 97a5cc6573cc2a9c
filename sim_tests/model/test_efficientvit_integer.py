"""EfficientViT's integer operators against definitions in real numbers or plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from model.efficientvit import integer
from model.efficientvit.graph import Divisor, Hardswish, LayerNorm, Requantizer, Scale, Shortcut
from model.integer import Saturation, unsigned


@pytest.mark.parametrize("fraction", integer.HARDSWISH_FRACTIONS)
def test_hardswish_is_rounded_once(fraction: int) -> None:
    p = np.arange(-(1 << 15), 1 << 15)
    x = p * 3 / 2**fraction
    exact = x * np.clip(x + 3, 0, 6) / 6 / 3 * 2**fraction
    assert np.array_equal(integer.hardswish(p, fraction), np.floor(exact + 0.5))


def test_rounded_log2_is_the_papers_rule() -> None:
    """Leading one, plus one where the next bit is set: 0110 0011b gives 7. Against strings of bits."""
    assert integer.rounded_log2(np.array([0b01100011])) == 7
    for value in range(1, 1 << 12):
        bits = f"{value:b}"
        assert integer.rounded_log2(np.array(value)) == len(bits) - 1 + (bits[1:2] == "1")
    for exponent in range(2, 40):
        at = 3 << (exponent - 1)
        assert list(integer.rounded_log2(np.array([at - 1, at]))) == [exponent, exponent + 1]


def test_a_divisor_of_zero_counts_as_one() -> None:
    """Log2 of 0 and 1 alike, and no division by zero."""
    assert list(integer.rounded_log2(np.array([0, 1]))) == [0, 0]
    for kind in integer.DIVISOR_KINDS:
        scale = one_scale(kind)
        zero, one = (integer.divide(np.array([77]), np.array([divisor]), scale) for divisor in (0, 1))
        assert kind in ("log2_8bit", "uniform") or zero == one


def one_scale(kind: str, heads: int = 1) -> Scale:
    """Ratio 1 / 2, S and the sum of K nearly as they are."""
    half = 1 << 21 if kind in ("uniform", "exact") else 1 << 11
    same, shift = np.full(heads, 1 << 12), np.full(heads, 12)
    return Scale(
        source="qkv", state_multiplier=same, state_shift=shift, sum_multiplier=same, sum_shift=shift,
        divisor=Divisor(kind=kind, multiplier=1 << 12, shift=12), output_multiplier=half, output_shift=12 if kind.startswith("log2") else 0,
    )  # fmt: skip


@pytest.mark.parametrize("kind", integer.DIVISOR_KINDS)
def test_division(kind: str) -> None:
    """dividend / divisor / 2, the divisor being what the rule makes of it; half up."""
    dividend, divisor = np.meshgrid(np.arange(-3000, 3000, 7), np.array([1, 2, 3, 5, 6, 100, 191, 192, 255]))
    taken = divisor if kind in ("uniform", "exact") else 2 ** integer.rounded_log2(divisor)
    got = integer.divide(dividend, divisor, one_scale(kind))
    error = got - dividend / taken / 2
    assert np.abs(error).max() <= 0.5 + 3000 / 2**22
    if kind.startswith("log2"):
        assert np.array_equal(got, np.floor(dividend / taken / 2 + 0.5))


def test_the_window_limits_the_exponent() -> None:
    scale = replace(one_scale("log2"), divisor=Divisor(kind="log2", low=3))
    quotient = integer.divide(np.array([1 << 20]), np.array([1, 8, 1 << 18, 1 << 19]), scale)
    assert list(quotient) == [1 << 19, 1 << 19, 1 << 4, 1 << 4]


def test_linear_attention_by_hand(seed: int) -> None:
    """Loops over heads, tokens and dims, one rounding at a time."""
    rng = np.random.default_rng(seed)
    heads, tokens, dim = 2, 5, 3
    q, k, v = rng.integers(-127, 128, (3, heads, tokens, dim))
    scale = replace(one_scale("log2", heads), state_multiplier=np.array([30, 200]), sum_multiplier=np.array([900, 700]))
    got = integer.linear_attention(q, k, v, scale)
    for head in range(heads):
        state = [[sum(max(int(k[head, n, i]), 0) * int(v[head, n, j]) for n in range(tokens)) for j in range(dim)] for i in range(dim)]
        total = [sum(max(int(k[head, n, i]), 0) for n in range(tokens)) for i in range(dim)]
        state = [[clip((x * int(scale.state_multiplier[head]) + 2048) >> 12, -127, 127) for x in row] for row in state]
        total = [clip((x * int(scale.sum_multiplier[head]) + 2048) >> 12, 0, 127) for x in total]
        for n in range(tokens):
            positive = [max(int(x), 0) for x in q[head, n]]
            divisor = max(1, sum(a * b for a, b in zip(positive, total, strict=True)))
            exponent = math.floor(math.log2(divisor)) + (divisor >= 1.5 * 2 ** math.floor(math.log2(divisor)) and divisor > 1)
            for j in range(dim):
                dividend = sum(positive[i] * state[i][j] for i in range(dim))
                shift = min(exponent, 15) + 12
                assert got[head, n, j] == (dividend * 2048 + (1 << (shift - 1))) >> shift


def clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def requantizer(**changes) -> Requantizer:
    return replace(Requantizer(bias=np.array([5]), multiplier=np.array([3 << 12]), shift=np.array([12])), **changes)


def test_requantize_code_rounds_and_saturates() -> None:
    """(acc + 5) * 3 in units of 1 / 64, half up, plus the zero point."""
    accumulator = np.arange(-4000, 4000)[:, None]
    got = integer.requantize_code(accumulator, requantizer(), 100, unsigned(8))[:, 0]
    assert np.array_equal(got, np.clip(np.floor((accumulator[:, 0] + 5) * 3 / 64 + 0.5) + 100, 0, 255))
    wide = integer.requantize_code(accumulator, requantizer(), 0, integer.WIDE)[:, 0]
    assert np.array_equal(wide, (accumulator[:, 0] + 5) * 3)


def test_shortcut_is_added_before_the_rounding() -> None:
    r = requantizer(bias=np.array([0]), shortcut=Shortcut(source="x", multiplier=2048))
    accumulator, shortcut = np.meshgrid(np.arange(-20, 20), np.arange(-100, 100))
    got = integer.requantize_code(accumulator[..., None], r, 128, unsigned(8), shortcut[..., None])[..., 0]
    assert np.array_equal(got, np.clip(np.floor(accumulator * 3 / 64 + shortcut / 2 + 0.5) + 128, 0, 255))


def test_hardswish_stage_scales_and_shifts() -> None:
    """Against real numbers: within the roundings of the two stages, a fiftieth of a code. A bias of -320 times 2 / 64 is -10 codes."""
    gate = Hardswish(fraction=11, bias=np.array([-320]), multiplier=np.array([2 << 12]), shift=np.array([12]))
    accumulator = np.arange(-6000, 6000)[:, None]
    r = requantizer(bias=np.array([0]), multiplier=np.array([1 << 12]), hardswish=gate)
    got = integer.requantize_code(accumulator, r, 30, unsigned(8))[:, 0]
    x = accumulator[:, 0] * 3 / 2**11
    real = x * np.clip(x + 3, 0, 6) / 6 * 2**11 / 3 * 2 / 64 - 10 + 30
    inside = (real > 0) & (real < 255)
    assert np.abs(got - real)[inside].max() < 0.52 and set(got[real < -1]) <= {0} and set(got[real > 256]) <= {255}


@pytest.mark.parametrize("fraction", integer.HARDSWISH_FRACTIONS)
def test_what_the_second_stage_multiplies_fits_17_bits(fraction: int) -> None:
    """Over all arguments and the extremes of the bias: 17 bits signed, which 16 are not."""
    value = integer.hardswish(np.arange(-(1 << 15), 1 << 15), fraction)
    assert (value.min(), value.max()) == (-(1 << fraction >> 3), (1 << 15) - 1) and value.min() >= -(1 << 9)
    assert value.min() + integer.WIDE.low >= -(1 << 16) and (1 << 15) <= value.max() + integer.WIDE.high < 1 << 16


@pytest.mark.parametrize("bias", (-32768, -32767, -1, 0, 1, 32767))
def test_a_centre_is_taken_away_before_the_multiplier(bias: int) -> None:
    """In Python's integers. A far centre leaves the codes of a channel whole: nothing saturates before it is gone."""
    accumulator = np.array([[p, p] for p in (-32768, -3000, -512, -1, 0, 1, 511, 5000, 32000, 32767)])
    gate = Hardswish(fraction=10, bias=np.full(2, bias), multiplier=np.array([37_000, 65_535]), shift=np.array([16, 12]))
    r = Requantizer(bias=np.zeros(2, dtype=int), multiplier=np.array([4096, 4096]), shift=np.array([12, 12]), hardswish=gate)
    got = integer.requantize_code(accumulator, r, 100, unsigned(8))
    for row, p in enumerate(accumulator[:, 0]):
        swished = (int(p) * clip(int(p) + 1024, 0, 2048) + 1024) >> 11
        for channel, (multiplier, shift) in enumerate(((37_000, 16), (65_535, 12))):
            scaled = clip(((swished + bias) * multiplier + (1 << (shift - 1))) >> shift, -32768, 32767)
            assert got[row, channel] == clip(((scaled + 32) >> 6) + 100, 0, 255)


def test_layernorm_hardswish_in_real_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-20000, 20000, (4, 128))
    gamma, beta, fraction = rng.uniform(0.5, 2, 128), rng.normal(0, 0.5, 128), 4
    unit, code = 3 / 2**10, 40.0
    norm = LayerNorm(
        name="n", source="x", target="y", fraction=fraction,
        gamma=np.round(gamma / unit * 2**fraction).astype(np.int64), beta=np.round(beta / unit * 2 ** (fraction + 11)).astype(np.int64),
        hardswish=Hardswish(fraction=10, bias=np.full(128, -100), multiplier=np.full(128, round(unit * code * 64 * 4096)),
                            shift=np.full(128, 12)),
    )  # fmt: skip
    got = integer.layernorm_hardswish(x, norm, 20, Saturation(low=0, high=255))
    y = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * gamma + beta
    real = np.clip((y * np.clip(y + 3, 0, 6) / 6 - 100 * unit) * code + 20, 0, 255)
    assert np.abs(got - real).max() < 0.7
