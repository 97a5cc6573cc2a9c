"""An EfficientVitGraph with random constants whose activations neither die nor saturate: for shapes that have no trained checkpoint.

Weights are drawn; each operator's multipliers then follow from what it makes of some smooth random images, so that every tensor uses its
codes.
numpy only. The same seed gives the same graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from model import integer as shared
from model.configs import EfficientVitConfig
from model.efficientvit import integer, interpreter
from model.efficientvit.bounds import check_graph
from model.efficientvit.graph import (
    IMAGE,
    Convolution,
    Divisor,
    EfficientVitGraph,
    Hardswish,
    LayerNorm,
    Operator,
    Pool,
    Requantizer,
    Scale,
    Shortcut,
)
from model.efficientvit.operators import OperatorsConfig
from model.efficientvit.walk import GATED_HIGH, GATED_LOW, Stage, efficientvit_graph
from model.integer import choose_multiplier

#: Standard deviation that results have, in codes of 8 bits, and that s16 codes have.
_DEVIATION, _WIDE_DEVIATION = 30.0, 4000.0
#: Hardswish's argument deviates by as much.
_ARGUMENT_DEVIATION = 1.5
_FRACTION, _UNIT = 10, 3 / (1 << 10)
#: Requantize ratios must stay below 16.
_RATIO_LIMIT = 15
_SHORTCUT = 0.6
_IMAGES = 3
_RESULT_ONE, _SHORTCUT_ONE = 1 << integer.RESULT_FRACTION, 1 << integer.SHORTCUT_FRACTION


def smooth_image(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """(size, size, channels) bytes: blobs, as photos have them."""
    coarse = rng.integers(0, 256, (size // 7 + 2, size // 7 + 2, channels))
    fine = np.repeat(np.repeat(coarse, 7, 0), 7, 1)[:size, :size]
    return np.clip(fine + rng.integers(-20, 21, fine.shape), 0, 255).astype(np.uint8)


def division(kind: str, largest: float, ratio: float) -> tuple[Divisor, int, int]:
    """(rule, output multiplier, output shift) that multiply dividend / divisor by ``ratio``. ``largest``: of the divisors."""
    if kind == "exact":
        return Divisor(kind=kind), round(ratio * (1 << shared.ATTENTION_SHIFT)), 0
    multiplier, shift = choose_multiplier(200 / largest)
    eight_bit = Divisor(kind=kind, multiplier=multiplier, shift=shift)
    if kind == "uniform":
        return eight_bit, round(ratio * multiplier * 2.0 ** (shared.ATTENTION_SHIFT - shift)), 0
    if kind == "log2_8bit":
        rule, factor = eight_bit, ratio * multiplier / 2.0**shift
    else:
        first = int(integer.rounded_log2(np.array(int(largest)))) - integer.EXPONENTS + 1
        low = max(0, first, math.ceil(math.log2(ratio / _RATIO_LIMIT)))
        rule, factor = Divisor(kind=kind, low=low), ratio / 2.0**low
    return rule, *choose_multiplier(factor)


def multipliers(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([choose_multiplier(float(ratio)) for ratio in ratios], dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


@dataclass
class _Random:
    """Draws weights, and finds what suits the codes that the network so far makes of the images."""

    bits: int
    divisor: str
    rng: np.random.Generator
    codes: dict[str, np.ndarray] = field(default_factory=dict)

    def made(self, graph: EfficientVitGraph, operator: Operator | None) -> None:
        if operator is not None:
            self.codes[operator.target] = interpreter.execute(graph, self.codes, operator)
            return
        image = graph.tensors[IMAGE]
        images = np.stack([smooth_image(self.rng, image.height, image.channels) for _ in range(_IMAGES)])
        self.codes[IMAGE] = integer.image_codes(images.astype(np.int64), self.bits)

    def weight(self, shape: tuple[int, ...], limit: int) -> np.ndarray:
        return np.clip(np.round(self.rng.normal(0, limit / 3, shape)), -limit, limit).astype(np.int8)

    def requantizer(self, graph: EfficientVitGraph, operator: Convolution | Pool, channels: int, stage: Stage) -> Requantizer:
        source, zero = self.codes[operator.source], graph.tensors[operator.source].zero
        if isinstance(operator, Pool):
            sums = (source - zero).sum((1, 2), keepdims=True)
        else:
            sums = interpreter.accumulators(source, operator, zero)
        return self._requantizer(sums, _WIDE_DEVIATION if stage.wide else self._deviation(), stage)

    def norm(self, name: str, source: str, channels: int) -> LayerNorm:
        fraction = 5
        gamma = np.round(self.rng.uniform(0.5, 1.5, channels) * _ARGUMENT_DEVIATION / _UNIT * 2**fraction).astype(np.int64)
        beta = np.round(self.rng.normal(0, 0.3 / _UNIT, channels) * 2 ** (fraction + shared.NORMALIZED_FRACTION)).astype(np.int64)
        gate = self._gate(channels, _FRACTION)
        return LayerNorm(name=name, source=source, target=name, gamma=gamma, beta=beta, fraction=fraction, hardswish=gate)

    def _deviation(self) -> float:
        return _DEVIATION * self._top() / 255 * _RESULT_ONE

    def _top(self) -> int:
        return (1 << self.bits) - 1

    def _gated_ratio(self, fraction: int) -> float:
        """Of the second stage, at most."""
        return self._top() / (GATED_LOW + GATED_HIGH) * 3 / (1 << fraction) * _RESULT_ONE

    def _fraction(self, spread: float) -> int:
        """The most that lets a channel whose sums deviate by ``spread`` reach Hardswish's argument; else the least with a second stage."""
        possible = [k for k in range(integer.HARDSWISH_FRACTIONS[0], _FRACTION + 1) if self._gated_ratio(k) < _RATIO_LIMIT]
        fitting = [k for k in possible if _ARGUMENT_DEVIATION / 3 * (1 << k) < _RATIO_LIMIT * spread]
        return max(fitting, default=possible[0])

    def _gate(self, channels: int, fraction: int) -> Hardswish:
        ratios = self.rng.uniform(0.7, 1.0, channels) * self._gated_ratio(fraction)
        multiplier, shift = multipliers(ratios)
        most = round(2 / 255 * (GATED_LOW + GATED_HIGH) / 3 * (1 << fraction))  # two codes of 8 bits
        bias = self.rng.integers(-most, most + 1, channels)
        return Hardswish(fraction=fraction, bias=bias, multiplier=multiplier, shift=shift)

    def _requantizer(self, sums: np.ndarray, deviation: float, stage: Stage) -> Requantizer:
        """``deviation``: of what the first stage gives, where that is not Hardswish's argument."""
        flat = sums.reshape(-1, sums.shape[-1])
        mean, spread = flat.mean(0), np.maximum(flat.std(0), flat.std() / 4) + 1
        fraction = self._fraction(float(spread.min()))
        wanted = _ARGUMENT_DEVIATION / 3 * (1 << fraction) if stage.hardswish else deviation
        multiplier, shift = multipliers(np.minimum(wanted / spread, _RATIO_LIMIT))
        bias = np.round(-mean + self.rng.normal(0, 0.3, len(mean)) * spread).astype(np.int64)
        added = None if stage.shortcut is None else Shortcut(source=stage.shortcut, multiplier=round(_SHORTCUT * _SHORTCUT_ONE))
        gate = self._gate(flat.shape[1], fraction) if stage.hardswish else None
        return Requantizer(bias=bias, multiplier=multiplier, shift=shift, shortcut=added, hardswish=gate)

    def scale(self, graph: EfficientVitGraph, source: str, head_dim: int) -> Scale:
        """S and the sum of K use their codes; the quotient deviates like every other result."""
        values = self.codes[source] - graph.tensors[source].zero
        heads = values.shape[-1] // (3 * head_dim)
        q, k, v = values.reshape(_IMAGES, -1, heads, 3, head_dim).transpose(3, 0, 2, 1, 4)
        q, k = np.maximum(q, 0), np.maximum(k, 0)
        state, total = np.swapaxes(k, -1, -2) @ v, k.sum(-2)
        state_ratio, sum_ratio = 100 / np.abs(state).max(), 100 / total.max()
        state_multiplier, state_shift = multipliers(np.full(heads, state_ratio))
        sum_multiplier, sum_shift = multipliers(np.full(heads, sum_ratio))
        divisor = (q @ np.round(total * sum_ratio)[..., None]).max()
        deviation = (q @ state / np.maximum(q @ total[..., None], 1)).std()  # of the quotients, in units of v's codes
        ratio = self._deviation() / _RESULT_ONE / deviation * sum_ratio / state_ratio
        rule, output_multiplier, output_shift = division(self.divisor, float(divisor), ratio)
        return Scale(
            source=source, state_multiplier=state_multiplier, state_shift=state_shift, sum_multiplier=sum_multiplier, sum_shift=sum_shift,
            divisor=rule, output_multiplier=output_multiplier, output_shift=output_shift,
        )  # fmt: skip


def random_graph(
    config: EfficientVitConfig | OperatorsConfig, bits: int, seed: int, weight_bits: int = 8, divisor: str = "log2"
) -> EfficientVitGraph:
    """``divisor``: see `Divisor`."""
    constants = _Random(bits, divisor, np.random.default_rng(seed))
    return check_graph(efficientvit_graph(config, bits, weight_bits, constants))
