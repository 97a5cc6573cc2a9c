"""The control of `LayerNormStatistics`: made once, in front of row 0."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.statistics_bus import statistics_control
from rtl.tech.dsp48e2 import generic
from rtl.tech.dsp_running import Operation, RunningSquares
from rtl.units.protocol import delay
from rtl.units.root_divide import RootDivideConfig

#: Cycles after a token's last value. The slice's operands and results, see `LayerNormStatistics`.
CAPTURE = 1
MEAN = CAPTURE + 5
SCALED = MEAN + 5
RADICAND = SCALED + 5
#: Entries that one LUT holds.
_TABLE = 64


def finish_latency(root_divide: RootDivideConfig) -> int:
    """Cycles from ``last`` until the results can be read, and from one ``last`` to the next."""
    return RADICAND + root_divide.latency + 1


class StatisticsSequence(wiring.Component):
    """Everything that happens to a token after its last value has a fixed time: a counter says which.

    Parameters
    ----------
    root_divide : RootDivideConfig        token_bits : of a token's place        technology : of the tables, see `rtl.tech.dsp48e2`

    Members
    -------
    valid, first, last : of the value that comes ``LEAD`` cycles later        token : of the token that ends with ``last``
    control : of this cycle, from registers

    Timing
    ------
    `finish_latency` from a ``last`` to the next. What to do is looked up in two tables of 64 cycles, a LUT per bit each, and chosen from
    in the next cycle.
    """

    LEAD = 2

    def __init__(self, root_divide: RootDivideConfig, token_bits: int, technology: object = generic):
        self.root_divide, self.token_bits, self.technology = root_divide, token_bits, technology
        flags = {name: In(1) for name in ("valid", "first", "last")}
        super().__init__({**flags, "token": In(token_bits), "control": Out(statistics_control(token_bits))})

    def elaborate(self, platform):
        m = Module()
        end = RADICAND + self.root_divide.latency
        assert end < 2 * _TABLE
        cycle, running, ending, upper = Signal(7), Signal(), Signal(), Signal()
        token, held = Signal(self.token_bits), Signal(self.token_bits)
        m.d.sync += [ending.eq(cycle == end - 1), upper.eq(cycle[-1]), held.eq(token)]
        with m.If(self.valid & self.last):
            m.d.sync += [cycle.eq(1), running.eq(1), token.eq(self.token)]
        with m.Elif(ending):
            m.d.sync += [cycle.eq(0), running.eq(0)]
        with m.Elif(running):
            m.d.sync += cycle.eq(cycle + 1)
        halves = []
        for first in (0, _TABLE):
            half = Signal(self.control.shape().size, name=f"from_{first}")
            words = [self._word(now, end) for now in range(first, first + _TABLE)]
            m.d.sync += half.eq(self.technology.table(m, words, cycle[:-1]))
            halves.append(half)
        m.d.sync += [
            self.control.eq(Mux(upper, halves[1], halves[0])),
            self.control.token.eq(held),
        ]
        for name, value, later in (("valid", self.valid, 0), ("first", self.first, 0), ("square_valid", self.valid, RunningSquares.CONTROL),
                                   ("square_first", self.first, RunningSquares.CONTROL)):  # fmt: skip
            m.d.sync += self.control[name].eq(delay(m, value, self.LEAD - 1 + later, name=f"early_{name}"))
        return m

    def _word(self, now, end):
        """The control word of the cycle ``now`` after a token's last value; 0: nothing to do."""
        operations = ((MEAN, Operation.CONSTANT), (SCALED, Operation.NONE), (RADICAND, Operation.C))
        operation = next((code for until, code in operations if now < until), Operation.DOUBLE)
        busy = 0 < now <= end
        root = self.root_divide.step(now - RADICAND) if busy else {}
        fields = {
            "sum1": now == CAPTURE,
            "sum2": now == RunningSquares.latency,
            "mean": now == MEAN,
            "scaled": now == SCALED,
            "zero_a": MEAN <= now < SCALED,
            "use_d": busy and now >= MEAN,
            "done": now == end,
        }
        word = {name: int(value) for name, value in fields.items()} | {"root": {name: int(bit) for name, bit in root.items()}}
        return self.control.shape().const(word | ({"operation": operation} if busy else {})).as_bits()
