"""The width laws: every width in the datapath is one of these functions of (inputs, bits). Nothing here touches hardware.

Each law is the exact range of the quantity, stated in its docstring, and `sim_tests/units/test_shapes.py` proves it at the extremes.
"""

from __future__ import annotations

from amaranth.hdl import Shape, Value, signed, unsigned
from amaranth.lib import data

#: Activations that one table adds up: a table has 2**GROUP entries.
GROUP = 4
#: Activations that are collected, then written, together: CHUNK // GROUP tables, in as many cycles as a table has entries.
CHUNK = 16
SLOTS = CHUNK // GROUP
ENTRIES = 1 << GROUP
#: Of a dot product.
MOST_INPUTS = 1024


def unsigned_for(maximum: int) -> Shape:
    """The narrowest unsigned shape that holds 0..maximum; at least one bit."""
    return unsigned(max(1, maximum.bit_length()))


def signed_for(magnitude: int) -> Shape:
    """The narrowest signed shape that holds -magnitude..magnitude."""
    return signed(magnitude.bit_length() + 1)


def activation_maximum(bits: int) -> int:
    """Activations are unsigned: 0 .. 2**bits - 1."""
    return (1 << bits) - 1


def table_maximum(bits: int) -> int:
    """A table entry is the sum of at most GROUP activations."""
    return GROUP * activation_maximum(bits)


def total_maximum(inputs: int, bits: int) -> int:
    """The sum of all activations of a vector, and of any selection of them."""
    return inputs * activation_maximum(bits)


def table_shape(bits: int) -> Shape:
    return unsigned_for(table_maximum(bits))


def total_shape(inputs: int, bits: int) -> Shape:
    return unsigned_for(total_maximum(inputs, bits))


def dot_shape(inputs: int, bits: int) -> Shape:
    """``2*S - total`` with 0 <= S <= total <= total_maximum: symmetric, -total_maximum .. total_maximum."""
    return signed_for(total_maximum(inputs, bits))


def activation_beat(bits: int) -> data.StructLayout:
    """One activation, the bank that it fills, and whether it is the first of its vector."""
    return data.StructLayout({"value": unsigned(bits), "bank": 1, "first": 1})


def weight_beat(inputs: int) -> data.StructLayout:
    """One output channel's weight bits and the bank that holds its activations."""
    return data.StructLayout({"weights": unsigned(inputs), "bank": 1})


def wrap(value: Value, shape: Shape) -> Value:
    """Narrow `value` to `shape`, whose range the caller has proved to hold it. The one place where high bits are dropped."""
    narrowed = value[: shape.width]
    return narrowed.as_signed() if shape.signed else narrowed


def ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)
