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
    LOGITS,
    Convolution,
    Divisor,
    EfficientVitGraph,
    Hardswish,
    LayerNorm,
    LinearAttention,
    Operator,
    Pool,
    Requantizer,
    Scale,
    Shortcut,
    Tensor,
)
from model.integer import Saturation, choose_multiplier, unsigned

#: Standard deviation that results have, in codes of 8 bits, and that s16 codes have.
_DEVIATION, _WIDE_DEVIATION = 30.0, 4000.0
#: Hardswish's argument deviates by 1.5; its result lies in [-0.375, 5.5] nearly always.
_ARGUMENT_DEVIATION, _GATED_LOW, _GATED_HIGH = 1.5, 0.375, 5.5
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


_NOTHING = Requantizer(bias=np.zeros(0), multiplier=np.zeros(0), shift=np.zeros(0))


@dataclass
class _Builder:
    """The graph so far, and the codes that it makes of the images."""

    config: EfficientVitConfig
    bits: int
    weight_bits: int
    rng: np.random.Generator
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    codes: dict[str, np.ndarray] = field(default_factory=dict)

    def graph(self) -> EfficientVitGraph:
        return EfficientVitGraph(
            name=self.config.name, bits=self.bits, weight_bits=self.weight_bits, tensors=self.tensors, operators=tuple(self.operators)
        )

    def image(self) -> None:
        size, channels = self.config.image_size, self.config.channels
        step, first = integer.image_scale(self.bits)
        zero = np.round((255 * np.array(self.config.mean) - first) / step).astype(np.int64)
        self.tensors[IMAGE] = Tensor(height=size, width=size, channels=channels, zero=zero, limits=unsigned(self.bits))
        images = np.stack([smooth_image(self.rng, size, channels) for _ in range(_IMAGES)])
        self.codes[IMAGE] = integer.image_codes(images.astype(np.int64), self.bits)

    # -- operators ------------------------------------------------------------------------------------------------------------------------

    def convolution(
        self, name: str, source: str, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, hardswish: bool = False,
        shortcut: str | None = None, operand: bool = False, wide: bool = False,
    ) -> str:  # fmt: skip
        """``operand``: for attention, evenly about zero. ``wide``: s16. Returns the target's name."""
        tensor = self.tensors[source]
        limit = (1 << (self.weight_bits - 1)) - 1
        drawn = self.rng.normal(0, limit / 3, (outputs, tensor.channels // groups, kernel, kernel))
        weight = np.clip(np.round(drawn), -limit, limit).astype(np.int8)
        conv = Convolution(name=name, source=source, target=name, weight=weight, stride=stride, groups=groups, requantizer=_NOTHING)
        sums = interpreter.accumulators(self.codes[source], conv, tensor.zero)
        r = self._requantizer(sums, _WIDE_DEVIATION if wide else self._deviation(), hardswish=hardswish, shortcut=shortcut)
        conv = Convolution(**{**vars(conv), "requantizer": r})
        self._add(conv, sums.shape, self._format(hardswish, operand, wide))
        return name

    def attention(self, name: str, sources: tuple[str, ...], kind: str) -> str:
        head_dim = self.config.head_dim
        scales = tuple(self._scale(source, head_dim, kind) for source in sources)
        self._add(LinearAttention(name=name, target=name, head_dim=head_dim, scales=scales), self._attended(sources), self._format())
        return name

    def pool(self, name: str, source: str) -> str:
        sums = (self.codes[source] - self.tensors[source].zero).sum((1, 2), keepdims=True)
        r = self._requantizer(sums, self._deviation())
        self._add(Pool(name=name, source=source, target=name, requantizer=r), sums.shape, self._format())
        return name

    def norm(self, name: str, source: str) -> str:
        channels, fraction = self.tensors[source].channels, 5
        gamma = np.round(self.rng.uniform(0.5, 1.5, channels) * _ARGUMENT_DEVIATION / _UNIT * 2**fraction).astype(np.int64)
        beta = np.round(self.rng.normal(0, 0.3 / _UNIT, channels) * 2 ** (fraction + shared.NORMALIZED_FRACTION)).astype(np.int64)
        norm = LayerNorm(
            name=name, source=source, target=name, gamma=gamma, beta=beta, fraction=fraction, hardswish=self._gate(channels, _FRACTION)
        )
        self._add(norm, self.codes[source].shape, self._format(hardswish=True))
        return name

    # -- their constants ------------------------------------------------------------------------------------------------------------------

    def _deviation(self) -> float:
        return _DEVIATION * self._top() / 255 * _RESULT_ONE

    def _top(self) -> int:
        return (1 << self.bits) - 1

    def _format(self, hardswish: bool = False, operand: bool = False, wide: bool = False) -> tuple[int, Saturation]:
        """Zero point and limits."""
        if wide:
            return 0, integer.WIDE
        if hardswish:
            return round(self._top() * _GATED_LOW / (_GATED_LOW + _GATED_HIGH)), unsigned(self.bits)
        return 1 << (self.bits - 1), Saturation(low=1 if operand else 0, high=self._top())

    def _gated_ratio(self, fraction: int) -> float:
        """Of the second stage, at most."""
        return self._top() / (_GATED_LOW + _GATED_HIGH) * 3 / (1 << fraction) * _RESULT_ONE

    def _fraction(self, spread: float) -> int:
        """The most that lets a channel whose sums deviate by ``spread`` reach Hardswish's argument; else the least with a second stage."""
        possible = [k for k in range(integer.HARDSWISH_FRACTIONS[0], _FRACTION + 1) if self._gated_ratio(k) < _RATIO_LIMIT]
        fitting = [k for k in possible if _ARGUMENT_DEVIATION / 3 * (1 << k) < _RATIO_LIMIT * spread]
        return max(fitting, default=possible[0])

    def _gate(self, channels: int, fraction: int) -> Hardswish:
        ratios = self.rng.uniform(0.7, 1.0, channels) * self._gated_ratio(fraction)
        multiplier, shift = multipliers(ratios)
        most = round(2 / 255 * (_GATED_LOW + _GATED_HIGH) / 3 * (1 << fraction))  # two codes of 8 bits
        bias = self.rng.integers(-most, most + 1, channels)
        return Hardswish(fraction=fraction, bias=bias, multiplier=multiplier, shift=shift)

    def _requantizer(self, sums: np.ndarray, deviation: float, *, hardswish: bool = False, shortcut: str | None = None) -> Requantizer:
        """``deviation``: of what the first stage gives, where that is not Hardswish's argument."""
        flat = sums.reshape(-1, sums.shape[-1])
        mean, spread = flat.mean(0), np.maximum(flat.std(0), flat.std() / 4) + 1
        fraction = self._fraction(float(spread.min()))
        wanted = _ARGUMENT_DEVIATION / 3 * (1 << fraction) if hardswish else deviation
        multiplier, shift = multipliers(np.minimum(wanted / spread, _RATIO_LIMIT))
        bias = np.round(-mean + self.rng.normal(0, 0.3, len(mean)) * spread).astype(np.int64)
        added = None if shortcut is None else Shortcut(source=shortcut, multiplier=round(_SHORTCUT * _SHORTCUT_ONE))
        gate = self._gate(flat.shape[1], fraction) if hardswish else None
        return Requantizer(bias=bias, multiplier=multiplier, shift=shift, shortcut=added, hardswish=gate)

    def _scale(self, source: str, head_dim: int, kind: str) -> Scale:
        """S and the sum of K use their codes; the quotient deviates like every other result."""
        values = self.codes[source] - self.tensors[source].zero
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
        rule, output_multiplier, output_shift = division(kind, float(divisor), ratio)
        return Scale(
            source=source, state_multiplier=state_multiplier, state_shift=state_shift, sum_multiplier=sum_multiplier, sum_shift=sum_shift,
            divisor=rule, output_multiplier=output_multiplier, output_shift=output_shift,
        )  # fmt: skip

    def _attended(self, sources: tuple[str, ...]) -> tuple[int, ...]:
        shapes = [self.codes[source].shape for source in sources]
        return (*shapes[0][:3], sum(shape[3] // 3 for shape in shapes))

    def _add(self, operator: Operator, shape: tuple[int, ...], kind: tuple[int, Saturation]) -> None:
        _, height, width, channels = shape
        self.tensors[operator.target] = Tensor(height=height, width=width, channels=channels, zero=kind[0], limits=kind[1])
        self.operators.append(operator)
        self.codes[operator.target] = interpreter.execute(self.graph(), self.codes, operator)

    # -- blocks ---------------------------------------------------------------------------------------------------------------------------

    def separable(self, name: str, source: str, outputs: int, *, stride: int = 1, middle: int = 0, shortcut: bool = True) -> str:
        """MBConv; without ``middle`` the stem's DSConv."""
        x = self.convolution(f"{name}.inverted_conv", source, middle, hardswish=True) if middle else source
        channels = self.tensors[x].channels
        x = self.convolution(f"{name}.depth_conv", x, channels, kernel=3, stride=stride, groups=channels, hardswish=True)
        return self.convolution(f"{name}.point_conv", x, outputs, shortcut=source if shortcut else None)

    def multi_scale_attention(self, name: str, source: str, kind: str) -> str:
        width = self.tensors[source].channels
        qkv = self.convolution(f"{name}.qkv", source, 3 * width, operand=True)
        wide = self.convolution(f"{name}.aggreg.0.0", qkv, 3 * width, kernel=5, groups=3 * width)
        aggregated = self.convolution(f"{name}.aggreg.0.1", wide, 3 * width, groups=3 * width // self.config.head_dim, operand=True)
        x = self.attention(f"{name}.attention", (qkv, aggregated), kind)
        return self.convolution(f"{name}.proj", x, width, shortcut=source)


def random_graph(config: EfficientVitConfig, bits: int, seed: int, weight_bits: int = 8, divisor: str = "log2") -> EfficientVitGraph:
    """``divisor``: see `Divisor`."""
    b = _Builder(config, bits, weight_bits, np.random.default_rng(seed))
    b.image()
    x = b.convolution("stem.in_conv", IMAGE, config.widths[0], kernel=3, stride=2, hardswish=True)
    for index in range(config.depths[0]):
        x = b.separable(f"stem.res{index}.main", x, config.widths[0])
    for stage, (width, depth) in enumerate(zip(config.widths[1:], config.depths[1:], strict=True)):
        attention = config.has_attention(stage)
        for block in range(depth + attention):
            name, inputs = f"stages.{stage}.blocks.{block}", b.tensors[x].channels
            if block and attention:
                x = b.multi_scale_attention(f"{name}.context_module.main", x, divisor)
                name = f"{name}.local_module"
            middle, first = config.expand_ratio * inputs, block == 0
            x = b.separable(f"{name}.main", x, width, stride=2 if first else 1, middle=middle, shortcut=not first)
    x = b.pool("head.global_pool", b.convolution("head.in_conv", x, config.head_widths[0], hardswish=True))
    x = b.norm("head.classifier.1", b.convolution("head.classifier.0", x, config.head_widths[1], wide=True))
    b.convolution(LOGITS, x, config.classes, wide=True)
    return check_graph(b.graph())
