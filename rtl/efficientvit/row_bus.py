"""What hops from row to row: the array's bus, the two lanes of the depthwise engine and the one of the window former."""

from __future__ import annotations

from amaranth import signed, unsigned
from amaranth.lib import data

from model.integer import BIAS_BITS, MULTIPLIER_BITS
from rtl.efficientvit import depth_command
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS

ADDRESS_BITS = depth_command.TARGET
ROW_BITS = 6
WINDOW_CODES = 27

#: Parameters of one output channel's requantizer, each in the cycle in which it is used.
Parameter = data.StructLayout(
    {
        "bias": signed(BIAS_BITS),
        "multiplier": unsigned(MULTIPLIER_BITS),
        "shift": 2,
        "second_bias": signed(16),
        "second_multiplier": unsigned(MULTIPLIER_BITS),
        "second_shift": 2,
    }
)
#: What is the same for all results of a step.
Constants = data.StructLayout(
    {
        "hardswish": 1,
        "fraction": 3,
        "shortcut_enable": 1,
        "shortcut_zero": 8,
        "quotient": 1,
        "zero": 8,
        "low": 1,
    }
)
RowBus = data.StructLayout(
    {
        "read": 1,
        "address": ADDRESS_BITS,
        "operand_load": 1,
        "rectify": 1,  # of codes about 128, what is above it
        "shortcut_load": 1,  # what was read is a shortcut's word
        "weights_0": data.ArrayLayout(signed(8), WORD_CHANNELS),  # staggered, see PairProduct
        "weights_1": data.ArrayLayout(signed(8), WORD_CHANNELS),
        "first": 1,
        "last": 1,
        "divisor": 1,  # the sum is a divisor
        "exponent_low": 5,
        "exponent_write": 1,
        "exponent_slot": 4,
        "exponent_read": 4,
        "shortcut_low": 2,  # the product's pair, its two low bits
        "shortcut_high": 2,
        "parameter_0": Parameter,
        "parameter_1": Parameter,
        "constants": Constants,
        "word_write": 1,  # the word is complete
        "word_address": ADDRESS_BITS,
        "word_collect": 1,
    }
)


def depth_lane(bits: int) -> data.StructLayout:
    """16 channels (``half`` of a word) of one pixel, for row ``row``."""
    return data.StructLayout({"valid": 1, "row": ROW_BITS, "address": ADDRESS_BITS, "half": 1, "data": bits * PAIRS})


def window_lane(bits: int) -> data.StructLayout:
    """The codes under one window of the stem's convolution."""
    return data.StructLayout({"valid": 1, "row": ROW_BITS, "address": ADDRESS_BITS, "data": bits * WINDOW_CODES})
