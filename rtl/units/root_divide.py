"""dividend // isqrt(radicand): a square root, then a division, in one subtract-and-shift datapath."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.units.protocol import delay, require


@dataclass(frozen=True, kw_only=True)
class RootDivideConfig:
    """
    Parameters
    ----------
    radicand_bits : even
    dividend : constant
    quotient_bits : the quotient is limited to 2**quotient_bits - 1; at least radicand_bits / 2
    """

    radicand_bits: int = 42
    dividend: int = 1 << 33
    quotient_bits: int = 26

    def __post_init__(self) -> None:
        require(self.radicand_bits % 2 == 0, "radicand_bits must be even", self.radicand_bits, "add one")
        require(self.quotient_bits >= self.root_bits, "quotient_bits must be at least radicand_bits / 2", self.quotient_bits, "use more")
        require(
            self.dividend >= 1 << self.quotient_bits,
            "dividend must be at least 2**quotient_bits, so that a root of 0 and of 1 give the limit",
            self.dividend,
            "use fewer quotient_bits",
        )
        require(
            self.dividend >> self.quotient_bits < 1 << (self.root_bits + 1),
            "dividend must be below 2**(quotient_bits + radicand_bits / 2 + 1)",
            self.dividend,
            "use more quotient_bits",
        )

    @property
    def root_bits(self) -> int:
        return self.radicand_bits // 2

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``done``."""
        return self.root_bits + self.quotient_bits + 2

    def build(self) -> RootDivide:
        return RootDivide(self)


class RootDivide(wiring.Component):
    """min(dividend // max(isqrt(radicand), 1), 2**quotient_bits - 1) by two restoring digit recurrences.

    Parameters
    ----------
    config : RootDivideConfig

    Members
    -------
    start : In(1)
    radicand : In(radicand_bits), with ``start``
    done : Out(1): one cycle
    quotient : Out(quotient_bits), valid with ``done`` and until the next ``start``

    Timing
    ------
    ``done`` follows ``start`` by ``latency`` = radicand_bits / 2 + quotient_bits + 2 cycles; the next ``start`` may come in the cycle of
    ``done``. One digit per cycle: n = radicand_bits / 2 of the root, then quotient_bits + 1 of the quotient, whose first one says that it
    must be limited. No reset but for ``start``.

    How one datapath serves both. ``upper:lower`` shifts left once per cycle and ``upper`` then has ``subtrahend`` taken away if it can.
    Root: the digit moves instead of the remainder, so that after each shift the subtrahend is 2 * root + digit, digit = 2**i.
    Division: the divisor is that same 2 * root, digit = 0, so the dividend stands one place further left, where its lookahead bit
    cannot turn a comparison with an even number.

    Raises
    ------
    InputError : sizes for which the two recurrences do not share their registers.

    Source: model/integer.py, isqrt and layernorm_statistics.
    """

    def __init__(self, config: RootDivideConfig):
        self.config = config
        self.latency = config.latency
        super().__init__(
            {
                "start": In(1),
                "radicand": In(config.radicand_bits),
                "done": Out(1),
                "quotient": Out(config.quotient_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        root_bits, quotient_bits = self.config.root_bits, self.config.quotient_bits
        upper, lower = Signal(root_bits + 1, reset_less=True), Signal(quotient_bits, reset_less=True)
        twice_root, digit = Signal(root_bits + 1, reset_less=True), Signal(root_bits, reset_less=True)
        root_ends, division_starts, limited = digit[0], Signal(reset_less=True), Signal(reset_less=True)

        minuend = Cat(lower[-1], upper)
        difference = Signal(root_bits + 3)
        m.d.comb += difference.eq(minuend - (twice_root | digit))
        enough = ~difference[-1]

        m.d.sync += [
            upper.eq(Mux(enough, difference, minuend)),
            lower.eq(Cat(enough | limited, lower)),
            digit.eq(digit >> 1),
            division_starts.eq(root_ends),
            limited.eq(limited | (division_starts & enough)),
        ]
        with m.If(enough):
            m.d.sync += twice_root.eq(twice_root | (digit << 1))
        with m.If(self.start):
            m.d.sync += [
                Cat(lower, upper).eq(self.radicand << (quotient_bits - root_bits)),
                twice_root.eq(0),
                digit.eq(1 << (root_bits - 1)),
                limited.eq(0),
            ]
        with m.If(root_ends):  # never with start; last, so that it becomes the set and reset of the registers
            m.d.sync += Cat(lower, upper).eq(Const(self.config.dividend, quotient_bits + root_bits + 1))
        m.d.comb += [
            self.done.eq(delay(m, division_starts, quotient_bits + 1, name="division")),
            self.quotient.eq(lower),
        ]
        return m
