"""dividend // isqrt(radicand): a square root, then a division, in one adder; both operands arrive bit by bit."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.statistics_bus import RootStep
from rtl.units.protocol import require


@dataclass(frozen=True, kw_only=True)
class RootDivideConfig:
    """
    Parameters
    ----------
    radicand_bits : even
    dividend : constant
    quotient_bits : the quotient is limited to 2**quotient_bits - 1
    """

    radicand_bits: int = 42
    dividend: int = 1 << 33
    quotient_bits: int = 26

    def __post_init__(self) -> None:
        require(self.radicand_bits % 2 == 0, "radicand_bits must be even", self.radicand_bits, "add one")
        require(
            self.dividend >= 1 << self.quotient_bits,
            "dividend must be at least 2**quotient_bits, so that a root of 0 and of 1 give the limit",
            self.dividend,
            "use fewer quotient_bits",
        )

    @property
    def root_bits(self) -> int:
        return self.radicand_bits // 2

    @property
    def dividend_bits(self) -> int:
        return self.dividend.bit_length()

    @property
    def latency(self) -> int:
        """Cycles from the first bit of the radicand until the quotient is there."""
        return self.radicand_bits + self.dividend_bits + 2

    def step(self, cycle: int) -> dict[str, int]:
        """`RootStep` in ``cycle``, counted from the first bit of the radicand: -1 (start) .. latency - 1."""
        root, division = self.radicand_bits, cycle - self.radicand_bits - 1
        dividing = 0 <= division < self.dividend_bits
        return {
            "start": cycle == -1,
            "clear": cycle in (-1, root),
            "shift": 0 < cycle <= root and cycle % 2 == 0,
            "add": dividing or (0 <= cycle < root and cycle % 2 == 1),
            "divide": dividing,
            "bit": dividing and self.dividend >> (self.dividend_bits - 1 - division) & 1,
            "head": 1 <= division <= self.dividend_bits - self.quotient_bits,
        }

    def build(self) -> RootDivide:
        return RootDivide(self)


class RootDivide(wiring.Component):
    """min(dividend // isqrt(radicand), 2**quotient_bits - 1) by two non-restoring digit recurrences; a root of 0 gives the limit.

    Parameters
    ----------
    config : RootDivideConfig

    Members
    -------
    step : In(RootStep), `RootDivideConfig.step` of each cycle
    radicand : In(1), its bits, most significant first
    quotient : Out(quotient_bits), valid in cycle ``latency`` (of the first bit of the radicand) and in no other

    Timing
    ------
    A bit per cycle: 2n cycles of the radicand, one pause, then the dividend's bits. ``latency`` = 2n + bits of the dividend + 2.

    How one adder serves both. The remainder doubles every cycle, and takes in a bit. Root: in every second cycle the trial is taken away,
    4 * root + 1, or, when the remainder is negative, 4 * root + 3 is added. In two's complement -(4q + 1) is ~q above two ones, so both
    are (q ^ sign) above two ones and need no carry. Division: by 4 * root, the dividend's bits enter at place 2, and the two ones and a
    third at place 0 are the carry of the subtraction. The digit is 1 when the new remainder is not negative, as in restoring division.
    After a root of 0 the remainder overflows, but the first digit has already said that the quotient is limited.

    Raises
    ------
    InputError : an odd radicand, or a dividend below the limit.

    Source: model/integer.py, isqrt and layernorm_statistics.
    """

    def __init__(self, config: RootDivideConfig):
        self.config = config
        self.latency = config.latency
        super().__init__({"step": In(RootStep), "radicand": In(1), "quotient": Out(config.quotient_bits)})

    def elaborate(self, platform):
        m = Module()
        root_bits, step = self.config.root_bits, self.step
        remainder, root = Signal(root_bits + 3, reset_less=True), Signal(root_bits, reset_less=True)
        quotient, limited = Signal(self.config.quotient_bits, reset_less=True), Signal(reset_less=True)
        negative = remainder[-1]
        low, carry = Signal(), Signal()
        m.d.comb += [
            low.eq(step.add & ~(step.divide & negative)),
            carry.eq((step.divide & ~negative) | (~step.divide & self.radicand)),
        ]
        doubled = Cat(carry, remainder[0], remainder[1] | step.bit, remainder[2:-1])
        operand = Cat(low, low, (root ^ (~negative).replicate(root_bits)) & step.add.replicate(root_bits), ~negative & step.add)
        m.d.sync += [remainder.eq((doubled + operand)[: len(remainder)]), quotient.eq(Cat(~negative | limited, quotient))]
        with m.If(step.head & ~negative):
            m.d.sync += limited.eq(1)
        with m.If(step.shift):
            m.d.sync += root.eq(Cat(~negative, root))
        with m.If(step.clear):
            m.d.sync += remainder.eq(0)
        with m.If(step.start):
            m.d.sync += [root.eq(0), limited.eq(0)]
        m.d.comb += self.quotient.eq(quotient)
        return m
