"""The end of `CodeRequantize`: product of the second multiplier -> code."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from model.efficientvit.integer import RESULT_FRACTION
from model.integer import REQUANTIZE_SHIFTS
from rtl.units.protocol import delay

ZERO_BITS = 8
#: (y + 1) >> 1 is -256..255: with a zero point of 8 bits, what is beyond is beyond the codes.
HALVES_BITS = 10
#: Places that a quotient's halves are below those of a result of `RESULT_FRACTION` bits and the least shift.
QUOTIENT_PLACES = 2
#: Place of the halves: one bit of fraction stays.
HALVES = REQUANTIZE_SHIFTS[0] + RESULT_FRACTION - 1
#: Shifts whose results may be beyond `HALVES_BITS`: the product has no more than 34 bits, or has the least shift.
_NARROW = 2


def field(value: Value, low: int, count: int) -> Value:
    """``count`` bits of a signed number from ``low`` up; above its sign, the sign."""
    return Cat(value[min(low + index, len(value) - 1)] for index in range(count))


class CodeOutput(wiring.Component):
    """saturate(((product >> (shift + 5)) + 1 >> 1) + zero): a result of ``shift`` + 6 fraction bits, rounded half up; floors compose.

    Parameters
    ----------
    bits : of a code
    technology : of the adder
    product_bits : at most 34, or 41 with ``quotient``
    quotient : whether there is a port ``quotient``, which takes the product's fraction bits as two less: 16

    Members
    -------
    product : In(signed(product_bits)), cycle 0
    shift : In(2), cycle 0: index into `model.integer.REQUANTIZE_SHIFTS`; 0 for a quotient
    quotient : In(1), cycle 1
    zero : In(8), cycle 1
    low : In(1), cycle 3: the lower limit
    o : Out(bits)

    Timing
    ------
    A value per cycle; o follows product by ``latency`` = 4 cycles::

        cycle   0       1           2       3        4
                shift   add zero    range   select   o

    Source: model/efficientvit/integer.py, requantize_code.
    """

    OFFSETS = {"zero": 1, "quotient": 1, "low": 3}
    latency = 4

    def __init__(self, bits, technology, *, product_bits, quotient):
        self.bits, self.technology, self.has_quotient = bits, technology, quotient
        super().__init__(
            {
                "product": In(signed(product_bits)),
                "shift": In(2),
                "quotient": In(1),
                "zero": In(ZERO_BITS),
                "low": In(1),
                "o": Out(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        halves = self._halves(m)
        beyond = self._beyond(m)
        above = delay(m, self.product[-1], 2, name="sign")
        # one place below both: (y + 1 >> 1) + zero = (y + 2 * zero + 1) >> 1
        offset = Cat(Const(1, 1), self.zero, Const(0, 1)).as_signed()
        total = Signal(signed(HALVES_BITS + 1), reset_less=True)  # -512 .. 511 + 511
        if self.has_quotient:
            m.d.sync += total.eq(self.technology.add_selected(m, offset, halves, self.quotient, len(total)))
        else:
            m.d.sync += total.eq(self.technology.add_signed(m, [(offset, False), (halves[0], False)], len(total)))

        value = total[1:].as_signed()
        rest, bits = value[1 : self.bits], self.bits
        negative, over, some = (Signal(name=name, reset_less=True) for name in ("negative", "over", "some"))
        m.d.sync += [
            negative.eq(Mux(beyond, above, value[-1])),
            over.eq(Mux(beyond, ~above, ~value[-1] & value[bits:-1].any())),
            some.eq(rest.any()),
        ]
        kept = delay(m, value[:bits], 1, name="kept")
        code = (kept & (~negative).replicate(bits)) | over.replicate(bits)
        m.d.sync += self.o.eq(code | (self.low & (negative | ~some)))
        return m

    def _halves(self, m):
        """The value with one fraction bit, a cycle later; second, that of a quotient."""
        places = QUOTIENT_PLACES if self.has_quotient else 0
        least = [HALVES - places + shift - REQUANTIZE_SHIFTS[0] for shift in REQUANTIZE_SHIFTS]
        shifted = Signal(HALVES_BITS + places, reset_less=True)
        m.d.sync += shifted.eq(Array(field(self.product, place, len(shifted)) for place in least)[self.shift])
        return [shifted[places:].as_signed(), shifted[:HALVES_BITS].as_signed()]

    def _beyond(self, m):
        """Whether that is more than `HALVES_BITS`, two cycles later."""
        sign, shift = self.product[-1], delay(m, self.shift, 1, name="shift")
        tops = [HALVES + step - REQUANTIZE_SHIFTS[0] + HALVES_BITS - 1 for step in REQUANTIZE_SHIFTS[:_NARROW]]
        groups = [self.product[low:high] for low, high in zip(tops, [*tops[1:], len(self.product) - 1], strict=True)]
        unlike = [Signal(name=f"unlike_{index}", reset_less=True) for index in range(_NARROW)]
        m.d.sync += [flag.eq(group != sign.replicate(len(group))) for flag, group in zip(unlike, groups, strict=True)]
        wide = ((shift == 0) & (unlike[0] | unlike[1])) | ((shift == 1) & unlike[1])
        if self.has_quotient:
            below, lower = Signal(reset_less=True), self.product[tops[0] - QUOTIENT_PLACES : tops[0]]
            m.d.sync += below.eq(lower != sign.replicate(QUOTIENT_PLACES))
            wide |= self.quotient & below
        beyond = Signal(reset_less=True)
        m.d.sync += beyond.eq(wide)
        return beyond
