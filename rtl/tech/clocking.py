"""How the DSP slices of a dot product are clocked: `single_rate`, a product per slice and cycle, or `double_rate`, two.

A clocking is what `rtl.units.int8_matmul` takes: how late each staggered lane comes, the latency, and the component with the ports of
`rtl.tech.dsp48e2.PairProduct`. Same sums of the same operands; stagger and latency differ.

Two clocks. ``sync`` is the fabric's. ``sync_2x`` has exactly twice its frequency, and an edge at every edge of ``sync``: both are outputs
of one MMCM, phase 0. So a cycle has two halves; the edge that ends the second half is an edge of both clocks, an aligned edge.
Every path between the domains is an ordinary path of one period of ``sync_2x``: timing analysis of the two clocks finds that by itself,
and no exception is needed or allowed. What keeps the crossings right:

* ``sync`` -> ``sync_2x``: a register, at most one 2:1 multiplexer (one LUT), a register. The source changes at aligned edges only, so the
  multiplexer reads a value that is still for the whole cycle, in whichever half its lane has its turn.
* ``sync_2x`` -> ``sync``: register to register, nothing between. At an aligned edge the last slice of a cascade holds the
  sums of the second lanes, and the register behind it those of the first.
* The phase is no state that could be lost: a bit that toggles in ``sync`` is sampled twice in ``sync_2x``, and the two samples differ in
  the second half of a cycle only. That is right in every cycle anew, from 3 + j fast cycles on for slice j: ahead of the end of any reset,
  which does not touch it.
* Within ``sync_2x``: one LUT level at most, and no carry chain outside the slices.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Signal, Value
from amaranth.lib import wiring

from rtl.errors import InputError
from rtl.tech.dsp48e2 import (
    CASCADE_LANES,
    PairCascade,
    PairProduct,
    PairUnit,
    add_tree,
    cascade_latency,
    delay,
    product_latency,
    product_stagger,
    tree_levels,
)

FAST_DOMAIN, FAST_CLOCK = "sync_2x", "clk_2x"


class Clocking(Protocol):
    """Parameters of the methods: ``lanes`` of the product, ``technology`` as in `rtl.tech.dsp48e2`."""

    def check(self, lanes: int) -> None:
        """Raises InputError if it has no such product."""
        ...

    def stagger(self, lanes: int) -> tuple[int, ...]:
        """Cycles that lane k of the staggered operand comes after the codes."""
        ...

    def latency(self, lanes: int) -> int:
        """Cycles from the codes to the sums."""
        ...

    def product(self, lanes: int, technology: object) -> wiring.Component: ...


class SingleRate:
    """A slice for each lane."""

    def check(self, lanes: int) -> None:
        pass

    def stagger(self, lanes: int) -> tuple[int, ...]:
        return product_stagger(lanes)

    def latency(self, lanes: int) -> int:
        return product_latency(lanes)

    def product(self, lanes: int, technology: object) -> wiring.Component:
        return PairProduct(lanes, technology, x_staggered=True)


class DoubleRate:
    """A slice for two lanes, j and j + lanes / 2. See `DoublePairProduct`."""

    def check(self, lanes: int) -> None:
        if lanes % (2 * CASCADE_LANES):
            raise InputError(f"inputs must be a multiple of {2 * CASCADE_LANES} at twice the clock: {lanes} is not; use 32")

    def stagger(self, lanes: int) -> tuple[int, ...]:
        places = [slice_ % CASCADE_LANES for slice_ in range(lanes // 2)]
        return (*(place // 2 for place in places), *((place + 1) // 2 for place in places))

    def latency(self, lanes: int) -> int:
        # A fast cycle for the multiplexer, then the cascade; the next aligned edge but one ends the second lanes' half, and hands over.
        return (1 + cascade_latency(CASCADE_LANES)) // 2 + 1 + tree_levels(lanes // CASCADE_LANES)

    def product(self, lanes: int, technology: object) -> wiring.Component:
        return DoublePairProduct(lanes, technology)


single_rate, double_rate = SingleRate(), DoubleRate()
#: By what ``--dsp-clock`` says: how many times as fast as the fabric.
CLOCKINGS: dict[int, Clocking] = {1: single_rate, 2: double_rate}


def drive_fast_domain(m: Module, clock: Value) -> None:
    """Makes ``sync_2x`` of a clock port. Its registers have no reset. The port is the domain's clock itself: a copy would come later than
    the other clock in a simulator that works in delta cycles."""
    domain = ClockDomain(FAST_DOMAIN, reset_less=True)
    domain.clk = clock
    m.domains += domain


class DoublePairProduct(PairUnit):
    """sum0 = sum of x0[k] y[k], sum1 = sum of x1[k] y[k], with a slice for two lanes: in half of each cycle it multiplies one of them.

    ::

        x0, x1 ------------>|2:1|->[fast]->| cascade of 8 |-+->[fast]->[sync]-> tree -> sum0, sum1
        y -> wait [sync] -->|   |  [     ]->| slices, fast | +--------->[sync]->
                              ^ phase, a register for each slice

    The slice at place p of a cascade works p fast cycles after the first: a lane of the first half of the lanes p // 2 cycles late, one of
    the second half (p + 1) // 2 late, in the halves of the cycle that alternate from place to place. So the cascade's waits of the codes
    are half as long as at the single rate.

    Parameters
    ----------
    lanes : int, a multiple of 16
    technology : see `rtl.tech.dsp48e2`

    Members
    -------
    Those of `PairProduct`; lane k of x0 and x1 comes ``double_rate.stagger(lanes)[k]`` cycles after y.

    Timing
    ------
    A product per cycle of ``sync``; it never stalls. Sums follow ``double_rate.latency(lanes)`` = 7 + ceil(log3(lanes / 8)) cycles after y.
    """

    def __init__(self, lanes: int, technology: object):
        super().__init__(lanes, technology, x_staggered=True)

    def elaborate(self, platform):
        m = Module()
        half = self.lanes // 2
        second = self._second(m, half)
        sums = ([], [])
        for start in range(0, half, CASCADE_LANES):
            cascade = PairCascade(CASCADE_LANES, self.technology, keep_offset=True, x_staggered=True, y_staggered=True)
            m.submodules[f"cascade{start // CASCADE_LANES}"] = DomainRenamer(FAST_DOMAIN)(cascade)
            for place in range(CASCADE_LANES):
                self._operands(m, cascade, place, start + place, second[start + place])
            for terms, total, flipped in ((sums[0], cascade.sum0, cascade.flipped), (sums[1], cascade.sum1, False)):
                terms += [(value, flipped) for value in self._hand_over(m, total)]
        m.d.comb += [total.eq(add_tree(m, terms, self.technology)) for total, terms in zip((self.sum0, self.sum1), sums, strict=True)]
        return m

    def _second(self, m, slices):
        """Per slice, whether the lane of the second half has its turn. It goes from slice to slice: fast, one register drives 24 bits."""
        toggle, sampled, before = (Signal(name=f"phase_{name}", reset_less=True) for name in ("toggle", "sampled", "before"))
        turns = [Signal(name=f"second_{number}", reset_less=True) for number in range(slices)]
        m.d.sync += toggle.eq(~toggle)
        m.d[FAST_DOMAIN] += [sampled.eq(toggle), before.eq(sampled), turns[0].eq(~(sampled ^ before))]
        m.d[FAST_DOMAIN] += [later.eq(turn) for turn, later in pairwise(turns)]
        return turns

    def _operands(self, m, cascade, place, lane, second):
        """Of one slice: x0, x1 and y of its two lanes in turn."""
        one, two = (
            Cat(self.x0[k], self.x1[k], delay(m, self.y[k], wait))
            for k, wait in ((lane, place // 2), (lane + self.lanes // 2, (place + 1) // 2))
        )
        operands = Signal(len(one), name=f"operands_{lane}", reset_less=True)
        m.d[FAST_DOMAIN] += operands.eq(self.technology.choose(m, second, one, two))
        m.d.comb += Cat(cascade.x0[place], cascade.x1[place], cascade.y[place]).eq(operands)

    def _hand_over(self, m, total):
        """A cascade's sums of both lanes, in ``sync``: the first lanes' one fast cycle older."""
        kept = Signal.like(total, name="kept", reset_less=True)
        first, second = (Signal.like(total, name=f"{name}_lanes", reset_less=True) for name in ("first", "second"))
        m.d[FAST_DOMAIN] += kept.eq(total)
        m.d.sync += [first.eq(kept), second.eq(total)]
        return first, second
