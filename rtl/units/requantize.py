"""Accumulator -> activation, residual update, table index or signed byte: `model.integer.requantize`, a value per cycle."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.tech.dsp48e2 import MultiplyAdd, generic
from rtl.units.protocol import any_bit, delay, lut, require

OUTPUT_BITS = 16
#: (accumulator + bias) * multiplier + half: the product of signed 27 and unsigned 16 bits leaves room for the half.
_PRODUCT_BITS = integer.ACCUMULATOR_BITS + integer.MULTIPLIER_BITS


class Limits(enum.IntEnum):
    """The output range: the code on port ``limits``."""

    SIGNED16 = 0  #: residual updates and logits
    ACTIVATION = 1  #: unsigned ``bits``
    TABLE = 2  #: unsigned 8 bits, an address of the activation table
    SIGNED8 = 3  #: [-127, 127]: q, k, v


def saturation(limits: Limits, bits: int) -> integer.Saturation:
    """The range in numbers."""
    return {
        Limits.SIGNED16: integer.signed(OUTPUT_BITS),
        Limits.ACTIVATION: integer.unsigned(bits),
        Limits.TABLE: integer.unsigned(8),
        Limits.SIGNED8: integer.SIGNED8,
    }[limits]


def _is_byte(top: int, middle: int, top_ones: int, middle_ones: int, low: int, sixth: int) -> int:
    """Whether 16 bits, told by groups, are in [-127, 127]: those above the sixth are 0, or they are 1 and some other bit is."""
    return not (top or middle) or (top_ones and middle_ones and (low or sixth))


@dataclass(frozen=True, kw_only=True)
class RequantizeConfig:
    """
    Parameters
    ----------
    bits : activation precision, 1..8
    technology : of the multiplier, see `rtl.tech.dsp48e2`
    """

    bits: int = 8
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")

    def build(self) -> Requantize:
        return Requantize(self)


class Requantize(wiring.Component):
    """saturate(((accumulator + bias) * multiplier + half) >> shift), in one DSP.

    Parameters
    ----------
    config : RequantizeConfig

    Members
    -------
    i_accumulator : In(stream of signed 27), cycle 0
    bias : In(signed 27), cycle 0. accumulator + bias must fit 27 bits (lowering proves it)
    multiplier : In(unsigned 16), cycle 0
    shift : In(2), cycle 0: index into `model.integer.REQUANTIZE_SHIFTS`. Its half goes with the operands; the unit keeps it for the shift
    limits : In(2), cycle 6: a code of `Limits`
    zero : In(1), cycle 7: the result is 0
    o : Out(stream of unsigned 16): raw two's complement

    Timing
    ------
    A value per cycle; o follows i_accumulator by ``latency`` = 8 cycles. ``OFFSETS`` gives the cycle in which each port is sampled::

        cycle    0            1..4        4         5        6              7        8
                 operands     DSP48E2     shift     wider?   fits? limits   select   o

    Only ``valid`` is reset.

    Resources, bits = 8, yosys, before place-and-route: 51 LUT, 98 FF, 1 DSP48E2; at most 2 LUT levels, 1.3 ns in our model.

    Source: model/integer.py, requantize.
    """

    OFFSETS = {"bias": 0, "multiplier": 0, "shift": 0, "limits": MultiplyAdd.latency + 2, "zero": MultiplyAdd.latency + 3}
    latency = MultiplyAdd.latency + 4

    def __init__(self, config: RequantizeConfig):
        self.config = config
        super().__init__(
            {
                "i_accumulator": In(stream.Signature(signed(integer.ACCUMULATOR_BITS), always_ready=True)),
                "bias": In(signed(integer.BIAS_BITS)),
                "multiplier": In(integer.MULTIPLIER_BITS),
                "shift": In(2),
                "limits": In(2),
                "zero": In(1),
                "o": Out(stream.Signature(OUTPUT_BITS, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shifts = integer.REQUANTIZE_SHIFTS
        m.submodules.multiply = multiply = MultiplyAdd(self.config.technology, c_width=max(shifts) + 1)
        m.d.comb += [
            multiply.a.eq(self.i_accumulator.payload),
            multiply.d.eq(self.bias),
            multiply.b.eq(self.multiplier),
            *(multiply.c[shift - 1].eq(self.shift == code) for code, shift in enumerate(shifts)),
        ]

        shifted, over, negative = self._shifted(m, multiply.p, delay(m, self.shift, multiply.latency, name="shift"))
        kept, fits = delay(m, shifted, 2, name="value"), Signal(reset_less=True)
        m.d.sync += fits.eq(~over & Array(self._ranges(m, shifted))[self.limits])
        m.d.sync += self.o.payload.eq(Mux(fits, kept, self._rails(m, delay(m, negative, 1, name="negative"))))
        with m.If(self.zero):
            m.d.sync += self.o.payload.eq(0)
        m.d.comb += self.o.valid.eq(delay(m, self.i_accumulator.valid, self.latency, name="valid", reset=True))
        return m

    def _shifted(self, m, product, chosen):
        """The 16 bits above the shift and the sign, after one cycle; whether the product is wider, after two."""
        shifts = integer.REQUANTIZE_SHIFTS
        product, sign = product[:_PRODUCT_BITS], product[_PRODUCT_BITS - 1]
        edges = [shift + OUTPUT_BITS - 1 for shift in shifts] + [_PRODUCT_BITS]
        shifted, same, code = Signal(OUTPUT_BITS, reset_less=True), Signal(len(shifts), reset_less=True), Signal(2, reset_less=True)
        negative, over = Signal(reset_less=True), Signal(reset_less=True)
        for index in range(len(shifts)):
            group = product[edges[index] : edges[index + 1]]
            m.d.sync += same[index].eq(group == sign.replicate(len(group)))
        m.d.sync += [
            shifted.eq(Array(product[shift : shift + OUTPUT_BITS] for shift in shifts)[chosen]),
            code.eq(chosen),
            negative.eq(sign),
            over.eq(~Array(same[index:].all() for index in range(len(shifts)))[code]),
        ]
        return shifted, over, negative

    def _ranges(self, m, shifted):
        """Per code of ``limits``, whether a 16-bit value is inside, a cycle later."""
        technology = self.config.technology
        top, middle, low = (any_bit(m, technology, part) for part in (shifted[10:], shifted[7:10], shifted[:6]))
        top_ones, middle_ones = (lut(m, technology, lambda *bits: all(bits), part) for part in (shifted[10:], shifted[7:10]))
        not_activation, not_table, byte = (
            Signal(name=f"range_{name}", reset_less=True) for name in ("not_activation", "not_table", "byte")
        )
        m.d.sync += [
            not_activation.eq(any_bit(m, technology, shifted[self.config.bits : 10], groups=[top])),
            not_table.eq(any_bit(m, technology, shifted[8:10], groups=[top])),
            byte.eq(lut(m, technology, _is_byte, top, middle, top_ones, middle_ones, low, shifted[6])),
        ]
        return [1, ~not_activation, ~not_table, byte]

    def _rails(self, m, negative):
        """The limit to put in the place of a value that does not fit. Bits that are equal in every range share a register."""
        ranges = [saturation(limits, self.config.bits) for limits in Limits]
        columns = [tuple((limit.high >> bit & 1, limit.low >> bit & 1) for limit in ranges) for bit in range(OUTPUT_BITS)]
        registers = {column: Signal(name=f"rail_{columns.index(column)}", reset_less=True) for column in columns}
        for column, register in registers.items():
            m.d.sync += register.eq(Array(Mux(negative, low, high) for high, low in column)[self.limits])
        return Cat(registers[column] for column in columns)
