"""The ports and the promises shared by the dot-product unit and every strategy's datapath."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.shapes import activation_beat, dot_shape, total_maximum, total_shape, unsigned_for, weight_beat, wrap


def operands_layout(inputs: int, bits: int) -> data.StructLayout:
    """A dot product before its last subtraction: plus - minus."""
    return data.StructLayout({"plus": unsigned_for(2 * total_maximum(inputs, bits)), "minus": total_shape(inputs, bits)})


def dot_members(inputs: int, bits: int) -> dict:
    """Members of a dot-product unit; `rtl.units.xnor_matmul` describes them."""
    return {
        "i_activations": In(stream.Signature(activation_beat(bits), always_ready=True)),
        "i_weights": In(stream.Signature(weight_beat(inputs), always_ready=True)),
        "operands": Out(operands_layout(inputs, bits)),
        "o": Out(stream.Signature(dot_shape(inputs, bits), always_ready=True)),
    }


class Strategy(Protocol):
    """How a dot product is made. All strategies give the same bits; time and area are their own."""

    def latency(self, inputs: int, bits: int) -> int:
        """Cycles from a weight beat to its result."""

    def fill_lead(self, inputs: int, bits: int) -> int:
        """Cycles from an activation beat to the first weight beat that surely sees it."""

    def cost(self, inputs: int, bits: int) -> Cost:
        """In UltraScale+ technology."""

    def datapath(self, inputs: int, bits: int) -> wiring.Component:
        """A component with `dot_members`."""


def delayed(m: Module, value: Value, cycles: int, name: str, *, reset_less: bool = False) -> Value:
    """`value`, `cycles` cycles later; 0 before."""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value


def subtract(m: Module, unit, plus: Value, minus: Value) -> None:
    """The result of a datapath: its operands, and a cycle later their difference."""
    result = Signal(unit.o.payload.shape(), reset_less=True)
    m.d.comb += [unit.operands.plus.eq(plus), unit.operands.minus.eq(minus)]
    m.d.sync += result.eq(wrap(plus - minus, result.shape()))
    m.d.comb += unit.o.payload.eq(result)
