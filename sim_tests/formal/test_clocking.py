"""The slices at twice the clock: which operand reaches which slice in which half, and which sum which cycle; for all operands and ever.

Arithmetic is left out: a slice passes one bit of each operand on, in the place of its products, so that every bit of the sums says from
which lane and cycle it came. Both clocks are one here, and an edge of ``sync`` is every second one: what aligned edges are.
"""

import types

import pytest
from amaranth.hdl import Assert, Cat, DomainRenamer, EnableInserter, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.tech import clocking
from rtl.tech.dsp48e2 import CASCADE_LANES, cascade_latency, generic
from sim_tests.formal.prove import mutant, verdict
from sim_tests.units.test_clocking import MUTANTS

LANES = 16
#: Fast cycles after which what was there at first has left.
FLUSHED = 30


def later(m: Module, value, cycles: int, domain: str = "sync"):
    for _ in range(cycles):
        register = Signal.like(value, reset_less=True)
        m.d[domain] += register.eq(value)
        value = register
    return value


class Marks:
    """A technology whose slice at place k delays bit 0 of x0 and of y, 11 - k fast cycles as its cascade does, into bit k of the sums."""

    name, choose = "marks", generic.choose

    def pair_cascade(self, m, unit):
        for total, operands in ((unit.sum0, unit.x0), (unit.sum1, unit.y)):
            bits = [later(m, operands[k][0], cascade_latency(CASCADE_LANES) - k) for k in range(CASCADE_LANES)]
            m.d.comb += total.eq(Cat(bits))

    def add_signed(self, m, terms, width):
        return Cat(value[:CASCADE_LANES] for value, _ in terms).as_signed()


class Traced(wiring.Component):
    """Asserts that bit k of the sums is that of lane k in the cycle that the timing promises."""

    def __init__(self, module: types.ModuleType):
        self.module = module
        super().__init__({"marks": In(unsigned(LANES)), "codes": In(unsigned(LANES))})

    def elaborate(self, platform):
        m = Module()
        second_half, age = Signal(), Signal(range(FLUSHED + 1))
        m.d.sync += [second_half.eq(~second_half), age.eq(age + (age != FLUSHED))]
        rates, slow = self.module.double_rate, Module()
        slow.submodules.product = product = self.module.DoublePairProduct(LANES, Marks())
        marks, codes = Signal(LANES, reset_less=True), Signal(LANES, reset_less=True)
        slow.d.sync += [marks.eq(self.marks), codes.eq(self.codes)]  # operands are registers of `sync`
        right = []
        for k, late in enumerate(rates.stagger(LANES)):
            slow.d.comb += [product.x0[k].eq(marks[k]), product.y[k].eq(codes[k])]
            right.append(product.sum0[k] == later(slow, marks[k], rates.latency(LANES) - late))
            right.append(product.sum1[k] == later(slow, codes[k], rates.latency(LANES)))
        with slow.If(age == FLUSHED):
            slow.d.comb += Assert(Cat(right).all())
        m.submodules.slow = DomainRenamer({self.module.FAST_DOMAIN: "sync"})(EnableInserter(second_half)(slow))
        return m


@pytest.mark.slow
def test_every_operand_has_its_slice_and_every_sum_its_cycle() -> None:
    assert verdict(Traced(clocking), steps=FLUSHED) == "proved"


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTANTS)
def test_what_is_wrong_is_refuted(what: str) -> None:
    assert verdict(Traced(mutant("rtl.tech.clocking", *MUTANTS[what])), steps=FLUSHED + 3, induction=False) == "refuted"
