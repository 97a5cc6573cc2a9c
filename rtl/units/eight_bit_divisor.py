"""Divisor -> the divisor of 8 bits that stands for it: `model.integer.requantize` to 0..255, serially, without a DSP."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.units.protocol import delay

DIVISOR_BITS = 8
#: Of a divisor, which is never negative.
_WIDE_BITS = integer.ACCUMULATOR_BITS - 1
_PRODUCT_BITS = _WIDE_BITS + integer.MULTIPLIER_BITS


class EightBitDivisor(wiring.Component):
    """min(round_shift(divisor * multiplier, shift), 255).

    Members
    -------
    i : In(stream of signed 27), not negative, cycle 0
    multiplier : In(unsigned 16), cycle 0
    shift : In(2), cycle 17: index into `model.integer.REQUANTIZE_SHIFTS`
    o : Out(stream of unsigned 8), there while valid

    Timing
    ------
    A bit of the multiplier per cycle. o follows i by ``latency`` = 16 + 4 cycles; a divisor every ``interval`` = 16 + 1 cycles or more::

        cycle   0      1..16             17      18              19       20
                take   add and shift     shift   round, wide?    limit    o

    Only ``valid`` is reset.

    Source: model/efficientvit/integer.py, divide, kinds log2_8bit and uniform.
    """

    OFFSETS = {"multiplier": 0, "shift": integer.MULTIPLIER_BITS + 1}
    latency = integer.MULTIPLIER_BITS + 4
    interval = integer.MULTIPLIER_BITS + 1

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(signed(integer.ACCUMULATOR_BITS), always_ready=True)),
                "multiplier": In(integer.MULTIPLIER_BITS),
                "shift": In(2),
                "o": Out(stream.Signature(DIVISOR_BITS, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        product = self._product(m)
        # the result, above the bit that rounds it; whether there is more, by place
        shifts = integer.REQUANTIZE_SHIFTS
        edges = [*(shift + DIVISOR_BITS for shift in shifts), _PRODUCT_BITS]
        shifted, more, code = Signal(DIVISOR_BITS + 1, reset_less=True), Signal(len(shifts), reset_less=True), Signal(2, reset_less=True)
        m.d.sync += [
            shifted.eq(Array(product[shift - 1 : shift + DIVISOR_BITS] for shift in shifts)[self.shift]),
            *(more[index].eq(product[low:high].any()) for index, (low, high) in enumerate(pairwise(edges))),
            code.eq(self.shift),
        ]
        rounded, wide = Signal(DIVISOR_BITS + 1, reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            rounded.eq(shifted[1:] + shifted[0]),
            wide.eq(Array(more[index:].any() for index in range(len(shifts)))[code]),
            self.o.payload.eq(rounded[:DIVISOR_BITS] | (rounded[-1] | wide).replicate(DIVISOR_BITS)),
        ]
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))
        return m

    def _product(self, m):
        """Divisor times multiplier, 17 cycles later: the multiplier leaves below as the product grows from above."""
        divisor, product = Signal(_WIDE_BITS, reset_less=True), Signal(_PRODUCT_BITS, reset_less=True)
        upper, lower = product[integer.MULTIPLIER_BITS :], product[: integer.MULTIPLIER_BITS]
        total = upper + (divisor & lower[0].replicate(_WIDE_BITS))  # one bit more than each, which the product's top takes
        m.d.sync += product.eq(Cat(lower[1:], total))
        with m.If(self.i.valid):
            m.d.sync += [divisor.eq(self.i.payload[:_WIDE_BITS]), product.eq(Cat(self.multiplier, Const(0, _WIDE_BITS)))]
        return product
