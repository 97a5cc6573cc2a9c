"""The control of `LayerNormStatistics`: made once, in front of row 0."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.statistics_bus import statistics_control
from rtl.tech.dsp_running import Operation, RunningSquares
from rtl.units.protocol import delay
from rtl.units.root_divide import RootDivideConfig

#: Cycles after a token's last value. The slice's operands and results, see `LayerNormStatistics`.
CAPTURE = 1
MEAN = CAPTURE + 5
SCALED = MEAN + 5
RADICAND = SCALED + 5


def finish_latency(root_divide: RootDivideConfig) -> int:
    """Cycles from ``last`` until the results can be read, and from one ``last`` to the next."""
    return RADICAND + root_divide.latency + 1


class StatisticsSequence(wiring.Component):
    """Everything that happens to a token after its last value has a fixed time: a counter says which.

    Parameters
    ----------
    root_divide : RootDivideConfig        token_bits : of a token's place

    Members
    -------
    valid, first, last : of the value of this cycle        token : of the token that ends with ``last``
    control : of this cycle

    Timing
    ------
    ``valid`` and ``first`` pass through. `finish_latency` from a ``last`` to the next.
    """

    def __init__(self, root_divide: RootDivideConfig, token_bits: int):
        self.root_divide, self.token_bits = root_divide, token_bits
        flags = {name: In(1) for name in ("valid", "first", "last")}
        super().__init__({**flags, "token": In(token_bits), "control": Out(statistics_control(token_bits))})

    def elaborate(self, platform):
        m = Module()
        control, end = self.control, RADICAND + self.root_divide.latency
        cycle, token = Signal(range(end + 1)), Signal(self.token_bits)
        with m.If(self.valid & self.last):
            m.d.sync += [cycle.eq(1), token.eq(self.token)]
        with m.Elif(cycle == end):
            m.d.sync += cycle.eq(0)
        with m.Elif(cycle != 0):
            m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += [
            control.valid.eq(self.valid),
            control.first.eq(self.first),
            control.square_valid.eq(delay(m, self.valid, RunningSquares.CONTROL, name="square_valid")),
            control.square_first.eq(delay(m, self.first, RunningSquares.CONTROL, name="square_first")),
            control.token.eq(token),
        ]
        with m.Switch(cycle):
            for now in range(1, end + 1):
                with m.Case(now):
                    self._set(m, now, end)
        return m

    def _set(self, m, now, end):
        control = self.control
        operations = ((MEAN, Operation.CONSTANT), (SCALED, Operation.NONE), (RADICAND, Operation.C))
        operation = next((code for until, code in operations if now < until), Operation.DOUBLE)
        m.d.comb += [
            control.sum1.eq(now == CAPTURE),
            control.sum2.eq(now == RunningSquares.latency),
            control.mean.eq(now == MEAN),
            control.scaled.eq(now == SCALED),
            control.zero_a.eq(MEAN <= now < SCALED),
            control.use_d.eq(now >= MEAN),
            control.operation.eq(operation),
            control.done.eq(now == end),
        ]
        m.d.comb += [control.root[name].eq(int(bit)) for name, bit in self.root_divide.step(now - RADICAND).items()]
