"""A unit with always-ready streams as the top of a Verilog file.

The ``ready`` of such a stream is the constant 1, and Amaranth 0.5 refuses a constant as a port of the top. The shell has every other port,
under the name that Amaranth would give it.
"""

from amaranth.hdl import Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.tech.clocking import FAST_CLOCK, drive_fast_domain


class AlwaysReadyShell(wiring.Component):
    """``unit`` without its constant ports: stream ``i`` becomes ``i__payload`` and ``i__valid``. Outputs in ``left_open`` are left out.

    dsp_clock : 2 if the unit has a part at twice the clock: then port ``clk_2x`` is its clock. Inputs then come from registers, a cycle
        later: benches change them in the middle of a cycle, which such a part does not bear
    """

    def __init__(self, unit: wiring.Component, left_open: tuple[str, ...] = (), *, dsp_clock: int = 1) -> None:
        self.unit = unit
        self._ports = {}
        members = {FAST_CLOCK: In(1)} if dsp_clock == 2 else {}
        for path, member, value in unit.signature.flatten(unit):
            if isinstance(value, Const) or path[0] in left_open:
                continue
            name = "__".join(map(str, path))
            self._ports[name] = (member, Value.cast(value))
            members[name] = wiring.Member(member.flow, Value.cast(value).shape())
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        double = FAST_CLOCK in self.signature.members
        if double:
            drive_fast_domain(m, getattr(self, FAST_CLOCK))
        inputs = m.d.sync if double else m.d.comb
        for name, (member, inner) in self._ports.items():
            outer = getattr(self, name)
            if member.flow is wiring.In:
                inputs += inner.eq(outer)
            else:
                m.d.comb += outer.eq(inner)
        return m
