"""A tree that adds three operands per adder, with a register after every level."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.shapes import ceil_div, unsigned_for
from rtl.tech.technology import Technology


def tree_levels(operands: int) -> int:
    """Levels (= cycles) of a ternary tree: each divides the count by three, rounding up, until one is left."""
    levels = 0
    while operands > 1:
        operands, levels = ceil_div(operands, 3), levels + 1
    return levels


def tree_cost(operands: int, maximum: int) -> Cost:
    """Of `registered_sum`: a LUT and a register per bit of a sum, a register per bit of what is passed on."""
    return tree_cost_of([maximum] * operands)


def tree_cost_of(bounds: list[int]) -> Cost:
    """The same of operands of different bounds."""
    lut = ff = 0
    while len(bounds) > 1:
        triples = [bounds[index : index + 3] for index in range(0, len(bounds), 3)]
        bounds = [sum(triple) for triple in triples]
        widths = [bound.bit_length() for bound in bounds]
        lut += sum(width for width, triple in zip(widths, triples, strict=True) if len(triple) > 1)
        ff += sum(widths)
    return Cost(lut=lut, ff=ff)


class TernaryTree(wiring.Component):
    """Sum of `operands` unsigned numbers of at most `maximum` each; one result per cycle.

    Every sum is as wide as its largest value, so nothing overflows and nothing is wasted. (Python's ``sum()`` would give a serial
    chain that widens at every term.)

    Parameters
    ----------
    operands : how many numbers, at least 1
    maximum : the largest value of each
    technology : builds the adders: ``add(m, terms, shape)`` with two or three unsigned terms

    Members
    -------
    i : the operands
    o : their sum, ``latency = tree_levels(operands)`` cycles later

    Raises
    ------
    ValueError : no operands
    """

    def __init__(self, *, operands: int, maximum: int, technology: Technology):
        if operands < 1:
            raise ValueError(f"operands must be at least 1: {operands} is not; a tree adds something")
        self.operands, self.maximum, self.technology = operands, maximum, technology
        self.latency = tree_levels(operands)
        super().__init__(
            {
                "i": In(data.ArrayLayout(unsigned_for(maximum), operands)),
                "o": Out(unsigned_for(operands * maximum)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        terms = [(self.i[index], self.maximum) for index in range(self.operands)]
        m.d.comb += self.o.eq(registered_sum(m, terms, self.technology))
        return m


def registered_sum(m: Module, terms: list, technology: Technology, name: str = "sum") -> Value:
    """Sum of unsigned (value, maximum) terms, ``tree_levels(len(terms))`` cycles later, as wide as the sum of the maxima needs."""
    level = 0
    while len(terms) > 1:
        triples = [terms[index : index + 3] for index in range(0, len(terms), 3)]
        terms = [_node(m, triple, technology, f"{name}_{level}_{index}") for index, triple in enumerate(triples)]
        level += 1
    return terms[0][0]


def _node(m: Module, terms: list, technology: Technology, name: str) -> tuple:
    """Register the sum of one to three (value, maximum) terms; returns the same kind of pair."""
    maximum = sum(bound for _, bound in terms)
    register = Signal(unsigned_for(maximum), name=name, reset_less=True)
    values = [value for value, _ in terms]
    m.d.sync += register.eq(values[0] if len(values) == 1 else technology.add(m, values, register.shape()))
    return register, maximum
