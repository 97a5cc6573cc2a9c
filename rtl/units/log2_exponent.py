"""Divisor -> exponent of the power of two that stands for it: `model.efficientvit.integer.rounded_log2`, less its least value."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model.efficientvit.integer import EXPONENTS
from model.integer import ACCUMULATOR_BITS
from rtl.units.protocol import delay, require

LOW_BITS = 5
#: Bits that are searched for the leading one together.
_GROUP = 4


@dataclass(frozen=True, kw_only=True)
class Log2ExponentConfig:
    """
    Parameters
    ----------
    divisor_bits : of the signed divisor, which is never negative
    """

    divisor_bits: int = ACCUMULATOR_BITS

    def __post_init__(self) -> None:
        rule = f"divisor_bits must be {_GROUP + 2}..{1 << LOW_BITS}"
        require(_GROUP + 2 <= self.divisor_bits <= 1 << LOW_BITS, rule, self.divisor_bits, "choose a width in that range")

    def build(self) -> Log2Exponent:
        return Log2Exponent(self)


class Log2Exponent(wiring.Component):
    """clip(rounded_log2(divisor), low, low + 15) - low.

    The index of the leading one, and one more where the next bit is 1; 0 counts as 1.

    Parameters
    ----------
    config : Log2ExponentConfig

    Members
    -------
    i : In(stream of signed divisor_bits), not negative, cycle 0
    low : In(5), cycle 5
    o : Out(stream of unsigned 4)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 7 cycles::

        cycle   0            1               2      3             4     5          6       7
                any of 4     leading group   mux    leading one   add   less low   limit   o

    Only ``valid`` is reset.

    Resources, yosys, before place-and-route: 36 LUT, 97 FF; at most 2 LUT levels, 1.8 ns in our model.

    Raises
    ------
    InputError : a divisor of fewer or more bits than exponents can tell.

    Source: model/efficientvit/integer.py, rounded_log2 and divide.
    """

    OFFSETS = {"low": 5}
    latency = 7

    def __init__(self, config: Log2ExponentConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(signed(config.divisor_bits), always_ready=True)),
                "low": In(LOW_BITS),
                "o": Out(stream.Signature((EXPONENTS - 1).bit_length(), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        group, part = self._leading_group(m)
        # the leading one of the group's bits, and the bit below it
        bits, below = part[1:], part[:-1]
        place, more, late = Signal(2, reset_less=True), Signal(reset_less=True), delay(m, group, 1, name="late_group")
        m.d.sync += [place.eq(0), more.eq(bits[0] & below[0])]
        for index in range(1, _GROUP):
            with m.If(bits[index]):
                m.d.sync += [place.eq(index), more.eq(below[index])]

        exponent, above = Signal(LOW_BITS, reset_less=True), Signal(signed(LOW_BITS + 1), reset_less=True)
        limited = Signal(len(self.o.payload), reset_less=True)
        m.d.sync += [
            exponent.eq(Cat(place, late) + more),  # at most divisor_bits - 1
            above.eq(exponent - self.low),
            limited.eq(Mux(above[-1], 0, above[: len(limited)] | above[len(limited)].replicate(len(limited)))),
        ]
        m.d.comb += [self.o.payload.eq(limited), self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))]
        return m

    def _leading_group(self, m):
        """The group of bits that has the leading one, and its bits above the one below it, three cycles later."""
        divisor = self.i.payload[:-1]
        count = -(-len(divisor) // _GROUP)
        some, group, part = Signal(count, reset_less=True), Signal(3, reset_less=True), Signal(_GROUP + 1, reset_less=True)
        m.d.sync += [flag.eq(divisor[_GROUP * index : _GROUP * (index + 1)].any()) for index, flag in enumerate(some)]
        m.d.sync += group.eq(0)
        for index in range(1, count):
            with m.If(some[index]):
                m.d.sync += group.eq(index)
        padded = Cat(Const(0, 1), delay(m, divisor, 2, name="divisor"), Const(0, _GROUP * count - len(divisor)))
        m.d.sync += part.eq(Array(padded[_GROUP * index : _GROUP * (index + 1) + 1] for index in range(count))[group])
        return delay(m, group, 1, name="group"), part
