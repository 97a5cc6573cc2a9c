"""Boundary components with flat AXI names around one unit of the bus, for benches."""

from amaranth import Module
from amaranth.lib import wiring

from rtl.bus.ports import FlatPorts


class FlatShell(wiring.Component):
    """``unit`` with its AXI member ``axi`` (master) or ``bus`` (AXI-Lite slave) flattened to ``m_axi_*`` or ``s_axi_*``."""

    def __init__(self, unit: wiring.Component) -> None:
        self.unit = unit
        self._name = "bus" if "bus" in unit.signature.members else "axi"
        slave = self._name == "bus"
        signature = unit.signature.members[self._name].signature  # an In member gives it flipped
        self._ports = FlatPorts("s_axi" if slave else "m_axi", signature.flip() if slave else signature, slave=slave)
        self._others = {name: member for name, member in unit.signature.members.items() if name != self._name}
        super().__init__({**self._ports.members(), **self._others})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        self._ports.join(m, self, getattr(self.unit, self._name))
        for name, member in self._others.items():
            outer, inner = getattr(self, name), getattr(self.unit, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += outer.eq(inner) if member.flow is wiring.Out else inner.eq(outer)
        return m


class Renamed(wiring.Component):
    """``unit`` with some members under other names, for names that are Verilog keywords."""

    def __init__(self, unit: wiring.Component, names: dict[str, str]) -> None:
        self.unit = unit
        self._inner = {names.get(name, name): name for name in unit.signature.members}
        super().__init__({outer: unit.signature.members[name] for outer, name in self._inner.items()})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        for outer, name in self._inner.items():
            member, here, there = self.unit.signature.members[name], getattr(self, outer), getattr(self.unit, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(here), there)
            else:
                m.d.comb += here.eq(there) if member.flow is wiring.Out else there.eq(here)
        return m
