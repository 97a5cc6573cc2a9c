"""A unit with a part at twice the clock, as the top of a design."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.tech.clocking import FAST_CLOCK, drive_fast_domain


class TwoClocks(wiring.Component):
    """``unit``, plain ports only, with its second clock at port ``clk_2x``.

    Its inputs come a cycle later, from registers: benches change them in the middle of a cycle, which such a part does not bear.
    """

    def __init__(self, unit: wiring.Component) -> None:
        self.unit = unit
        super().__init__({FAST_CLOCK: In(1), **unit.signature.members})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        drive_fast_domain(m, self.clk_2x)
        for name, member in self.unit.signature.members.items():
            outer, inner = getattr(self, name), getattr(self.unit, name)
            if member.flow is In:
                m.d.sync += inner.eq(outer)
            else:
                m.d.comb += outer.eq(inner)
        return m
