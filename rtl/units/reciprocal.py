"""`Reciprocal`: dividend // divisor, one bit per cycle, the dividend arriving bit by bit."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.integer import ATTENTION_DIVIDEND_BITS, RECIPROCAL_BITS

__all__ = ["DivideStep", "Reciprocal"]

#: ``bit`` of the dividend, most significant first; ``first`` comes before, in a cycle of its own.
DivideStep = data.StructLayout({"valid": 1, "first": 1, "bit": 1})


class Reciprocal(wiring.Component):
    """The reciprocal of `model.integer.attention`: ``dividend // total``, held while the next one is computed.

    Non-restoring: the remainder is added to when it is negative and subtracted from when it is not, so a step is one adder without a
    multiplexer. A quotient bit is 1 when the new remainder is not negative, exactly as in restoring division.

    Parameters
    ----------
    divisor_bits : int

    Members
    -------
    divisor : In(divisor_bits), not 0, stable while dividing
    i_step : In(DivideStep); ``first`` clears the remainder
    i_load : In(1), moves the quotient to `o`
    o : Out(RECIPROCAL_BITS): the quotient's low bits; the quotient fits when divisor > dividend >> RECIPROCAL_BITS (255 and up do)

    Timing
    ------
    `cycles` = ATTENTION_DIVIDEND_BITS steps after ``first``, with gaps anywhere; the quotient may be loaded in the cycle after the last.
    `o` changes one cycle after `i_load`.
    """

    cycles = ATTENTION_DIVIDEND_BITS

    def __init__(self, divisor_bits):
        self.divisor_bits = divisor_bits
        super().__init__({"divisor": In(divisor_bits), "i_step": In(DivideStep), "i_load": In(1), "o": Out(RECIPROCAL_BITS)})

    def elaborate(self, platform):
        m = Module()
        width = self.divisor_bits + 2  # 2 * remainder + bit
        remainder = Signal(signed(self.divisor_bits + 1), reset_less=True)
        quotient = Signal(RECIPROCAL_BITS, reset_less=True)
        subtract = Signal()
        shifted, operand, following = Signal(width), Signal(width), Signal(width)
        step = self.i_step
        m.d.comb += [
            subtract.eq(~remainder[-1]),
            shifted.eq(Cat(step.bit, remainder)),
            operand.eq(Cat(self.divisor, 0, 0) ^ subtract.replicate(width)),
            # The carry into the sum is 1 + subtract, one place below it: one adder.
            following.eq((Cat(1, shifted) + Cat(subtract, operand))[1:]),
        ]
        with m.If(step.valid):
            m.d.sync += [remainder.eq(following[:-1]), quotient.eq(Cat(~following[-1], quotient))]
        with m.If(step.first):
            m.d.sync += remainder.eq(0)
        with m.If(self.i_load):
            m.d.sync += self.o.eq(quotient)
        return m
