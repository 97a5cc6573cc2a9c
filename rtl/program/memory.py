"""Bytes of the WEIGHTS window: how weights, parameters, norms, tables and positions are laid out in DDR (see ``isa.LoadTarget``)."""

from __future__ import annotations

import numpy as np

from model.graph import Linear, Norm
from model.integer import BIAS_BITS, MULTIPLIER_BITS, REQUANTIZE_SHIFTS
from rtl.program.isa import weight_item_bits

#: Every blob starts on this boundary (bytes), so that the first beat of a LOAD is never partial.
ALIGNMENT = 256


class WindowBuilder:
    """Collects blobs at aligned offsets. Equal blobs are stored once."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._offsets: dict[bytes, int] = {}

    def add(self, blob: bytes) -> int:
        """Offset (bytes) of ``blob`` in the window."""
        if blob not in self._offsets:
            self._offsets[blob] = len(self._data)
            self._data += blob + bytes(-len(blob) % ALIGNMENT)
        return self._offsets[blob]

    def image(self) -> bytes:
        return bytes(self._data)


def pack_weights(linear: Linear, inputs: int) -> bytes:
    """Weight words: (outputs, planes) words, most significant plane first, each ``weight_item_bits(inputs)`` bits; bit i is input i.

    Bits at and beyond ``linear.inputs`` are 0.
    """
    bits = np.zeros((linear.outputs, linear.planes, weight_item_bits(inputs)), dtype=np.uint8)
    for word, plane in enumerate(reversed(range(linear.planes))):
        bits[:, word, : linear.inputs] = (linear.codes >> plane) & 1
    return np.packbits(bits, axis=-1, bitorder="little").tobytes()


def pack_parameters(linear: Linear) -> bytes:
    """Requantizer parameters, 8 bytes per weight word: all planes of one output carry the same item."""
    codes = np.searchsorted(REQUANTIZE_SHIFTS, linear.shift).astype(np.int64)
    bias = linear.bias.astype(np.int64) & ((1 << BIAS_BITS) - 1)
    items = linear.multiplier.astype(np.int64) | codes << MULTIPLIER_BITS | bias << (MULTIPLIER_BITS + 2)
    return np.repeat(items, linear.planes).astype("<u8").tobytes()


def pack_norm(norm: Norm) -> bytes:
    """Gamma and beta interleaved, 4 bytes per channel."""
    return np.stack([norm.gamma, norm.beta], axis=-1).astype("<i2").tobytes()


def pack_table(table: np.ndarray) -> bytes:
    return np.asarray(table, dtype=np.uint8).tobytes()


def pack_positions(positions: np.ndarray) -> bytes:
    """(tokens, embed_dim) s16, token-major."""
    return np.asarray(positions).astype("<i2").tobytes()
