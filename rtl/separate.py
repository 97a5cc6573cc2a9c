"""Modules that are emitted on their own and instantiated by name: elaborated, synthesised and compiled once, however often used."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import ClockSignal, Const, Instance, Module, ResetSignal, Shape, Value
from amaranth.hdl import ValueLike
from amaranth.lib import wiring


class SeparateModule(wiring.Component):
    """An instance of module `name`, whose `members` are those of the component that is emitted under that name, each a plain vector.

    Plain, because every field of a structure would become a named wire at each of many instances, and the tools would carry them all.
    """

    def __init__(self, name: str, members: Mapping):
        self.name = name
        super().__init__({key: wiring.Member(member.flow, Shape.cast(member.shape).width) for key, member in members.items()})

    def elaborate(self, platform):
        m = Module()
        ports = {
            f"{'i' if member.flow is wiring.In else 'o'}_{name}": getattr(self, name) for name, member in self.signature.members.items()
        }
        m.submodules.instance = Instance(self.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return m


class SeparateEngine(wiring.Component):
    """An instance of module `name`, with the signature of the component that is emitted under that name.

    clear : what resets it, besides its domain's reset
    """

    def __init__(self, name: str, signature: wiring.Signature, clear: ValueLike):
        self.name, self.clear = name, clear
        super().__init__(dict(signature.members))

    def elaborate(self, platform):
        m = Module()
        ports = {
            f"{'i' if member.flow is wiring.In else 'o'}_{'__'.join(map(str, path))}": Value.cast(value)
            for path, member, value in self.signature.flatten(self)
            if not isinstance(value, Const)  # an always ready stream's
        }
        m.submodules.instance = Instance(self.name, i_clk=ClockSignal(), i_rst=ResetSignal() | self.clear, **ports)
        return m


class Shell(wiring.Component):
    """Nothing but `inner` inside, with its members. Yosys 0.70 asserts on some tops whose own names meet abc9's; one level down they
    do not."""

    def __init__(self, inner: wiring.Component, members: Mapping):
        self.inner = inner
        super().__init__(dict(members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        wiring.connect(m, wiring.flipped(self), self.inner)
        return m
