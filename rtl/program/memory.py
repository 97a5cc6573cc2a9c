"""Bytes of the WEIGHTS window: how weights, parameters, norms, tables and positions are laid out in DDR (see ``isa.LoadTarget``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from model.graph import Linear, Norm
from model.integer import BIAS_BITS, MULTIPLIER_BITS, REQUANTIZE_SHIFTS
from rtl.config import AcceleratorConfig
from rtl.program.isa import weight_item_bits

#: Every blob, and every slice of the weights, starts on this boundary (bytes), so that the first beat of a transfer is never partial.
ALIGNMENT = 256
#: Bytes of one transfer on the memory bus.
BEAT_BYTES = 16
#: Rows that share a group of the load bus.
GROUP_ROWS = 16


class Window(Protocol):
    """Where blobs get their place."""

    def add(self, size: int, pack: Callable[[], bytes]) -> int:
        """Offset (bytes) of the blob of ``size`` bytes that ``pack`` makes."""
        ...


class WindowBuilder:
    """Collects blobs at aligned offsets. Equal blobs are stored once."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._offsets: dict[bytes, int] = {}

    def add(self, size: int, pack: Callable[[], bytes]) -> int:
        blob = pack()
        assert len(blob) == size, (len(blob), size)
        if blob not in self._offsets:
            self._offsets[blob] = len(self._data)
            self._data += blob + bytes(-size % ALIGNMENT)
        return self._offsets[blob]

    def image(self) -> bytes:
        return bytes(self._data)


class Outline:
    """A window of sizes alone, for plans: nothing is packed, every blob gets a place of its own."""

    def __init__(self) -> None:
        self._end = 0

    def add(self, size: int, pack: Callable[[], bytes]) -> int:
        offset, self._end = self._end, self._end + aligned(size)
        return offset


def aligned(size: int, boundary: int = ALIGNMENT) -> int:
    """``size`` rounded up to a multiple of ``boundary``."""
    return -(-size // boundary) * boundary


#: Bytes of an output channel's requantizer parameters, of a channel's gamma and beta, and of a table.
PARAMETER_BYTES, NORM_BYTES, TABLE_BYTES = 8, 4, 256


def weight_stride(linear: Linear, config: AcceleratorConfig) -> int:
    """Bytes from one slice of the weights to the next."""
    return aligned(linear.outputs * linear.planes * weight_item_bits(config.slice_inputs) // 8)


def position_beats(channels: int, config: AcceleratorConfig) -> int:
    """Beats of the position table of some channels: two per group of rows."""
    return channels * config.passes * -(-config.rows // GROUP_ROWS) * 2


def pack_weights(linear: Linear, config: AcceleratorConfig) -> bytes:
    """The weight words, cut into one slice per weight port, each `weight_stride` bytes behind the one before.

    Words are (outputs, planes), most significant plane first; bit i of a word is input i, and 0 from ``linear.inputs`` on. Slice s holds
    the bits from s * slice_inputs on of every word, ``weight_item_bits(slice_inputs)`` bits each.
    """
    ports, size = config.weight_ports, config.slice_inputs
    words = np.zeros((linear.outputs, linear.planes, config.inputs), dtype=np.uint8)
    for word, plane in enumerate(reversed(range(linear.planes))):
        words[:, word, : linear.inputs] = (linear.codes >> plane) & 1
    items = np.zeros((ports, linear.outputs * linear.planes, weight_item_bits(size)), dtype=np.uint8)
    items[:, :, :size] = words.reshape(-1, ports, size).swapaxes(0, 1)
    packed = np.packbits(items, axis=-1, bitorder="little").reshape(ports, -1)
    return np.pad(packed, ((0, 0), (0, weight_stride(linear, config) - packed.shape[1]))).tobytes()


def pack_parameters(linear: Linear) -> bytes:
    """Requantizer parameters, 8 bytes per output."""
    codes = np.searchsorted(REQUANTIZE_SHIFTS, linear.shift).astype(np.int64)
    bias = linear.bias.astype(np.int64) & ((1 << BIAS_BITS) - 1)
    items = linear.multiplier.astype(np.int64) | codes << MULTIPLIER_BITS | bias << (MULTIPLIER_BITS + 2)
    return items.astype("<u8").tobytes()


def pack_norm(norm: Norm) -> bytes:
    """Gamma and beta interleaved, 4 bytes per channel."""
    return np.stack([norm.gamma, norm.beta], axis=-1).astype("<i2").tobytes()


def pack_table(table: np.ndarray) -> bytes:
    return np.asarray(table, dtype=np.uint8).tobytes()


def pack_positions(positions: np.ndarray, config: AcceleratorConfig) -> bytes:
    """(tokens, channels) s16 as beats of 8 rows: channel, pass, group of 16 rows, parity (see ``LoadTarget.POSITION``).

    The odd beat is rotated up by one byte, so that a row finds its two bytes in lanes ``row % 16`` and the next.
    """
    tokens, channels = positions.shape
    groups = -(-config.rows // GROUP_ROWS)
    slots = np.zeros((config.passes * config.rows, channels), dtype="<i2")
    slots[:tokens] = positions
    rows = np.zeros((config.passes, groups * GROUP_ROWS, channels), dtype="<i2")
    rows[:, : config.rows] = slots.reshape(config.passes, config.rows, channels)
    # (pass, group, row pair, parity, channel) -> (channel, pass, group, parity, row pair)
    beats = rows.reshape(config.passes, groups, GROUP_ROWS // 2, 2, channels).transpose(4, 0, 1, 3, 2)
    data = np.ascontiguousarray(beats).view(np.uint8).reshape(channels, config.passes, groups, 2, BEAT_BYTES)
    data[..., 1, :] = np.roll(data[..., 1, :], 1, axis=-1)
    return data.tobytes()
