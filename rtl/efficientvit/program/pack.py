"""Weights and parameters as the machine's memories want them."""

from __future__ import annotations

import numpy as np

from model.efficientvit.graph import Convolution, Requantizer, Scale, Tensor
from model.integer import REQUANTIZE_SHIFTS
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS
from rtl.efficientvit.program.layout import EMPTY
from rtl.efficientvit.row_bus import Parameter

BEAT_BYTES = 16
SLICES = 4
WORD_BYTES = SLICES * BEAT_BYTES
#: Parameters of a pair of channels.
PAIR_BYTES = 2 * BEAT_BYTES


def pack_step_weights(matrix: np.ndarray, *, grouped: bool) -> bytes:
    """Weight words of a step, slice by slice: the four slices of all words, one after the other.

    matrix : (outputs, inputs) int8 in [-127, 127], both whole words. Pairs (c, c + 16) of each output word in order; the words of the input
        forth for even c and back for odd ones, as the rows read them. ``grouped``: output word j has input word j alone
    """
    outputs, inputs = (size // WORD_CHANNELS for size in matrix.shape)
    blocks = matrix.reshape(outputs, 2, PAIRS, inputs, WORD_CHANNELS).transpose(0, 2, 3, 1, 4)  # output word, pair, input word, lane, input
    if grouped:
        assert outputs == inputs
        words = np.stack([blocks[word, :, word] for word in range(outputs)])
        assert np.count_nonzero(words) == np.count_nonzero(matrix), "a group straddles words"
    else:
        words = blocks.copy()
        words[:, 1::2] = blocks[:, 1::2, ::-1]
    flat = words.reshape(-1, SLICES, BEAT_BYTES).astype(np.int8)
    return flat.transpose(1, 0, 2).tobytes()


def weight_words(matrix: np.ndarray, *, grouped: bool) -> int:
    outputs, inputs = (size // WORD_CHANNELS for size in matrix.shape)
    return outputs * PAIRS * (1 if grouped else inputs)


def pack_parameters(fields: dict[str, np.ndarray]) -> bytes:
    """Two beats per pair (c, c + 16) of each word: of c, then of c + 16. ``fields``: per place, those of `Parameter`."""
    places = len(fields["bias"])
    values = [0] * places
    for name in Parameter.members:
        offset, width = Parameter[name].offset, Parameter[name].width
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if "bias" in name else (0, (1 << width) - 1)
        column = np.asarray(fields[name], dtype=np.int64)
        assert len(column) == places and low <= column.min() and column.max() <= high, name
        values = [value | (int(part) & ((1 << width) - 1)) << offset for value, part in zip(values, column, strict=True)]
    in_pairs = np.arange(places).reshape(-1, 2, PAIRS).transpose(0, 2, 1).ravel()
    return b"".join(values[place].to_bytes(BEAT_BYTES, "little") for place in in_pairs)


def _at(values: np.ndarray | int, order: np.ndarray) -> np.ndarray:
    """Values per channel at their places, 0 where empty."""
    values = np.asarray(values, dtype=np.int64)
    return np.where(order == EMPTY, 0, values[np.maximum(order, 0)])


def shift_codes(shifts: np.ndarray) -> np.ndarray:
    return np.searchsorted(REQUANTIZE_SHIFTS, np.asarray(shifts, dtype=np.int64))


def step_parameters(convolution: Convolution, source: Tensor, matrix: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
    """Per place of the target. The zero point of the source, which the rows do not subtract, is folded into the bias."""
    requantizer: Requantizer = convolution.requantizer
    if convolution.kernel > 1:
        per_channel = convolution.weight.astype(np.int64).sum((2, 3))
        folded = _at((per_channel * np.reshape(source.zero, (1, -1))).sum(1), order)
    else:
        folded = matrix.astype(np.int64).sum(1) * int(np.asarray(source.zero))
    none = np.zeros(convolution.outputs, dtype=np.int64)
    hardswish, shortcut = requantizer.hardswish, requantizer.shortcut
    second = (none, none, none) if hardswish is None else (hardswish.bias, hardswish.multiplier, shift_codes(hardswish.shift))
    if shortcut is not None:
        second = (none, none + shortcut.multiplier, none)
    return {
        "bias": _at(requantizer.bias, order) - folded,
        "multiplier": _at(requantizer.multiplier, order),
        "shift": _at(shift_codes(requantizer.shift), order),
        "second_bias": _at(second[0], order),
        "second_multiplier": _at(second[1], order),
        "second_shift": _at(second[2], order),
    }


def score_parameters(scale: Scale) -> dict[str, np.ndarray]:
    """One word's, of which a score uses the first pair for all its results."""
    ones = np.ones(WORD_CHANNELS, dtype=np.int64)
    return {
        "bias": 0 * ones,
        "multiplier": ones * scale.output_multiplier,
        "shift": ones * int(shift_codes(np.asarray([scale.output_shift]))[0]),
        "second_bias": 0 * ones,
        "second_multiplier": 0 * ones,
        "second_shift": 0 * ones,
    }
