"""What every unit of a row promises, and the helpers that all of them share.

A unit is a `wiring.Component` that never stalls: its streams are ``always_ready``, an invalid cycle is a bubble that passes
through. Control is skewed: a control port that a later stage uses is sampled in the cycle in which that stage uses it. ``OFFSETS``
says which, counted from the cycle of ``i``; the sequencer delays every control once, at row 0, and no row holds a control pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring

from rtl.errors import InputError

LUT_INPUTS = 6


class UnitConfig(Protocol):
    """A frozen, keyword-only dataclass, validated when made, whose ``build()`` returns the unit."""

    def build(self) -> wiring.Component: ...


def require(condition: bool, rule: str, value: object, remedy: str) -> None:
    """Raises
    ------
    InputError : ``condition`` is false; the message names the rule, the value and the remedy.
    """
    if not condition:
        raise InputError(f"{rule}: {value} does not; {remedy}")


def delay(m: Module, value: Value, cycles: int, *, name: str, reset: bool = False) -> Value:
    """``value``, ``cycles`` cycles later. Without ``reset`` a tool may use a shift-register LUT, and stale values leave after a reset."""
    for cycle in range(cycles):
        later = Signal.like(value, name=f"{name}_{cycle + 1}", init=0, reset_less=not reset)
        m.d.sync += later.eq(value)
        value = later
    return value


def lut(m: Module, technology: object, function: Callable[..., int], *inputs: Value) -> Value:
    """``function`` of up to six bits, each 0 or 1, in one LUT."""
    index = Cat(inputs)
    values = [int(bool(function(*(address >> k & 1 for k in range(len(index)))))) for address in range(1 << len(index))]
    return technology.table(m, values, index)


def any_bit(m: Module, technology: object, value: Value, *, groups: Sequence[Value] = (), unlike: Sequence[Value] = ()) -> Value:
    """Whether any bit of ``value`` is 1, in two levels of LUTs for up to 36 bits.

    groups : first-level results that count as well
    unlike : a bit, if the question is whether any bit differs from it; up to 25 bits
    """
    room, groups = LUT_INPUTS - len(unlike), list(groups)
    while len(value) + len(groups) > room:
        assert len(value) > 0  # else a third level
        groups.append(lut(m, technology, _differ(0, len(unlike)), *unlike, value[-room:]))
        value = Value.cast(value[:-room])
    return lut(m, technology, _differ(len(groups), len(unlike)), *groups, *unlike, value)


def _differ(groups: int, unlike: int) -> Callable[..., bool]:
    """Of so many groups, then the bit that the others are compared with, if there is one."""
    return lambda *bits: any(bits[:groups]) or any(bit != (bits[groups] if unlike else 0) for bit in bits[groups + unlike :])


def narrow(m: Module, value: Value, shape: Shape, *, name: str) -> Value:
    """``value`` in ``shape``, saturated. Two levels of LUTs for up to 11 bits above the range."""
    wide = len(value)
    value, sign = value.as_signed(), value[-1]
    bits = Shape.cast(shape).width
    result = Signal(shape, name=name)
    if Shape.cast(shape).signed:
        above = value[bits - 1 : wide - 1]
        fits = above == sign.replicate(len(above))
        m.d.comb += result.eq(value[:bits])
        with m.If(~fits):
            m.d.comb += result.eq((~sign).replicate(bits - 1) | (sign << (bits - 1)))
    else:
        m.d.comb += result.eq(value[:bits])
        with m.If(value[bits : wide - 1].any() | sign):
            m.d.comb += result.eq((~sign).replicate(bits))
    return result


def saturated(m: Module, technology: object, value: Value, shape: Shape, *, name: str) -> Value:
    """``value`` in ``shape``, saturated, two cycles later: what does not fit is told first. Two levels of LUTs for up to 25 bits above the
    range."""
    shape = Shape.cast(shape)
    kept, sign, wide = Signal(shape, name=f"{name}_kept", reset_less=True), Signal(name=f"{name}_sign"), Signal(name=f"{name}_wide")
    result = Signal(shape, name=name, reset_less=True)
    above = value[shape.width - shape.signed : len(value) - shape.signed]
    low, high = (~sign, sign) if shape.signed else (~sign, ~sign)
    limit = Cat(low.replicate(shape.width - 1), high)
    m.d.sync += [
        kept.eq(value[: shape.width]),
        sign.eq(value[-1]),
        wide.eq(any_bit(m, technology, above, unlike=[value[-1]] if shape.signed else [])),
        result.eq(Mux(wide, limit.as_signed() if shape.signed else limit, kept)),
    ]
    return result
