"""The ports and the promises shared by the dot-product unit and every strategy's datapath."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.shapes import activation_beat, dot_shape, weight_beat


def dot_members(inputs: int, bits: int) -> dict:
    """Members of a dot-product unit; `rtl.units.xnor_matmul` describes them."""
    return {
        "i_activations": In(stream.Signature(activation_beat(bits), always_ready=True)),
        "i_weights": In(stream.Signature(weight_beat(inputs), always_ready=True)),
        "o": Out(stream.Signature(dot_shape(inputs, bits), always_ready=True)),
    }


class Strategy(Protocol):
    """How a dot product is made. All strategies give the same bits; time and area are their own."""

    def latency(self, inputs: int, bits: int) -> int:
        """Cycles from a weight beat to its result."""

    def fill_lead(self, inputs: int, bits: int) -> int:
        """Cycles from an activation beat to the first weight beat that surely sees it."""

    def datapath(self, inputs: int, bits: int) -> wiring.Component:
        """A component with `dot_members`."""


def delayed(m: Module, value: Value, cycles: int, name: str, *, reset_less: bool = False) -> Value:
    """`value`, `cycles` cycles later; 0 before."""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value
