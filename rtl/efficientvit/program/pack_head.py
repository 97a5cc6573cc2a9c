"""Weights, parameters and constants of the classification head, as the head engine takes them. numpy only.

Weight words of 64 bytes; beats of 16 bytes, little endian; layouts in `rtl.efficientvit.head_command`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model import integer
from model.efficientvit.graph import LayerNorm, Requantizer
from model.efficientvit.integer import HARDSWISH_FRACTIONS
from rtl.efficientvit.head_command import (
    CHANNEL_PARAMETERS,
    CHANNELS,
    NORM_PARAMETERS,
    PAIR_PARAMETERS,
    WORD_CHANNELS,
    code_offset,
)
from rtl.errors import InputError

BEAT_BYTES = 16
_LEAST_CHANNELS = 32


def linear_size(outputs: int, inputs: int) -> tuple[int, int]:
    """Pairs of outputs and words of the input of a fully connected layer.

    Raises
    ------
    InputError : too many inputs
    """
    if inputs > CHANNELS:
        raise InputError(f"a fully connected layer must have at most {CHANNELS} inputs: {inputs} is more; use a narrower network")
    return -(-outputs // 2), -(-inputs // WORD_CHANNELS)


def pack_weights(weight: np.ndarray) -> np.ndarray:
    """Weight words of a fully connected layer, (pairs * words, 64) int8: word i * words + w has the weights of output 2i for inputs
    32 w .. 32 w + 31, then those of output 2i + 1. Slice s of a word is its bytes 16 s .. 16 s + 15. Missing outputs and inputs weigh 0.

    weight : (outputs, inputs) int8 in [-127, 127]
    """
    outputs, inputs = weight.shape
    if np.abs(weight.astype(np.int64)).max(initial=0) > integer.SIGNED8.high:
        raise InputError("weights must be -127..127: -128 is not; quantize again")
    count, words = linear_size(outputs, inputs)
    padded = np.zeros((2 * count, words * WORD_CHANNELS), dtype=np.int8)
    padded[:outputs, :inputs] = weight
    pairs = padded.reshape(len(padded) // 2, 2, -1, WORD_CHANNELS)
    return pairs.transpose(0, 2, 1, 3).reshape(-1, 2 * WORD_CHANNELS)


def pack_linear(requantizer: Requantizer, weight: np.ndarray, zero: int, bits: int = 8) -> bytes:
    """Parameters of a fully connected layer, a beat per pair of outputs.

    zero : of the source. The engine adds weight * (u - code_offset(bits)) where the graph adds weight * (u - zero): the difference, times
        the sum of an output's weights, goes into its bias
    """
    folded = requantizer.bias + (code_offset(bits) - zero) * weight.astype(np.int64).sum(-1)
    beats = _channel_beats(folded, requantizer)
    beats += [0] * (len(beats) % 2)
    width = PAIR_PARAMETERS[1].offset
    return _to_bytes([low | high << width for low, high in zip(beats[::2], beats[1::2], strict=True)])


def pack_pool(requantizer: Requantizer, pixels: int, zero: int) -> bytes:
    """Parameters of the pool, a beat per channel. zero : of the source; the engine sums codes, and pixels * zero goes into the bias."""
    return _to_bytes(_channel_beats(requantizer.bias - pixels * zero, requantizer))


def pack_norm(norm: LayerNorm) -> bytes:
    """Parameters of LayerNorm and Hardswish, a beat per channel. The half that is rounded with goes into beta."""
    stage = norm.hardswish
    half = 1 << norm.fraction + integer.NORMALIZED_FRACTION - 1
    fields = {"gamma": norm.gamma, "beta": np.asarray(norm.beta, dtype=np.int64) + half, "second_bias": stage.bias}
    fields |= {"second_multiplier": stage.multiplier, "second_shift": _shift_codes(stage.shift)}
    return _to_bytes(_beats(NORM_PARAMETERS, fields))


def norm_fields(norm: LayerNorm) -> dict[str, int]:
    """Fields of a NORM command that follow from the operator."""
    channels = len(norm.gamma)
    if not _LEAST_CHANNELS <= channels <= CHANNELS:
        raise InputError(f"a LayerNorm must have {_LEAST_CHANNELS}..{CHANNELS} channels: {channels} is not; use another network")
    constants = integer.LayerNormConstants.of(channels)
    return {
        "channels": channels,
        "inverse": constants.inverse,
        "inverse_shift": constants.inverse_shift,
        "dividend": constants.dividend,
        "fraction": norm.fraction,
        "hardswish_fraction": norm.hardswish.fraction - HARDSWISH_FRACTIONS[0],
    }


def _channel_beats(bias: np.ndarray, requantizer: Requantizer) -> list[int]:
    if np.abs(bias).max(initial=0) >= 1 << integer.BIAS_BITS - 1:
        raise InputError(f"biases must fit {integer.BIAS_BITS} bits: {bias[np.abs(bias).argmax()]} does not; quantize again")
    return _beats(CHANNEL_PARAMETERS, {"bias": bias, "multiplier": requantizer.multiplier, "shift": _shift_codes(requantizer.shift)})


def _beats(layout: Any, fields: dict[str, Any]) -> list[int]:
    """Per channel, the bits of its fields."""
    beats = [0] * len(next(iter(fields.values())))
    for name, values in fields.items():
        field = layout[name]
        for channel, value in enumerate(values):
            beats[channel] |= (int(value) & (1 << field.width) - 1) << field.offset
    return beats


def _to_bytes(beats: list[int]) -> bytes:
    return b"".join(beat.to_bytes(BEAT_BYTES, "little") for beat in beats)


def _shift_codes(shifts: np.ndarray) -> list[int]:
    return [integer.REQUANTIZE_SHIFTS.index(int(shift)) for shift in shifts]
