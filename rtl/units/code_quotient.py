"""What `CodeRequantize` does for a quotient: the dividend's product goes round saturation and Hardswish, and is multiplied by 2**(16 - e).

The product above its shift, floor, is g; the bit below it counts where the exponent e is 0, for floors compose. Then 2**(16 - e) * g has
16 fraction bits, one of them for the last rounding: `CodeOutput` makes the code.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value

from model.efficientvit.integer import EXPONENTS
from model.integer import REQUANTIZE_SHIFTS, RESIDUAL_BITS
from rtl.units.code_output import field
from rtl.units.protocol import delay

EXPONENT_BITS = (EXPONENTS - 1).bit_length()
#: Of g: 16 that pass as a first result does, 8 above, a sign. With e = 15, bit 23 unlike the sign is 2**9 half codes: beyond all codes.
BITS = RESIDUAL_BITS + 9
#: Of g * 2**16.
PRODUCT_BITS = BITS + EXPONENTS
#: Place of the bit below g in the product by 2**16.
_HALF = EXPONENTS - 1


def above(m: Module, product: Value, code: Value, cycles: int) -> tuple[Value, Value]:
    """The bits of g above those that pass as a first result, and the bit below g; ``1 + cycles`` cycles later.

    product : signed        code : index of the shift
    """
    count = BITS - RESIDUAL_BITS - 1
    high, half, wide = Signal(count, reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
    tops = [shift + BITS - 1 for shift in REQUANTIZE_SHIFTS]
    groups = [field(product, top, max(len(product) - 1 - top, 1)) for top in tops]
    unlike = [group != product[-1].replicate(len(group)) for group in groups]
    m.d.sync += [
        high.eq(Array(field(product, shift + RESIDUAL_BITS, count) for shift in REQUANTIZE_SHIFTS)[code]),
        half.eq(Array(product[shift - 1] for shift in REQUANTIZE_SHIFTS)[code]),
        wide.eq(Array(unlike)[code]),
    ]
    sign = delay(m, product[-1], 1, name="quotient_sign")
    # more than fits: the highest bit is made to say so
    upper = Cat(high[:-1], Mux(wide, ~sign, high[-1]), sign)
    return delay(m, upper, cycles, name="upper"), delay(m, half, cycles, name="half")


def terms(m: Module, plain: dict[str, Value], upper: Value, half: Value, divided: Value, exponent: Value) -> dict[str, Value]:
    """Operands of the second multiplier, a cycle later: a is g, b the power of two, c the bit below g.

    plain : the operands without quotients; where ``divided``, its a is the low 16 bits of g, and its b, c and d are 0
    """
    high, carry, dividing = Signal(len(upper), name="high", reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
    fours, ones = (Signal(4, name=name, reset_less=True) for name in ("fours", "ones"))
    m.d.sync += [
        high.eq(upper),
        dividing.eq(divided),
        carry.eq(divided & half & (exponent == 0)),
        *(fours[index].eq(divided & (exponent[2:] == index)) for index in range(4)),
        *(ones[index].eq(exponent[:2] == index) for index in range(4)),
    ]
    exponents = [EXPONENTS - place for place in range(1, EXPONENTS + 1)]
    power = Cat(Const(0, 1), *(fours[value >> 2] & ones[value & 3] for value in exponents))
    return {
        "a": Cat(plain["a"], Mux(dividing, high, plain["a"][-1].replicate(len(high)))).as_signed(),
        "b": plain["b"] | power,
        "c": plain["c"] | (carry << _HALF),
    }
