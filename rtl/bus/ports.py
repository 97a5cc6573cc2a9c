"""Flat AXI port names for the boundary component of a design.

Amaranth names the ports of a Component ``port__channel__signal``; tools such as Vivado recognise AXI by ``m_axi_data_araddr``. A boundary
Component therefore has flat signals as members, and joins them to the streams of what it wraps::

    class Top(wiring.Component):
        PORTS = (FlatPorts("m_axi_data", AxiReadWrite()), FlatPorts("s_axi_control", AxiLite(), slave=True))

        def __init__(self):
            super().__init__({name: member for ports in self.PORTS for name, member in ports.members().items()})

        def elaborate(self, platform):
            ...
            PORTS[0].join(m, self, reader.axi, writer.axi)      # any number of interfaces that together have the channels
            PORTS[1].join(m, self, registers.bus)
"""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import flat_ports


class FlatPorts:
    """The flat wires of one AXI interface.

    Parameters
    ----------
    prefix : what the names begin with, without the last underscore, e.g. "m_axi_data"
    signature : AxiRead, AxiWrite, AxiReadWrite or AxiLite, not flipped: as the master sees it
    slave : whether the design is the slave
    """

    def __init__(self, prefix: str, signature: wiring.Signature, *, slave: bool = False) -> None:
        self.prefix = prefix
        self.slave = slave
        self.wires = tuple(flat_ports(signature))

    def _name(self, suffix: str) -> str:
        return f"{self.prefix}_{suffix}"

    def members(self) -> dict[str, Any]:
        """Members for the boundary Component's signature, by flat name."""
        return {self._name(wire.name): (Out if wire.from_master != self.slave else In)(wire.width) for wire in self.wires}

    def join(self, m: Module, boundary: wiring.Component, *interfaces: Any) -> None:
        """Connects the flat members of ``boundary`` with the channels of ``interfaces``, combinationally; constants are driven."""
        for wire in self.wires:
            flat = getattr(boundary, self._name(wire.name))
            driven_here = wire.from_master != self.slave
            if wire.path is None:
                if driven_here:
                    m.d.comb += flat.eq(wire.constant)
                continue
            channel, field = wire.path
            bundle = next(getattr(interface, channel) for interface in interfaces if hasattr(interface, channel))
            inner = getattr(bundle, field) if field in ("valid", "ready") else bundle.payload[field]
            m.d.comb += flat.eq(inner) if driven_here else inner.eq(flat)
