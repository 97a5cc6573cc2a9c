"""A unit with always-ready streams as the top of a Verilog file.

The ``ready`` of such a stream is the constant 1, and Amaranth 0.5 refuses a constant as a port of the top. The shell has every other port,
under the name that Amaranth would give it.
"""

from amaranth.hdl import Const, Module, Value
from amaranth.lib import wiring


class AlwaysReadyShell(wiring.Component):
    """``unit`` without its constant ports: stream ``i`` becomes ``i__payload`` and ``i__valid``. Outputs in ``left_open`` are left out."""

    def __init__(self, unit: wiring.Component, left_open: tuple[str, ...] = ()) -> None:
        self.unit = unit
        self._ports = {}
        members = {}
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
        for name, (member, inner) in self._ports.items():
            outer = getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow is wiring.In else outer.eq(inner)
        return m
