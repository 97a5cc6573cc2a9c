"""Products of LUTs and carry chains, for where the slices run out: `LutMultiplyAdd` and `Squarer`.

Both technologies build the same structure; they differ in how they make a table and an adder (`GenericLut`, `UltrascaleLut` and the
classes beside them). Registers have no reset. Outputs are undefined until `latency` cycles of defined operands have passed.
"""

from amaranth.hdl import Array, Cat, Const, Instance, Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.tech.dsp_slice import extend
from rtl.tech.ultrascale import carry_chain

__all__ = ["MULTIPLIERS", "GenericLut", "LutMultiplyAdd", "Squarer", "UltrascaleLut"]

#: What a unit's multipliers may be made of.
MULTIPLIERS = ("dsp", "lut")

#: LUT6: I0 ^ (0, I1, I2, I3)[I5, I4].
_MULTIPLE_SUM = sum(((address ^ (address & 0b1110) >> (address >> 4)) & 1) << address for address in range(64))


class GenericLut:
    """Plain arithmetic."""

    def add_multiple(self, m, plain, once, thrice, digit, width):
        """plain + digit * once, all signed but the digit 0..3; ``thrice`` is 3 * once."""
        return (plain + Array([0, once, once << 1, thrice])[digit])[:width].as_signed()


class UltrascaleLut:
    """Explicit primitives."""

    def add_multiple(self, m, plain, once, thrice, digit, width):
        """One LUT per bit: the addend's bit is chosen in the LUT that adds it."""
        plain, once, thrice = (extend(m, value, width) for value in (plain, once, thrice))
        sums = []
        for index in range(width):
            choices = [once[index], once[index - 1] if index else Const(0, 1), thrice[index]]
            pins = {f"i_I{k}": value for k, value in enumerate([plain[index], *choices, digit[0], digit[1]])}
            o = Signal()
            m.submodules += Instance("LUT6", p_INIT=Const(_MULTIPLE_SUM, 64), o_O=o, **pins)
            sums.append(o)
        return carry_chain(m, sums, list(plain)).as_signed()


def _later(m, value, cycles=1):
    for _ in range(cycles):
        later = Signal(value.shape(), reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value


def _signed_bits(low, high):
    """Bits of the narrowest signed number that holds low..high."""
    return max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1


def row_bits(sum_bits, b_bits, c_bits=1):
    """Width law of a `LutMultiplyAdd`'s rows, a LUT per bit: the sum so far less its two lowest bits, and at most 3 * (a + d)."""
    once, high = 1 << (sum_bits - 1), 1 << (c_bits - 1)
    low, high, found = -high, high - 1, []
    for _ in range(b_bits // 2):
        low, high = low - 3 * once, high + 3 * (once - 1)
        found.append(_signed_bits(low, high))
        low, high = low >> 2, high >> 2
    return found


class LutMultiplyAdd(wiring.Component):
    """p = (a + d) * b + c, b unsigned, a result every cycle: the work of `rtl.tech.dsp48e2.MultiplyAdd` without a slice.

    Two bits of b per cycle: one LUT per bit of the running sum chooses 0, 1, 2 or 3 times a + d and adds it.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`
    sum_bits : of a, of d and of their sum, which must fit
    b_bits : even
    c_bits : c is the sum that the first row adds to

    Members
    -------
    a, d : In(signed(sum_bits))        b : In(unsigned(b_bits))        c : In(signed(c_bits))        p : Out(signed(p_bits))

    Timing
    ------
    All operands come in the same cycle; p follows `latency` = 2 + b_bits / 2 cycles later: the sum, three times the sum, and the rows.
    It never stalls.

    Resources: b_bits / 2 rows of about sum_bits + 3 LUTs, and 2 * sum_bits for a + d and three times that.

    Raises
    ------
    ValueError : b_bits is odd.
    """

    def __init__(self, technology, *, sum_bits, b_bits=16, c_bits=1):
        if b_bits < 2 or b_bits % 2:
            raise ValueError(f"b_bits must be even, two per row: got {b_bits}; add one")
        self.technology, self.sum_bits, self.b_bits = technology, sum_bits, b_bits
        self.latency = self.latency_of(b_bits)
        self.row_bits = row_bits(sum_bits, b_bits, c_bits)
        p_bits = self.row_bits[-1] + b_bits - 2
        super().__init__(
            {"a": In(signed(sum_bits)), "d": In(signed(sum_bits)), "b": In(b_bits), "c": In(signed(c_bits)), "p": Out(signed(p_bits))}
        )

    @staticmethod
    def latency_of(b_bits):
        """Cycles of a multiplier by so many bits."""
        return 2 + b_bits // 2

    def elaborate(self, platform):
        m = Module()
        first = Signal(signed(self.sum_bits), reset_less=True)
        thrice = Signal(signed(self.sum_bits + 2), reset_less=True)
        m.d.sync += [
            # a + d fits by contract
            first.eq(self.technology.add_signed(m, [(self.a, False), (self.d, False)], self.sum_bits)),
            thrice.eq(self.technology.add_signed(m, [(first, False), ((first << 1).as_signed(), False)], self.sum_bits + 2)),
        ]
        once, running, settled = _later(m, first), _later(m, self.c, 2), []
        for row, bits in enumerate(self.row_bits):
            digit = _later(m, self.b[2 * row : 2 * row + 2], 2 + row)
            total = Signal(signed(bits), name=f"row_{row}", reset_less=True)
            m.d.sync += total.eq(self.technology.add_multiple(m, running, once, thrice, digit, bits))
            once, thrice = _later(m, once), _later(m, thrice)
            running = total[2:].as_signed()
            settled.append(_later(m, total[:2], len(self.row_bits) - 1 - row))
        m.d.comb += self.p.eq(Cat(*settled, running).as_signed())
        return m


class Squarer(wiring.Component):
    """o = a * a of an unsigned number of 12 bits, a result every cycle.

    a = 64 h + l: the squares of h and l are tables of six inputs and lie side by side; h * l is four tables of 3 x 3 bits.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`

    Members
    -------
    a : In(12)        o : Out(24)

    Timing
    ------
    `latency` = 3: the tables, the sum of h * l, the sum.
    """

    bits = 12
    latency = 3

    def __init__(self, technology):
        self.technology = technology
        super().__init__({"a": In(self.bits), "o": Out(2 * self.bits)})

    def elaborate(self, platform):
        m = Module()
        low, high = self.a[:6], self.a[6:]
        squares = Signal(24, reset_less=True)
        m.d.sync += squares.eq(Cat(*(self.technology.table(m, [value * value for value in range(64)], part) for part in (low, high))))
        ends, cross, crossed = (self._products(m, *pairs) for pairs in self._thirds(low, high))
        middle, total = Signal(12, reset_less=True), Signal(17, reset_less=True)
        m.d.sync += [
            middle.eq(Cat(ends[:3], self.technology.add(m, [ends[3:], cross, crossed], unsigned(9)))),  # at most 63 * 63
            total.eq(self.technology.add(m, [_later(m, squares)[7:], middle], unsigned(17))),
        ]
        m.d.comb += self.o.eq(Cat(_later(m, squares[:7], 2), total))
        return m

    def _thirds(self, low, high):
        """Pairs of 3 bits to multiply: those of weights 1 and 64, which do not overlap; then the two of weight 8."""
        return [(low[:3], high[:3]), (low[3:], high[3:])], [(low[:3], high[3:])], [(low[3:], high[:3])]

    def _products(self, m, *pairs):
        values = [(index & 7) * (index >> 3) for index in range(64)]
        products = Signal(6 * len(pairs), reset_less=True)
        m.d.sync += products.eq(Cat(*(self.technology.table(m, values, Cat(*pair)) for pair in pairs)))
        return products
