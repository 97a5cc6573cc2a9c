"""Divisor -> reciprocal, `output_multiplier // max(divisor, 1)` of `model.efficientvit.integer.divide`: kinds exact and uniform."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.units.eight_bit_divisor import DIVISOR_BITS, EightBitDivisor
from rtl.units.protocol import delay, require

RECIPROCAL_BITS = integer.ATTENTION_DIVIDEND_BITS
KINDS = ("exact", "uniform")
#: Cycles before the first digit: take the divisor, look whether it is 0, mend it.
_PREPARE = 3


@dataclass(frozen=True, kw_only=True)
class ExactReciprocalConfig:
    """
    Parameters
    ----------
    kind : "exact", by the divisor; "uniform", by the divisor requantized to 8 bits
    """

    kind: str = "exact"

    def __post_init__(self) -> None:
        require(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}", repr(self.kind), "for log2 kinds use Log2Exponent")

    @property
    def divisor_bits(self) -> int:
        """Of what is divided by, unsigned."""
        return DIVISOR_BITS if self.kind == "uniform" else integer.ACCUMULATOR_BITS - 1

    @property
    def offsets(self) -> dict[str, int]:
        """The cycle in which each port is sampled."""
        if self.kind == "exact":
            return {"output_multiplier": _PREPARE - 1}
        return {**EightBitDivisor.OFFSETS, "output_multiplier": EightBitDivisor.latency + _PREPARE - 1}

    @property
    def latency(self) -> int:
        return RECIPROCAL_BITS + _PREPARE + (EightBitDivisor.latency if self.kind == "uniform" else 0)

    def build(self) -> ExactReciprocal:
        return ExactReciprocal(self)


class ExactReciprocal(wiring.Component):
    """output_multiplier // max(divisor, 1), a digit per cycle; kind uniform: of the divisor requantized to 8 bits.

    It stands where `Log2Exponent` does for the log2 kinds. Non-restoring: the remainder is added to when it is negative and subtracted from
    when it is not, so that a digit is one adder without a multiplexer.

    Parameters
    ----------
    config : ExactReciprocalConfig

    Members
    -------
    i : In(stream of signed 27), not negative, cycle 0
    output_multiplier : In(unsigned 32), cycle 2; uniform: 22
    multiplier : In(unsigned 16), cycle 0; shift : In(2), cycle 17: of the 8-bit step; only with kind uniform
    o : Out(stream of unsigned 32), there while valid

    Timing
    ------
    o follows i by ``latency`` = 32 + 3 cycles, 20 more with kind uniform; a divisor every ``interval`` = 32 + 2 cycles or more: an
    earlier one spoils what is under way. ``OFFSETS`` gives the cycle in which each port is sampled. Of kind exact::

        cycle   0      1    2      3..34    35
                take   0?   mend   digits   o

    Only ``valid`` is reset.

    Resources, yosys, before place-and-route: exact 68 LUT, 121 FF; uniform 112 LUT, 206 FF; no DSP; at most 2 LUT levels and a carry
    chain, 1.8 ns in our model.

    Raises
    ------
    InputError : another kind.

    Source: model/efficientvit/integer.py, divide.
    """

    interval = RECIPROCAL_BITS + _PREPARE - 1

    def __init__(self, config: ExactReciprocalConfig):
        self.config, self.OFFSETS, self.latency = config, config.offsets, config.latency
        shapes = {"multiplier": integer.MULTIPLIER_BITS, "shift": 2, "output_multiplier": RECIPROCAL_BITS}
        super().__init__(
            {
                "i": In(stream.Signature(signed(integer.ACCUMULATOR_BITS), always_ready=True)),
                **{name: In(shapes[name]) for name in self.OFFSETS},
                "o": Out(stream.Signature(RECIPROCAL_BITS, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        valid, given = self._given(m)
        first = delay(m, valid, _PREPARE - 1, name="first", reset=True)
        divisor = self._divisor(m, valid, given, first)
        width = len(divisor) + 2  # of 2 * remainder + bit
        remainder, quotient = Signal(signed(width - 1), reset_less=True), Signal(RECIPROCAL_BITS, reset_less=True)
        subtract, shifted, operand, following = Signal(), Signal(width), Signal(width), Signal(width)
        m.d.comb += [
            subtract.eq(~remainder[-1]),
            shifted.eq(Cat(quotient[-1], remainder)),
            operand.eq(Cat(divisor, 0, 0) ^ subtract.replicate(width)),
            # The carry into the sum is 1 + subtract, one place below it: one adder.
            following.eq((Cat(1, shifted) + Cat(subtract, operand))[1:]),
        ]
        # the dividend's digits leave above as the quotient's come from below: 1 where the new remainder is not negative
        m.d.sync += [remainder.eq(following[:-1]), quotient.eq(Cat(~following[-1], quotient[:-1]))]
        with m.If(first):
            m.d.sync += [remainder.eq(0), quotient.eq(self.output_multiplier)]
        m.d.comb += [
            self.o.payload.eq(quotient),
            self.o.valid.eq(delay(m, first, RECIPROCAL_BITS + 1, name="valid", reset=True)),
        ]
        return m

    def _given(self, m):
        """Whether there is a divisor, and it."""
        if self.config.kind == "exact":
            return self.i.valid, self.i.payload[: self.config.divisor_bits]
        m.submodules.eight_bits = eight_bits = EightBitDivisor()
        m.d.comb += [
            eight_bits.i.payload.eq(self.i.payload),
            eight_bits.i.valid.eq(self.i.valid),
            eight_bits.multiplier.eq(self.multiplier),
            eight_bits.shift.eq(self.shift),
        ]
        return eight_bits.o.valid, eight_bits.o.payload

    def _divisor(self, m, valid, given, first):
        """The divisor, held; 0 becomes 1 where ``first``. A divisor without upper bits is 0 or 1."""
        divisor, some = Signal(len(given), name="divisor", reset_less=True), Signal(reset_less=True)
        m.d.sync += some.eq(divisor[1:].any())
        with m.If(valid):
            m.d.sync += divisor.eq(given)
        with m.Elif(first & ~some):
            m.d.sync += divisor[0].eq(1)
        return divisor
