"""x * clip(x + 3, 0, 6) / 6 on integers, `model.efficientvit.integer.hardswish`, in LUTs: a squarer stands for the multiplier."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model.efficientvit.integer import HARDSWISH_FRACTIONS
from model.integer import RESIDUAL_BITS
from rtl.tech.dsp48e2 import generic
from rtl.tech.lut_arithmetic import Squarer
from rtl.units.protocol import delay, lut

FRACTION_BITS = 3
#: Bits of p that tell whether |p| < 2**K: those from the least K up, without the sign.
_LEAST, _MOST = HARDSWISH_FRACTIONS[0], HARDSWISH_FRACTIONS[-1]


def _beyond(place: int, count: int):
    """Whether some of the ``count`` bits of p from 2**place up is no sign bit, of those at or above K; after them sign and K - 6."""

    def differs(*bits: int) -> int:
        values, sign, fraction = bits[:count], bits[count], sum(bit << k for k, bit in enumerate(bits[count + 1 :]))
        return any(bit != sign and place + index >= _LEAST + fraction for index, bit in enumerate(values))

    return differs


@dataclass(frozen=True, kw_only=True)
class HardswishConfig:
    """
    Parameters
    ----------
    technology : of tables and adders, see `rtl.tech.dsp48e2`
    """

    technology: object = generic

    def build(self) -> Hardswish:
        return Hardswish(self)


class Hardswish(wiring.Component):
    """round_shift(p * clip(p + 2**K, 0, 2**(K+1)), K + 1), or p itself where ``enable`` is 0.

    Below 2**K in magnitude, p * (p + 2**K) = p*p + (p << K), and what the last has of fraction bits is none. So, with floor shifts,
    the result is (q + p + 1) >> 1 with q = p*p >> K. Beyond, q = p gives p, and q = -p - 1 = ~p gives 0: one adder makes them all.

    Parameters
    ----------
    config : HardswishConfig

    Members
    -------
    i : In(stream of signed 16), p, cycle 0
    enable : In(1), cycle 0
    fraction : In(3), cycle 0: K - 6, 0..6
    o : Out(stream of signed 16)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 6 cycles::

        cycle   0            1..3        4          5        6
                |p|, near?   square      >> K       choose   o

    Only ``valid`` is reset.

    Resources, yosys, before place-and-route: 139 LUT, 171 FF; at most 2 LUT levels and a carry chain, 1.6 ns in our model.

    Source: model/efficientvit/integer.py, hardswish.
    """

    OFFSETS = {"enable": 0, "fraction": 0}
    latency = Squarer.latency + 3

    def __init__(self, config: HardswishConfig):
        self.config = config
        value = stream.Signature(signed(RESIDUAL_BITS), always_ready=True)
        super().__init__({"i": In(value), "enable": In(1), "fraction": In(FRACTION_BITS), "o": Out(value)})

    def elaborate(self, platform):
        m = Module()
        technology, magnitude = self.config.technology, Signal(Squarer.bits + 1, reset_less=True)
        near = self._near(m)
        m.submodules.square = square = Squarer(technology)
        m.d.sync += magnitude.eq(self._magnitude(m))
        m.d.comb += square.a.eq(magnitude[: Squarer.bits])

        squared = 1 + square.latency
        p = delay(m, self.i.payload, squared, name="p")
        fraction, enable = (delay(m, port, squared, name=name) for port, name in ((self.fraction, "fraction"), (self.enable, "enable")))
        near = delay(m, near & ~magnitude[-1], square.latency, name="near")
        # p*p >> (6 + the two low bits of K - 6); the adder chooses between that and four places more
        shifted, beyond = Signal(_MOST + 4, reset_less=True), Signal(signed(RESIDUAL_BITS), reset_less=True)
        low = Array((square.o >> (_LEAST + shift))[: len(shifted)] for shift in range(4))[fraction[:2]]
        select = Signal(2, reset_less=True)
        m.d.sync += [
            shifted.eq(low),
            beyond.eq(p ^ (p[-1] & enable).replicate(RESIDUAL_BITS)),
            select.eq(Mux(enable & near, fraction[2], 2)),
        ]
        choices = [shifted[:_MOST], shifted[4:], beyond]
        m.d.sync += self.o.payload.eq(self._mean(m, delay(m, p, 1, name="late"), choices, select))
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))
        return m

    def _near(self, m):
        """Whether p is in [-2**K, 2**K), a cycle later."""
        p, technology, fraction = self.i.payload, self.config.technology, self.fraction
        near = Signal(reset_less=True)
        parts = [lut(m, technology, _beyond(place, 2), p[place : place + 2], p[-1], fraction) for place in range(_LEAST, _MOST, 2)]
        parts.append(lut(m, technology, lambda *bits: len(set(bits)) > 1, p[_MOST:]))
        m.d.sync += near.eq(~Cat(parts).any())
        return near

    def _magnitude(self, m):
        """|p| of the low bits; one bit more tells that p = -2**12, or is beyond anyhow."""
        p = self.i.payload
        return (p[: Squarer.bits] ^ p[-1].replicate(Squarer.bits)) + p[-1]

    def _mean(self, m, p, choices, select):
        """(p + choices[select] + 1) >> 1: a one below both is the carry."""
        one = Const(1, 1)
        operands = [Cat(one, value, *([] if value.shape().signed else [Const(0, 1)])).as_signed() for value in choices]
        total = self.config.technology.add_selected(m, Cat(one, p).as_signed(), operands, select, RESIDUAL_BITS + 2)
        return total[2:].as_signed()  # the mean of two 16-bit numbers
