"""What each integer approximation costs against float, measured, held under the bounds that docs/numerics.md states."""

import math
from pathlib import Path

import numpy as np
import pytest

from model import integer
from model.random_graph import gelu, hidden_table

#: Row of the table in docs/numerics.md -> bound.
BOUNDS = {
    "requantize ratio": 0.00013,
    "softmax numerator": 0.5,
    "softmax probability": 0.05,
    "score step": 0.0158,
    "LayerNorm mean": 0.27,
    "LayerNorm normalized": 1e-3,
    "LayerNorm code": 0.03,
    "GELU table": 0.5,
    "reciprocal": 1e-4,
    "attention output": 1.35,
}
#: One generator for the whole module; every measure starts it anew, so that a figure does not depend on which tests ran before.
RNG = np.random.default_rng(0)
SEEDS = range(3)


def requantize_ratio() -> float:
    """Relative error of multiplier / 2**shift over the ratios with at least 12 significant bits."""
    ratios = np.geomspace(2**-12, 15.9, 5000)
    pairs = (integer.choose_multiplier(ratio) for ratio in ratios.tolist())
    return max(abs(multiplier / 2**shift / ratio - 1) for (multiplier, shift), ratio in zip(pairs, ratios, strict=True))


def float_softmax(nats: np.ndarray) -> np.ndarray:
    exponentials = np.exp(nats - nats.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def softmax_numerator() -> float:
    """Against 255 * exp(-d / 32), in units of the numerator."""
    return float(np.abs(integer.EXP_TABLE - 255 * np.exp(-np.arange(256) / 32)).max())


def softmax_probability() -> float:
    """Probabilities of integer scores, 17 and 197 keys, deviation 1.5 nat."""
    worst = 0.0
    for keys in (17, 197):
        scores = np.rint(RNG.normal(0, 48, (2000, keys))).astype(np.int64)
        numerators = integer.softmax_numerators(scores)
        error = numerators / numerators.sum(-1, keepdims=True) - float_softmax(scores / 32)
        worst = max(worst, float(np.abs(error).max()))
    return worst


def score_step() -> float:
    """Largest relative error of a probability's numerator from rounding the score to 1/32."""
    return math.exp(integer.SCORE_STEP / 2) - 1


def residuals() -> np.ndarray:
    """(4, 500, 192) residuals with deviations from 100 to 6000 and a mean."""
    deviations = np.array([100, 500, 2000, 6000]).reshape(4, 1, 1)
    return np.rint(np.clip(RNG.normal(0.2, 1, (4, 500, 192)) * deviations, -32768, 32767)).astype(np.int64)


def float_layernorm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def layernorm_mean() -> float:
    """In residual units."""
    x = residuals()
    return float(np.abs(integer.layernorm_statistics(x)[0] / 2 - x.mean(-1)).max())


def layernorm_normalized() -> float:
    """Normalized value for deviations of 500 and more, in standard deviations."""
    x = residuals()[1:]
    mean2, rsqrt = integer.layernorm_statistics(x)
    normalized = integer.round_shift((2 * x - mean2[..., None]) * rsqrt[..., None], integer.NORMALIZE_SHIFT)
    return float(np.abs(normalized / 2**integer.NORMALIZED_FRACTION - float_layernorm(x)).max())


def layernorm_code() -> float:
    """Part of the 8-bit codes that are off by one (none is off by more), gamma = 32 codes per deviation."""
    x = residuals()[1:]
    gamma, beta = RNG.uniform(20, 40, 192), RNG.uniform(100, 150, 192)
    fixed = np.rint(gamma * 2**integer.GAMMA_FRACTION).astype(np.int64), np.rint(beta * 2**integer.BETA_FRACTION).astype(np.int64)
    exact = np.clip(np.floor(float_layernorm(x) * gamma + beta + 0.5), 0, 255)
    difference = np.abs(integer.layernorm(x, *fixed, 8) - exact)
    assert difference.max() <= 1
    return float((difference > 0).mean())


def gelu_table() -> float:
    """In units of the hidden step plus what a preactivation step can move GELU (slope at most 1.13): half of each is rounding."""
    step, hidden_step, bits = 8 / 255, 3.4 / 255, 8
    table = hidden_table(step, 127.5, hidden_step, -0.17, bits)
    x = np.linspace(-3.9, 3.0, 20001)
    codes = table[np.clip(np.floor(x / step + 127.5 + 0.5), 0, 255).astype(int)]
    error = np.abs(codes * hidden_step - 0.17 - gelu(x))
    return float(error.max() / (hidden_step + 1.13 * step))


def reciprocal() -> float:
    """Relative error of dividend // total, 17 tokens, dividend 2**26 (a ratio of two)."""
    totals = np.arange(255, 17 * 255 + 1)
    return float(np.abs((2**26 // totals) * totals / 2**26 - 1).max())


def attention_output() -> float:
    """Codes of integer.attention less the real value, in 8-bit steps of the output (0.5 is rounding)."""
    tokens, dim, ratio, worst = 17, 16, 1.0, 0.0
    dividend = round(ratio * 2 ** (integer.ATTENTION_SHIFT + integer.attention_accumulator_shift(tokens)))
    for _ in range(50):
        q, k, v = np.clip(np.rint(RNG.normal(0, 40, (3, tokens, dim))), -127, 127).astype(np.int64)
        multiplier, shift = integer.choose_multiplier(48 / (1600 * 4))
        codes = integer.attention(q, k, v, multiplier, shift, dividend, 8)
        exact = float_softmax((q @ k.T) * (multiplier / 2**shift) / 32) @ v * ratio
        worst = max(worst, float(np.abs(codes - 127.5 - exact).max()))
    return worst


MEASURES = {
    "requantize ratio": requantize_ratio,
    "softmax numerator": softmax_numerator,
    "softmax probability": softmax_probability,
    "score step": score_step,
    "LayerNorm mean": layernorm_mean,
    "LayerNorm normalized": layernorm_normalized,
    "LayerNorm code": layernorm_code,
    "GELU table": gelu_table,
    "reciprocal": reciprocal,
    "attention output": attention_output,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_error_stays_under_its_bound(name, record_property):
    for seed in SEEDS:
        RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        measured = MEASURES[name]()
        record_property(f"{name}, seed {seed}", float(measured))
        assert 0 < measured <= BOUNDS[name]


def test_numerics_page_states_these_bounds():
    page = (Path(__file__).resolve().parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| ")}
    for name, bound in BOUNDS.items():
        assert f"| {bound:g} |" in rows[name], name
