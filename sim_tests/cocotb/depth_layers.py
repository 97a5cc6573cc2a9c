"""Depthwise layers at random, what the reference makes of them, and the engine's commands for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model import integer as shared
from model.efficientvit import integer
from model.efficientvit.graph import Convolution, Hardswish, Requantizer
from model.efficientvit.interpreter import accumulators
from model.integer import Saturation
from rtl.efficientvit.depth_command import LAYER_LAYOUT, LINES_LAYOUT, encode
from rtl.efficientvit.expansion_ring import WORD_CHANNELS, place


@dataclass(frozen=True, kw_only=True)
class Case:
    """``lines`` : held by the ring; 0: all. ``weights``, ``parameters`` : the layer's first words."""

    kernel: int
    stride: int
    width: int
    height: int
    channels: int
    hardswish: bool = False
    lines: int = 0
    weights: int = 0
    parameters: int = 0

    @property
    def words(self) -> int:
        return -(-self.channels // WORD_CHANNELS)

    @property
    def ring_lines(self) -> int:
        return self.lines or self.height

    @property
    def out_size(self) -> tuple[int, int]:
        return -(-self.height // self.stride), -(-self.width // self.stride)

    def input_lines(self, y: int) -> list[int | None]:
        """Of the output lines y and y + 1; None: outside, or not needed."""
        first = self.stride * y - self.kernel // 2
        lines = [first + line if line < self.kernel + self.stride else None for line in range(7)]
        return [line if line is not None and 0 <= line < self.height else None for line in lines]


def requantizer(rng: np.random.Generator, sums: np.ndarray, bits: int, hardswish: bool) -> Requantizer:
    """Multipliers that give every channel some of its codes, saturated ones among them."""
    channels = sums.shape[-1]
    spread = np.maximum(np.abs(sums).max((0, 1, 2)), 1) * rng.uniform(0.4, 1.5, channels)
    ratios = (1 << 13 if hardswish else 1 << bits + 5) / spread
    pairs = np.array([shared.choose_multiplier(min(float(ratio), 15.9)) for ratio in ratios])
    bias = np.rint(rng.normal(0, 0.1, channels) * spread).astype(np.int64)
    stage = None
    if hardswish:
        gains = np.array([shared.choose_multiplier(float(gain)) for gain in rng.uniform(0.5, 2, channels) * 2.0 ** (bits - 7)])
        stage = Hardswish(fraction=11, bias=rng.integers(-500, 500, channels), multiplier=gains[:, 0], shift=gains[:, 1])
    return Requantizer(bias=bias, multiplier=pairs[:, 0], shift=pairs[:, 1], hardswish=stage)


class Layer:
    """A case with data. ``codes`` : (height, width, channels); ``results`` : of the output; ``sums`` : before requantization."""

    def __init__(self, case: Case, bits: int, rows: int, rng: np.random.Generator) -> None:
        self.case, self.bits, self.rows = case, bits, rows
        top = (1 << bits) - 1
        self.codes = rng.choice((0, top, *rng.integers(0, top + 1, 6)), (case.height, case.width, case.channels))
        self.weight = rng.integers(-127, 128, (case.channels, 1, case.kernel, case.kernel)).astype(np.int8)
        self.weight[: case.channels // 4] = rng.choice((-127, 127), self.weight[: case.channels // 4].shape)
        self.pad, self.zero, self.low = (int(value) for value in rng.integers(0, (top + 1, top + 1, 2)))
        bare = Convolution(
            name="", source="", target="", weight=self.weight, stride=case.stride, groups=case.channels, requantizer=Requantizer(**_NONE)
        )
        self.sums = accumulators(self.codes[None].astype(np.int64), bare, self.pad)
        self.requantizer = requantizer(rng, self.sums, bits, case.hardswish)
        limits = Saturation(low=self.low, high=top)
        self.results = integer.requantize_code(self.sums, self.requantizer, self.zero, limits)[0]
        self.target = int(rng.integers(0, 100))  # address of the first word
        self.pitch = case.words + int(rng.integers(0, 3))
        self.passes = int(rng.integers(2, 9))  # that are kept
        self.base = int(rng.integers(0, 8))

    def layer_command(self) -> int:
        case = self.case
        values = dict(
            kernel_5=case.kernel == 5, stride_2=case.stride == 2, width=case.width, words=case.words, half=case.channels == 16,
            pad=self.pad, zero=self.zero, low=self.low, hardswish=case.hardswish, fraction=11 - 6, pitch=self.pitch,
            region_end=self._address(self.passes - 1), rewind=(self._address(0) - self._address(self.passes - 1)) % 1024,
            weights=case.weights, parameters=case.parameters,
        )  # fmt: skip
        return 1 | encode(LAYER_LAYOUT, values) << 1

    def pair_commands(self) -> list[int]:
        return [self._pair(y) for y in range(0, self.case.out_size[0], 2)]

    def _pair(self, y: int) -> int:
        case, values = self.case, {}
        lines = case.input_lines(y)
        for index, line in enumerate(lines):
            at = (0, 0) if line is None else self.place(0, line, 0)
            values |= {f"bank_{index}": at[0], f"address_{index}": at[1]}
        values["outside"] = sum(1 << index for index, line in enumerate(lines) if line is None)
        values["second"] = int(y + 1 < case.out_size[0])
        for lane in range(2):
            pixel = (y + lane) * case.out_size[1]
            values |= {f"row_{lane}": pixel % self.rows, f"target_{lane}": self._address(pixel // self.rows)}
        return encode(LINES_LAYOUT, values) << 1

    def _address(self, index: int) -> int:
        """Of the first word of a pass of the target."""
        return self.target + index % self.passes * self.pitch

    def place(self, x: int, y: int, word: int) -> tuple[int, int]:
        case = self.case
        return place(x, y, word, width=case.width, words=case.words, lines=case.ring_lines, base=self.base)

    def expected(self, lane: int) -> list[tuple[int, int, int, tuple[int, ...]]]:
        """(row, address, half, codes) in order of their coming."""
        found = []
        for y in range(lane, self.case.out_size[0] + 1, 2):
            for sweep in range(self.case.channels // 16 if y < self.case.out_size[0] else 0):
                for x in range(self.case.out_size[1]):
                    index, row = divmod(y * self.case.out_size[1] + x, self.rows)
                    codes = self.results[y, x, 16 * sweep : 16 * sweep + 16]
                    found.append((row, self._address(index) + sweep // 2, sweep % 2, tuple(map(int, codes))))
        return found


_NONE = dict(bias=np.zeros(0), multiplier=np.zeros(0), shift=np.zeros(0))
