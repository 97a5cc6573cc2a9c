"""A DeitGraph with random constants whose activations neither die nor saturate: for shapes that have no trained checkpoint.

Each scale follows from the variance of what precedes it: codes of a mid-rise quantizer have the standard deviation that suits their number
of levels, random signs add up as a random walk, biases cancel the zero points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model import integer
from model.graph import DeitGraph, DeitShape, Linear, Norm
from model.walk import Role, deit_graph

#: Levels per standard deviation of the uniform quantizer that fits a Gaussian best, by bits.
_DEVIATIONS = {1: 0.627, 2: 1.00, 3: 1.71, 4: 2.99, 5: 5.32, 6: 9.62, 7: 17.6, 8: 32.5}
_QKV_DEVIATION = 40.0
#: Scores deviate by 2.5 nat: attention is neither flat nor one-hot.
_SCORE_DEVIATION = 2.5 / integer.SCORE_STEP
#: Deviation of a softmax-weighted mean of v over that of v, as measured on photos: independent tokens keep less, depth makes them alike.
_AVERAGE_RETAINED = 0.7
_UPDATE_DEVIATION = 600.0
_LOGIT_DEVIATION = 4000.0
_PLANE_DEVIATION = 40.0
#: Uniform bytes deviate by 1 / sqrt(12) of the range.
_PIXEL_DEVIATION = 1 / math.sqrt(12)
_PREACTIVATION_STEP = 1 / 40
#: gelu(N(0, 1)): root mean square, where the hidden quantizer begins, and where it saturates, by bits (few codes: where they get used).
_GELU_RMS, _GELU_OFFSET = 0.652, -0.17
_GELU_TOP = {1: 1.0, 2: 2.0}
_GELU_TOP_MANY = 3.0
#: Requantize ratios must stay below 16.
_RATIO_LIMIT = 15.0


def gelu(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))), otypes=[np.float64])(x)


def hidden_table(preactivation_step: float, preactivation_zero: float, hidden_step: float, offset: float, bits: int) -> np.ndarray:
    """(256,) uint8: fc1's requantized output -> code of its GELU, value = hidden_step * code + offset."""
    active = gelu(preactivation_step * (np.arange(256) - preactivation_zero))
    return np.clip(np.floor((active - offset) / hidden_step + 0.5), 0, (1 << bits) - 1).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What is known of a linear layer's input codes: their zero point, and their root mean square about it."""

    zero: float
    rms: float


@dataclass(frozen=True)
class _Random:
    """Draws the constants of a network from one generator."""

    shape: DeitShape
    rng: np.random.Generator

    @property
    def mid_rise(self) -> _Source:
        return _Source(zero=((1 << self.shape.bits) - 1) / 2, rms=_DEVIATIONS[self.shape.bits])

    @property
    def hidden(self) -> _Source:
        step = self.hidden_step
        return _Source(zero=-_GELU_OFFSET / step, rms=max(_GELU_RMS / step, 0.3))

    @property
    def hidden_step(self) -> float:
        return (_GELU_TOP.get(self.shape.bits, _GELU_TOP_MANY) - _GELU_OFFSET) / ((1 << self.shape.bits) - 1)

    @property
    def update(self) -> float:
        """Deviation of what a block adds to the residual, as large as the requantize ratio allows."""
        rms = min(self.mid_rise.rms * self.shape.embed_dim**0.5, self.hidden.rms * self.shape.hidden_dim**0.5)
        return min(_UPDATE_DEVIATION, _RATIO_LIMIT * rms)

    def positions(self, shape: DeitShape) -> np.ndarray:
        return _fixed(self.update * self.rng.standard_normal((shape.tokens, shape.embed_dim)), 0)

    def norm(self, channels: int) -> Norm:
        gamma = self.mid_rise.rms * (1 + 0.1 * self.rng.standard_normal(channels))
        beta = self.mid_rise.zero + 0.1 * self.mid_rise.rms * self.rng.standard_normal(channels)
        return Norm(gamma=_fixed(gamma, integer.GAMMA_FRACTION), beta=_fixed(beta, integer.BETA_FRACTION))

    def linear(self, role: Role, outputs: int, inputs: int) -> Linear:
        if role is Role.FC1:
            table = hidden_table(_PREACTIVATION_STEP, 128.0, self.hidden_step, _GELU_OFFSET, self.shape.bits)
            return self._linear(role, outputs, inputs, self.mid_rise, 1 / _PREACTIVATION_STEP, center=128.0, table=table)
        top = (1 << self.shape.bits) - 1
        source, deviation = {
            Role.PATCH: (_Source(zero=top / 2, rms=top * _PIXEL_DEVIATION), 3 * self.update),
            Role.QKV: (self.mid_rise, _QKV_DEVIATION),
            Role.PROJECTION: (self.mid_rise, self.update),
            Role.FC2: (self.hidden, self.update),
            Role.HEAD: (self.mid_rise, _LOGIT_DEVIATION),
        }[role]
        return self._linear(role, outputs, inputs, source, deviation)

    def attention(self, shape: DeitShape) -> dict[str, int]:
        score_multiplier, score_shift = integer.choose_multiplier(_SCORE_DEVIATION / (_QKV_DEVIATION**2 * shape.head_dim**0.5))
        averaged = _QKV_DEVIATION * _AVERAGE_RETAINED
        shift = integer.ATTENTION_SHIFT + integer.attention_accumulator_shift(shape.tokens)
        dividend = math.floor(self.mid_rise.rms / averaged * 2**shift + 0.5)
        return {"score_multiplier": score_multiplier, "score_shift": score_shift, "dividend": dividend}

    def _codes(self, outputs: int, inputs: int, planes: int) -> np.ndarray:
        if planes == 1:
            return self.rng.integers(0, 2, (outputs, inputs), dtype=np.uint8)
        middle = ((1 << planes) - 1) / 2
        drawn = middle + _PLANE_DEVIATION * self.rng.standard_normal((outputs, inputs), dtype=np.float32)
        return np.clip(np.rint(drawn), 0, (1 << planes) - 1).astype(np.uint8)

    def _linear(self, role: Role, outputs: int, inputs: int, source: _Source, deviation: float, *, center: float = 0.0,
                table: np.ndarray | None = None) -> Linear:  # fmt: skip
        """A layer whose requantized output deviates by ``deviation`` about ``center``, or by less where the ratio would reach 16."""
        planes = role.planes
        codes = self._codes(outputs, inputs, planes)
        row_sums = 2 * codes.sum(1, dtype=np.int64) - inputs * ((1 << planes) - 1)
        weight = 1.0 if planes == 1 else 2 * _PLANE_DEVIATION
        accumulated = source.rms * weight * math.sqrt(inputs)
        ratios = min(deviation / accumulated, _RATIO_LIMIT) * (1 + 0.05 * self.rng.random(outputs))
        multiplier, shift = np.array([integer.choose_multiplier(ratio) for ratio in ratios], dtype=np.int64).T
        bias = center / ratios - source.zero * row_sums + 0.1 * accumulated * self.rng.standard_normal(outputs)
        return Linear(codes=codes, planes=planes, multiplier=multiplier, shift=shift, bias=_fixed(bias, 0), table=table)


def _fixed(values: np.ndarray, fraction: int) -> np.ndarray:
    return np.floor(values * 2.0**fraction + 0.5).astype(np.int64)


def random_graph(shape: DeitShape, seed: int) -> DeitGraph:
    """The same graph for the same shape and seed."""
    return deit_graph(shape, _Random(shape, np.random.default_rng(seed)))
