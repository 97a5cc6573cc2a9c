"""The expansion ring: which words of a depthwise layer's input it holds at a time, and where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.efficientvit.graph import Convolution, Tensor
from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.efficientvit.program.memories import BankCells, Regions
from rtl.efficientvit.program.tasks import Task
from rtl.errors import InputError

RING_BANKS = 8
#: What a STEP is told where the ring does not wrap.
ENDLESS = 31
#: Lines of a ring that wraps: a multiple of its banks, below ENDLESS.
MOST_LINES = 24


@dataclass(frozen=True)
class Band:
    """Words ``first``.. of a tensor that a depthwise layer takes at a time, and where the expansion ring holds them: ``lines`` lines of
    ``pitch`` pixels from address ``base`` on; ``wraps``: they are fewer than the tensor's."""

    first: int
    words: int
    base: int
    lines: int
    pitch: int
    wraps: bool

    @property
    def tile(self) -> tuple[int, int]:
        return self.first, self.words

    def place(self, x: int, y: int) -> tuple[int, int]:
        """(bank, address) of word ``first`` of a pixel."""
        flat = y % self.lines * self.pitch + x
        return flat % RING_BANKS, self.base + flat // RING_BANKS * self.words

    @property
    def ring_words(self) -> int:
        return self.lines * self.pitch // RING_BANKS * self.words if self.wraps else 0

    def step_fields(self, tensor: Tensor, pixel: int, word: int) -> dict[str, int]:
        """What a STEP says of the ring whose results are words ``word``.. from a pixel on."""
        y, x = divmod(pixel, tensor.width)
        bank, address = self.place(x, y)
        return {
            "ring": 1, "bank": bank, "address": address + word - self.first, "column": x, "width": tensor.width, "pitch": self.words,
            "lines_left": self.lines - y % self.lines if self.wraps else ENDLESS, "ring_words": self.ring_words,
        }  # fmt: skip


class Ring:
    """``depth``: words of a bank."""

    def __init__(self, depth: int):
        self.depth = depth
        self._cells, self._regions = BankCells(RING_BANKS * depth), Regions("ring_depth", depth)

    def band(self, tensor: Tensor, depthwise: Convolution, first: int, words: int) -> Band:
        """A place for words of a depthwise layer's input: as many lines as fit, at least those that a line pair needs, and one.

        Raises
        ------
        InputError : they do not fit
        """
        pitch = tensor.width | 1
        fits = [lines for lines in range(1, tensor.height + 1) if _bank_words(lines, pitch, words) <= self.depth]
        lines = fits[-1] if fits else 0
        wraps = lines < tensor.height
        if wraps:
            lines = min(lines - lines % RING_BANKS, MOST_LINES)
        if lines < min(tensor.height, depthwise.kernel + depthwise.stride + 1):
            raise InputError(
                f"lines of {tensor.width} pixels and {WORD_CHANNELS * words} channels must fit a ring of {self.depth} "
                "words a bank: they do not; use a deeper ring"
            )
        return Band(first, words, self._regions.base(_bank_words(lines, pitch, words)), lines, pitch, wraps)

    def write(self, task: Task, band: Band, tensor: Tensor, pixels: range, tile: tuple[int, int]) -> None:
        """``task`` writes some words of some pixels."""
        self._cells.write(_places(self.depth, band, tensor.width, pixels, tile), task)

    def read(self, task: Task, band: Band, tensor: Tensor, line: int) -> None:
        """``task`` reads a line."""
        pixels = range(line * tensor.width, (line + 1) * tensor.width)
        self._cells.read(_places(self.depth, band, tensor.width, pixels, band.tile), task)


@lru_cache(maxsize=4096)
def _places(depth: int, band: Band, width: int, pixels: range, tile: tuple[int, int]) -> np.ndarray:
    """Some words of some pixels of a tensor of this width. Lines are read by several line pairs."""
    y, x = np.divmod(np.arange(pixels.start, pixels.stop), width)
    flat = y % band.lines * band.pitch + x
    addresses = band.base + flat // RING_BANKS * band.words
    words = np.arange(tile[0], tile[0] + tile[1]) - band.first
    return ((flat % RING_BANKS * depth + addresses)[:, None] + words).ravel()


def _bank_words(lines: int, pitch: int, words: int) -> int:
    """Of every bank."""
    return -(-lines * pitch // RING_BANKS) * words
