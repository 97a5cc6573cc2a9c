"""Dividend and reciprocal -> code: the quotient of `model.efficientvit.integer.divide`, kinds exact and uniform, a value per cycle."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.tech.dsp48e2 import MultiplyAdd, generic
from rtl.units import code_quotient
from rtl.units.code_output import HALVES, HALVES_BITS, QUOTIENT_PLACES, ZERO_BITS, CodeOutput
from rtl.units.exact_reciprocal import RECIPROCAL_BITS
from rtl.units.protocol import LUT_INPUTS, delay, require

#: Of a reciprocal: what each multiplier takes.
PART_BITS = integer.MULTIPLIER_BITS
#: Fraction bits of the upper product, less the one that rounds.
_DROPPED = integer.ATTENTION_SHIFT - PART_BITS - 1
#: The cycle in which `CodeOutput` has its product.
_OUTPUT_CYCLE = 2 * MultiplyAdd.latency + 2


@dataclass(frozen=True, kw_only=True)
class ExactQuotientConfig:
    """
    Parameters
    ----------
    bits : of a code, 4..8
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    dividend_bits : of the signed dividend, up to 27
    """

    bits: int = 8
    technology: object = generic
    dividend_bits: int = integer.ACCUMULATOR_BITS

    def __post_init__(self) -> None:
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")
        most = integer.ACCUMULATOR_BITS
        require(2 <= self.dividend_bits <= most, f"dividend_bits must be 2..{most}", self.dividend_bits, "choose fewer")

    @property
    def product_bits(self) -> int:
        """Of dividend * reciprocal >> 16."""
        return self.dividend_bits + RECIPROCAL_BITS - PART_BITS

    def build(self) -> ExactQuotient:
        return ExactQuotient(self)


class ExactQuotient(wiring.Component):
    """saturate(round_shift(dividend * reciprocal, 22) + zero), in two DSPs.

    low = dividend * the reciprocal's low 16 bits; high = dividend * its upper 16 bits + (low >> 16), so that high is the product >> 16,
    floor. Floors compose: high >> 5 is the quotient with one fraction bit, which `CodeOutput` rounds. These are two products of 16
    bits, as `CodeRequantize` has them for log2 kinds.

    Parameters
    ----------
    config : ExactQuotientConfig

    Members
    -------
    i : In(stream of signed dividend_bits), cycle 0
    reciprocal_low, reciprocal_high : In(16), cycles 0 and 4: halves of what `ExactReciprocal` gave
    zero : In(unsigned 8), cycle 11
    low : In(1), cycle 13: the lower limit; the upper one is 2**bits - 1
    o : Out(stream of unsigned ``bits``)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 14 cycles. ``OFFSETS`` gives the cycle in which each port is sampled::

        cycle   0..4   4..8   8       9       10      11         12      13       14
                low    high   wide?   wide?   shift   add zero   range   select   o

    Only ``valid`` is reset.

    Resources, bits = 8, yosys, before place-and-route: 61 LUT, 36 of them shift registers, 113 FF, 2 DSP48E2; at most 1 LUT level and a
    carry chain, 1.2 ns in our model.

    Raises
    ------
    InputError : bits or dividend_bits out of range.

    Source: model/efficientvit/integer.py, divide.
    """

    OFFSETS = {
        "reciprocal_low": 0,
        "reciprocal_high": MultiplyAdd.latency,
        "zero": _OUTPUT_CYCLE + CodeOutput.OFFSETS["zero"],
        "low": _OUTPUT_CYCLE + CodeOutput.OFFSETS["low"],
    }
    latency = _OUTPUT_CYCLE + CodeOutput.latency

    def __init__(self, config: ExactQuotientConfig):
        self.config = config
        shapes = {"reciprocal_low": PART_BITS, "reciprocal_high": PART_BITS, "zero": ZERO_BITS, "low": 1}
        super().__init__(
            {
                "i": In(stream.Signature(signed(config.dividend_bits), always_ready=True)),
                **{name: In(shapes[name]) for name in self.OFFSETS},
                "o": Out(stream.Signature(config.bits, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, technology, dividend = self.config, self.config.technology, self.i.payload
        m.submodules.lower = lower = MultiplyAdd(technology, c_width=1)
        m.submodules.upper = upper = MultiplyAdd(technology, c_width=config.dividend_bits)
        m.submodules.output = output = CodeOutput(config.bits, technology, product_bits=code_quotient.PRODUCT_BITS, quotient=True)
        m.d.comb += [
            lower.a.eq(dividend),
            lower.b.eq(self.reciprocal_low),
            upper.a.eq(delay(m, dividend, lower.latency, name="dividend")),
            upper.b.eq(self.reciprocal_high),
            upper.c.eq(lower.p[PART_BITS : PART_BITS + config.dividend_bits].as_signed()),
            output.product.eq(self._product(m, upper.p[_DROPPED : config.product_bits])),
            output.quotient.eq(1),
            output.zero.eq(self.zero),
            output.low.eq(self.low),
            self.o.payload.eq(output.o),
            self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True)),
        ]
        return m

    def _product(self, m, quotient):
        """A quotient with one fraction bit where `CodeOutput` looks for it, two cycles later. Of more than it looks at, the highest bit is
        made to say so."""
        sign, above, step = quotient[-1], quotient[HALVES_BITS - 1 : -1], LUT_INPUTS - 1
        groups = [above[low : low + step] for low in range(0, len(above), step)]
        unlike, wide = Signal(len(groups), reset_less=True), Signal(reset_less=True)
        m.d.sync += [flag.eq(group != sign.replicate(len(group))) for flag, group in zip(unlike, groups, strict=True)]
        m.d.sync += wide.eq(unlike.any())
        kept, sign = delay(m, quotient[:HALVES_BITS], 2, name="kept"), delay(m, sign, 2, name="sign")
        top = Mux(wide, ~sign, kept[-1])
        return Cat(Const(0, HALVES - QUOTIENT_PLACES), kept[:-1], top, sign).as_signed()
