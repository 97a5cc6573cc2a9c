"""The residual stream's adder: `model.integer.add_residual`."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from model.integer import RESIDUAL_BITS
from rtl.tech.dsp48e2 import generic
from rtl.units.protocol import delay, narrow, require


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """
    Parameters
    ----------
    choices : memories of which one holds the residual
    technology : of the adder, see `rtl.tech.dsp48e2`
    """

    choices: int = 3
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.choices <= 15, "choices must be 1..15", self.choices, "use more rows")

    @property
    def select_bits(self) -> int:
        return max(1, ceil_log2(self.choices))

    @property
    def offsets(self) -> dict[str, int]:
        """Cycles from i until the other ports are sampled. More than three choices are chosen a cycle before."""
        early = -int(self.choices > 3)
        return {"residual": early, "select": early, "replace": 0, "replacement": 0}

    def build(self) -> Residual:
        return Residual(self)


class Residual(wiring.Component):
    """Saturating sum of two signed 16-bit values, the first of several choices; or a third value in its place.

    Parameters
    ----------
    config : ResidualConfig

    Members
    -------
    i : In(stream of signed 16), the update
    residual : In(signed 16).array(choices)        select : In(select_bits): which of them
    replace, replacement : In(1), In(signed 16): the output is the replacement
    o : Out(stream of signed 16)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 1 cycle. ``config.offsets`` gives the cycle in which each port is sampled. Only
    ``valid`` is reset. Up to three choices cost nothing: they share the adder's LUTs.

    Resources, 3 choices, yosys, before place-and-route: 33 LUT, 17 FF; 2 LUT levels and a carry chain, 1.6 ns in our model.

    Source: model/integer.py, add_residual.
    """

    latency = 1

    def __init__(self, config: ResidualConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(signed(RESIDUAL_BITS), always_ready=True)),
                "residual": In(signed(RESIDUAL_BITS)).array(config.choices),
                "select": In(config.select_bits),
                "replace": In(1),
                "replacement": In(signed(RESIDUAL_BITS)),
                "o": Out(stream.Signature(signed(RESIDUAL_BITS), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        choices, select = [self.residual[index] for index in range(self.config.choices)], self.select
        if self.config.offsets["select"]:
            chosen = Signal(signed(RESIDUAL_BITS), reset_less=True)
            m.d.sync += chosen.eq(Array(choices)[select])
            choices, select = [chosen], Const(0, 1)
        total = Signal(signed(RESIDUAL_BITS + 1))
        m.d.comb += total.eq(self.config.technology.add_selected(m, self.i.payload, choices, select, len(total)))
        saturated = narrow(m, total, signed(RESIDUAL_BITS), name="saturated")
        m.d.sync += self.o.payload.eq(Mux(self.replace, self.replacement, saturated))
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))
        return m
