"""Modules that are emitted on their own and instantiated by name: elaborated, synthesised and compiled once, however often they are used."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring


class SeparateModule(wiring.Component):
    """An instance of module `name` with the flat `members` of the component that is emitted under that name."""

    def __init__(self, name: str, members: Mapping):
        self.name = name
        super().__init__(dict(members))

    def elaborate(self, platform):
        m = Module()
        ports = {
            f"{'i' if member.flow is wiring.In else 'o'}_{name}": getattr(self, name) for name, member in self.signature.members.items()
        }
        m.submodules.instance = Instance(self.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return m


class Shell(wiring.Component):
    """Nothing but `inner` inside, with its members. Yosys 0.70 asserts on some tops whose own names meet abc9's; one level down they do not."""

    def __init__(self, inner: wiring.Component, members: Mapping):
        self.inner = inner
        super().__init__(dict(members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        wiring.connect(m, wiring.flipped(self), self.inner)
        return m
