"""Weights and parameters of depthwise layers as the beats that the engine's `load` buses take. numpy only."""

from __future__ import annotations

import numpy as np

from model import integer
from model.efficientvit.graph import Requantizer
from rtl.efficientvit.depth_command import WORD_BEATS
from rtl.errors import InputError
from rtl.units.depthwise_parameters import CHANNEL_PARAMETERS
from rtl.units.depthwise_window import STEPS, TAPS, tap_place

BEAT_BYTES = 16
_CHANNELS = 16
#: Of a word of weights.
WORD_BYTES = WORD_BEATS * BEAT_BYTES


def weight_words(channels: int, kernel: int) -> int:
    """Words of a layer's weights.

    Raises
    ------
    InputError : the engine has no such layer
    """
    if channels % _CHANNELS or kernel not in (3, 5):
        raise InputError(f"a depthwise layer must have a multiple of 16 channels and kernel 3 or 5: {channels}, {kernel} has not; pad it")
    return channels // _CHANNELS * (STEPS if kernel == 5 else 1)


def pack_weights(weight: np.ndarray) -> bytes:
    """Weight words of one layer, from word ``DEPTH_LAYER.weights`` on: beat address = 16 * that.

    weight : (channels, 1, kernel, kernel) int8 in [-127, 127], channels a multiple of 16, kernel 3 or 5
    Word ``sweep * steps + step`` (sweep: 16 channels; steps: 1, or 3 of kernel 5) is 16 beats: beat t, t < 9, has byte c = the weight of
    channel c in slot t, see `rtl.units.depthwise_window.tap_place`; the other beats are 0.
    2,048 channels of kernel 3: 128 words, 32 KiB. 1,536 of kernel 5: 288 words, 72 KiB. The memory holds 512.
    """
    channels, kernel = weight.shape[0], weight.shape[-1]
    steps = weight_words(channels, kernel) // (channels // _CHANNELS)
    words = np.zeros((channels // _CHANNELS, steps, WORD_BEATS, _CHANNELS), dtype=np.int8)
    sweeps = weight.reshape(-1, _CHANNELS, kernel, kernel)
    for step in range(steps):
        for tap in range(TAPS):
            place = tap_place(kernel, step, tap)
            if place is not None:
                column, line = place[0] - (kernel == 3), place[1]
                words[:, step, tap] = sweeps[:, :, line, column]
    return words.tobytes()


def pack_parameters(requantizer: Requantizer, weight: np.ndarray, zero: int, bits: int = 8) -> bytes:
    """Parameters of one layer, a beat per channel, from word ``DEPTH_LAYER.parameters`` on: beat address = 4 * that.

    zero : of the source. The engine adds weight * (u - 2 ** (bits - 1)) where the graph adds weight * (u - zero): the difference times the
        sum of a channel's weights goes into its bias
    2,048 channels: 512 words of four, 32 KiB, which is what the memory holds.
    """
    folded = requantizer.bias + ((1 << bits - 1) - zero) * weight.astype(np.int64).reshape(len(weight), -1).sum(-1)
    if np.abs(folded).max(initial=0) >= 1 << integer.BIAS_BITS - 1:
        raise InputError(f"biases must fit {integer.BIAS_BITS} bits: {folded[np.abs(folded).argmax()]} does not; quantize again")
    fields = {"bias": folded, "multiplier": requantizer.multiplier, "shift": _shift_codes(requantizer.shift)}
    if requantizer.hardswish is not None:
        stage = requantizer.hardswish
        fields |= {"second_bias": stage.bias, "second_multiplier": stage.multiplier, "second_shift": _shift_codes(stage.shift)}
    beats = [0] * len(weight)
    for name, values in fields.items():
        field = CHANNEL_PARAMETERS[name]
        for channel, value in enumerate(values):
            beats[channel] |= (int(value) & (1 << field.width) - 1) << field.offset
    return b"".join(beat.to_bytes(BEAT_BYTES, "little") for beat in beats)


def _shift_codes(shifts: np.ndarray) -> list[int]:
    return [integer.REQUANTIZE_SHIFTS.index(int(shift)) for shift in shifts]
