"""The phases of POOL and NORM, each a walk over channels or a pause."""

from __future__ import annotations

import enum
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.head_command import CHANNEL_BITS, HEAD_COMMAND, WORD_ADDRESS_BITS, HeadKind
from rtl.efficientvit.head_norm import ROOT_CYCLES, HeadNorm
from rtl.efficientvit.pool_sums import PoolSums
from rtl.units.protocol import delay

_LANE_BITS = CHANNEL_BITS - WORD_ADDRESS_BITS
_LEFT_BITS = CHANNEL_BITS + 2
#: From a value's address to the value; from ``start`` to what chooses the first phase.
FETCH, BEGIN = 3, 2


class Phase(enum.IntEnum):
    """In the order of a command; POOL's are SETTLE, CODES and DRAIN, those of a NORM without statistics CODES and DRAIN."""

    SETTLE = 0
    SUM = 1
    SUMMED = 2
    MEAN = 3
    SQUARE = 4
    SQUARED = 5
    ROOT = 6
    CODES = 7
    DRAIN = 8


def pauses(drain: int) -> dict[Phase, int]:
    """Cycles of the phases that do not depend on the command. drain : from the last channel's address to its code in the memory."""
    return {
        Phase.SETTLE: PoolSums.settle,
        Phase.SUMMED: FETCH,
        Phase.SQUARED: FETCH + HeadNorm.squared,
        Phase.ROOT: ROOT_CYCLES,
        Phase.DRAIN: drain,
    }


def cycles(drain: int, *, words: int, channels: int = 0, inverse_shift: int = 0, pool: bool = False) -> int:
    """Of a POOL; of a NORM with statistics of so many ``channels``, or without if 0: from ``start`` until ``done``."""
    fixed, count = pauses(drain), BEGIN + 1 + 32 * words + drain
    if pool:
        return count + fixed[Phase.SETTLE]
    return count + (2 * channels + inverse_shift + sum(fixed[p] for p in (Phase.SUMMED, Phase.SQUARED, Phase.ROOT)) if channels else 0)


class HeadWalk(wiring.Component):
    """Goes through the phases of a command.

    Parameters
    ----------
    drain : see `pauses`

    Members
    -------
    start : In(1)        command : In(HEAD_COMMAND), stable from ``start`` to ``done``
    phase : Out(9): one of its bits, a `Phase`, or none        ends : Out(1): the phase's last cycle        channel : Out(12)
    done : Out(1): strobe, in the cycle after the last phase

    Timing
    ------
    The first phase begins 3 cycles after ``start``. A channel per cycle in SUM, SQUARE and CODES; see `cycles`.
    """

    def __init__(self, drain: int):
        self.drain = drain
        super().__init__(
            {
                "start": In(1),
                "command": In(HEAD_COMMAND),
                "phase": Out(len(Phase)),
                "ends": Out(1),
                "channel": Out(CHANNEL_BITS),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        phase = self.phase
        count, origin, first = self._coming(m)
        begins = delay(m, self.start, BEGIN, name="begins", reset=True)
        left = Signal(_LEFT_BITS, reset_less=True)  # cycles after this one, less one: the sign tells the last
        load = self.ends | begins
        m.d.comb += self.ends.eq(left[-1])
        m.d.sync += [
            left.eq(Mux(load, count, left - 1)),
            self.channel.eq(Mux(load, origin, self.channel + 1)),
            self.done.eq(self.ends & phase[Phase.DRAIN]),
        ]
        before = {which: phase[which - 1] for which in Phase if which > Phase.SUM} | {Phase.SETTLE: 0, Phase.SUM: 0}
        before[Phase.CODES] = before[Phase.CODES] | phase[Phase.SETTLE]
        for which in Phase:
            m.d.sync += phase[which].eq(Mux(begins, first[which], Mux(self.ends, before[which], phase[which])))
        return m

    def _coming(self, m):
        """Cycles, less two, and first channel of the phase after this one, from the phase's third cycle on; none is shorter than that.
        Of no phase: of the command's first one, which comes last."""
        command, phase = self.command, self.phase
        pool = command.kind == HeadKind.POOL
        first = Signal(len(Phase), reset_less=True)
        entry = {Phase.SETTLE: pool, Phase.SUM: ~pool & command.statistics, Phase.CODES: ~pool & ~command.statistics}
        m.d.sync += [first[which].eq(condition) for which, condition in entry.items()]
        channels, codes, shifts = (Signal(_LEFT_BITS, name=name, reset_less=True) for name in ("channels", "codes", "shifts"))
        start = Signal(CHANNEL_BITS, reset_less=True)
        m.d.sync += [
            channels.eq(command.channels - 2),
            codes.eq((command.words << _LANE_BITS) - 2),
            shifts.eq(command.inverse_shift - 2),
            start.eq(Cat(Const(0, _LANE_BITS), command.first)[:CHANNEL_BITS]),
        ]
        counts = {which: Const(count - 2, _LEFT_BITS) for which, count in pauses(self.drain).items()}
        counts |= {Phase.SUM: channels, Phase.MEAN: shifts, Phase.SQUARE: channels, Phase.CODES: codes}
        count, origin = Signal(_LEFT_BITS, reset_less=True), Signal(CHANNEL_BITS, reset_less=True)
        idle = Signal(reset_less=True)  # a cycle late, too
        m.d.sync += idle.eq(~phase.any())
        comes = {which: (idle & first[which]) | (phase[which - 1] if which > Phase.SUM else 0) for which in Phase}
        comes[Phase.CODES] = comes[Phase.CODES] | phase[Phase.SETTLE]
        chosen = [counts[which] & comes[which].replicate(_LEFT_BITS) for which in Phase]
        m.d.sync += [
            count.eq(reduce(or_, chosen)),
            origin.eq(Mux(comes[Phase.CODES], start, 0)),
        ]
        return count, origin, first
