"""The residual stream's adder: `model.integer.add_residual`."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from model.integer import RESIDUAL_BITS
from rtl.units.protocol import delay, narrow

TERMS = data.StructLayout({"residual": signed(RESIDUAL_BITS), "update": signed(RESIDUAL_BITS)})


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """Nothing to choose: the residual stream has 16 bits at every precision."""

    def build(self) -> Residual:
        return Residual(self)


class Residual(wiring.Component):
    """Saturating sum of two signed 16-bit values, or a third value in its place.

    Parameters
    ----------
    config : ResidualConfig

    Members
    -------
    i : In(stream of {residual: signed 16, update: signed 16})
    replace, replacement : In(1), In(signed 16): with i, the output is the replacement
    o : Out(stream of signed 16)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 1 cycle. Only ``valid`` is reset.

    Resources, yosys, before place-and-route: 24 LUT, 17 FF.

    Source: model/integer.py, add_residual.
    """

    OFFSETS = {}
    latency = 1

    def __init__(self, config: ResidualConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(TERMS, always_ready=True)),
                "replace": In(1),
                "replacement": In(signed(RESIDUAL_BITS)),
                "o": Out(stream.Signature(signed(RESIDUAL_BITS), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        total = self.i.p.residual + self.i.p.update
        saturated = narrow(m, total, signed(RESIDUAL_BITS), name="saturated")
        m.d.sync += self.o.payload.eq(Mux(self.replace, self.replacement, saturated))
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))
        return m
