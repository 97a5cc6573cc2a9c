"""DSP48E2 slices whose result is an operand of the next one: `RunningSquares`, `Horner` and `StatisticsProduct`.

Controls are skewed: each is sampled in the cycle in which the slice's stage uses it, so that nothing in a row delays them.
Registers have no reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from rtl.tech.dsp_slice import adder, extend, multiplier, opmode_bits

__all__ = ["GenericRunning", "Horner", "Operation", "RunningSquares", "StatisticsProduct", "UltrascaleRunning"]


class Operation(enum.Enum, shape=2):
    """What `StatisticsProduct` adds to its product; ``DOUBLE`` has no product. The codes select the slice's W multiplexer."""

    NONE = 0
    DOUBLE = 1
    CONSTANT = 2
    C = 3


class RunningSquares(wiring.Component):
    """p = (restart ? 0 : p) + x * x.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`

    Members
    -------
    x : In(signed(18)), cycle 0        enable, restart : In(1), cycle `CONTROL` = 3        p : Out(signed(48)), cycle `latency` = 4
    """

    CONTROL = 3
    latency = 4

    def __init__(self, technology):
        self.technology = technology
        super().__init__({"x": In(signed(18)), "enable": In(1), "restart": In(1), "p": Out(signed(48))})

    def elaborate(self, platform):
        m = Module()
        self.technology.running_squares(m, self)
        return m


class Horner(wiring.Component):
    """p = (first ? 0 : 2 * p) + x - y.

    Members
    -------
    x, y : In(signed(47)), cycle 0        first : In(1), cycle 1        p : Out(signed(48)), cycle `latency` = 2
    """

    latency = 2

    def __init__(self, technology):
        self.technology = technology
        super().__init__({"x": In(signed(47)), "y": In(signed(47)), "first": In(1), "p": Out(signed(48))})

    def elaborate(self, platform):
        m = Module()
        self.technology.horner(m, self)
        return m


class StatisticsProduct(wiring.Component):
    """p = (use_a * a + use_d * d) * b + (nothing, a constant, or c), or 2 * p.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`        constant : added by `Operation.CONSTANT`

    Members
    -------
    a : In(signed(27)), a_load : In(1); c : In(signed(48)), c_load : In(1): kept while load is 0
    d : In(signed(27))        b : In(signed(18))        zero_a, use_d : In(1)        operation : In(Operation)
    p : Out(signed(48))

    Timing
    ------
    Cycles from port to p: a, d, b: 4; zero_a, use_d: 3; c: 2; operation: 1.
    """

    def __init__(self, technology, *, constant):
        self.technology, self.constant = technology, constant
        super().__init__(
            {
                "a": In(signed(27)),
                "a_load": In(1),
                "c": In(signed(48)),
                "c_load": In(1),
                "d": In(signed(27)),
                "b": In(signed(18)),
                "zero_a": In(1),
                "use_d": In(1),
                "operation": In(Operation),
                "p": Out(signed(48)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self.technology.statistics_product(m, self)
        return m


def _later(m, value, cycles=1):
    for _ in range(cycles):
        later = Signal(value.shape(), reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value


class GenericRunning:
    """Plain arithmetic with the slice's registers."""

    def running_squares(self, m, unit):
        p = Signal(signed(48), reset_less=True)
        square = _later(m, extend(m, unit.x * unit.x, 36), 3)
        with m.If(unit.enable):
            m.d.sync += p.eq(square + Mux(unit.restart, 0, p))
        m.d.comb += unit.p.eq(p)

    def horner(self, m, unit):
        p = Signal(signed(48), reset_less=True)
        m.d.sync += p.eq(Mux(unit.first, 0, p << 1) + _later(m, unit.x) - _later(m, unit.y))
        m.d.comb += unit.p.eq(p)

    def statistics_product(self, m, unit):
        p = Signal(signed(48), reset_less=True)
        a, c = Signal(signed(27), reset_less=True), Signal(signed(48), reset_less=True)
        with m.If(unit.a_load):
            m.d.sync += a.eq(unit.a)
        with m.If(unit.c_load):
            m.d.sync += c.eq(unit.c)
        added = extend(m, Mux(unit.zero_a, 0, a) + Mux(unit.use_d, _later(m, unit.d), 0), 27)
        product = _later(m, extend(m, _later(m, added) * _later(m, unit.b, 2), 45))
        with m.Switch(unit.operation):
            with m.Case(Operation.NONE):
                m.d.sync += p.eq(product)
            with m.Case(Operation.DOUBLE):
                m.d.sync += p.eq(p << 1)
            with m.Case(Operation.CONSTANT):
                m.d.sync += p.eq(product + unit.constant)
            with m.Case(Operation.C):
                m.d.sync += p.eq(product + c)
        m.d.comb += unit.p.eq(p)


class UltrascaleRunning:
    """Explicit slices. An inverted OPMODE bit costs nothing: the slice has its own inverters."""

    def running_squares(self, m, unit):
        opmode = opmode_bits(z=(0, unit.restart, 0), y=(0, 1), x=(0, 1))
        p, _ = multiplier(
            m, "dsp", a=unit.x, b=unit.x, d=Const(0, signed(27)), opmode=opmode, p_IS_OPMODE_INVERTED=Const(1 << 5, 9), i_CEP=unit.enable
        )
        m.d.comb += unit.p.eq(p)

    def horner(self, m, unit):
        """x + ~y + 1, with the slice's carry; W and Z each add p."""
        opmode = opmode_bits(w=(0, unit.first), z=(0, unit.first, 0), y=(1, 1), x=(1, 1))
        p, _ = adder(m, "dsp", word=unit.x, c=~unit.y, opmode=opmode, p_IS_OPMODE_INVERTED=Const(1 << 7 | 1 << 5, 9), i_CARRYIN=Const(1, 1))
        m.d.comb += unit.p.eq(p)

    def statistics_product(self, m, unit):
        double = Signal()
        m.d.comb += double.eq(unit.operation == Operation.DOUBLE)
        code = unit.operation.as_value()
        opmode = opmode_bits(w=(code[1], code[0]), z=(0, double, 0), y=(0, double), x=(0, double))
        p, _ = multiplier(
            m,
            "dsp",
            a=unit.a,
            b=unit.b,
            d=unit.d,
            c=unit.c,
            opmode=opmode,
            p_IS_OPMODE_INVERTED=Const(0b101, 9),
            p_RND=Const(unit.constant, 48),
            i_INMODE=Cat(Const(0, 1), unit.zero_a, unit.use_d, Const(0, 2)),
            i_CEA2=unit.a_load,
            i_CEC=unit.c_load,
        )
        m.d.comb += unit.p.eq(p)
