"""What the head engine is told, and what its memories hold. The fields of a command are those of the instruction, in order."""

from __future__ import annotations

import enum

from amaranth.hdl import signed
from amaranth.lib import data

from model import integer

WORD_CHANNELS = 32
#: Words of a vector, channels of the largest layer.
VECTOR_WORDS = 128
CHANNELS = WORD_CHANNELS * VECTOR_WORDS
CHANNEL_BITS, WORD_ADDRESS_BITS = 12, 7
PAIR_BITS = CHANNEL_BITS - 1
#: Words of 64 bytes in the weight buffer, beats of 16 bytes in the parameter memory: addresses of 10 bits.
WEIGHT_BITS = PARAMETER_BITS = 10
VALUE_BITS = integer.RESIDUAL_BITS
#: 2 / channels and sqrt(channels) * 2**29, of up to 4,096 channels; see `model.integer.LayerNormConstants`.
INVERSE_BITS, INVERSE_SHIFT_BITS, DIVIDEND_BITS = 17, 5, 36
PAYLOAD_BITS = 176


class HeadKind(enum.IntEnum):
    LINEAR = 0  #: some output pairs of a fully connected layer: a vector -> values, or logits
    POOL = 1  #: some words of the pool's sums -> codes, POOL's vector
    NORM = 2  #: LayerNorm and Hardswish of some words of the values -> codes, NORM's vector


FULLY_CONNECTED = (
    ("kind", 2),
    ("words", 8),  # 1..128; LINEAR: of the input. POOL, NORM: of the codes that are made
    ("first", PAIR_BITS),  # LINEAR: first pair (2i, 2i + 1) of outputs. POOL, NORM: first word
    ("parameters", PARAMETER_BITS),  # first beat: a pair each for LINEAR, else a channel
    # LINEAR
    ("norm_vector", 1),  # the input is NORM's vector, else POOL's
    ("logits", 1),  # the target is the logits of slot ``image``, else the values
    ("image", 1),
    ("pairs", PAIR_BITS),  # 1..2047
    ("weights", WEIGHT_BITS),  # first word; word 0 follows the buffer's last one
    # POOL, NORM
    ("zero", 8),  # the target's zero point
    ("low", 1),  # its lower limit
    # NORM
    ("statistics", 1),  # are taken anew, of the first ``channels`` values; else those of the command before hold
    ("channels", CHANNEL_BITS + 1),  # 32..4096
    ("inverse", INVERSE_BITS),
    ("inverse_shift", INVERSE_SHIFT_BITS),
    ("dividend", DIVIDEND_BITS),
    ("fraction", 4),  # fraction bits of gamma
    ("hardswish_fraction", 3),  # less 6
)
HEAD_COMMAND = data.StructLayout(dict(FULLY_CONNECTED))
assert HEAD_COMMAND.size <= PAYLOAD_BITS

#: Requantizer of a channel: of POOL, and of each output of a LINEAR.
CHANNEL_PARAMETERS = data.StructLayout({"bias": signed(integer.BIAS_BITS), "multiplier": integer.MULTIPLIER_BITS, "shift": 2})
PAIR_PARAMETERS = data.ArrayLayout(CHANNEL_PARAMETERS, 2)
#: ``beta`` contains the half of rounding: one bit more than the graph's.
BETA_BITS = 33
NORM_PARAMETERS = data.StructLayout(
    {
        "second_bias": signed(16),
        "second_multiplier": integer.MULTIPLIER_BITS,
        "second_shift": 2,
        "gamma": signed(16),
        "beta": signed(BETA_BITS),
    }
)
PARAMETER_WIDTH = max(PAIR_PARAMETERS.size, NORM_PARAMETERS.size)


def code_offset(bits: int) -> int:
    """A LINEAR adds weight * (code - offset), a signed byte at most: then 27 bits hold the sum of 4,096 products."""
    return 1 << (bits - 1)


def encode(**fields: int) -> int:
    """The bits of a command; fields that are not given are 0."""
    unknown = set(fields) - set(HEAD_COMMAND.members)
    assert not unknown, f"a head command has no fields {unknown}"
    for name, value in fields.items():
        assert 0 <= value < 1 << HEAD_COMMAND[name].width, f"{name} = {value}"
    return sum(int(value) << HEAD_COMMAND[name].offset for name, value in fields.items())
