"""A unit as the top of a Verilog file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.hdl import Const, Module, Shape, Value
from amaranth.lib import data, wiring


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A number within a port: ``name`` is the port's and the fields', elements of an array share it. ``offset``: of bits in the port."""

    port: str
    name: str
    shape: Shape
    offset: int


class PlainShell(wiring.Component):
    """``unit`` with every port a plain vector: stream ``i`` becomes ``i__payload`` and ``i__valid``.

    Constant ports are left out, which Amaranth refuses at the top of a file (the ``ready`` of a stream that never stalls), and so are
    outputs in ``left_open``.
    """

    def __init__(self, unit: wiring.Component, left_open: tuple[str, ...] = ()) -> None:
        self.unit, self.leaves, self._inner = unit, [], {}
        members = {}
        for path, member, value in unit.signature.flatten(unit):
            if isinstance(value, Const) or path[0] in left_open:
                continue
            name = "__".join(map(str, path))
            self._inner[name] = (member, Value.cast(value))
            members[name] = wiring.Member(member.flow, Shape.cast(member.shape).width)
            if member.flow is wiring.In:
                self.leaves += [Leaf(port=name, **leaf) for leaf in _leaves(member.shape, ".".join(map(str, path)))]
        super().__init__(members)

    def widths(self, flow: wiring.Flow) -> dict[str, int]:
        """Bits of each port of one direction."""
        return {name: member.shape for name, member in self.signature.members.items() if member.flow is flow}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        for name, (member, inner) in self._inner.items():
            outer = getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow is wiring.In else outer.eq(inner)
        return m


def _leaves(shape, name: str, offset: int = 0) -> Iterator[dict]:
    if isinstance(shape, data.ArrayLayout):
        for _, field in shape:
            yield from _leaves(field.shape, name, offset + field.offset)
    elif isinstance(shape, data.StructLayout):
        for key, field in shape:
            yield from _leaves(field.shape, f"{name}.{key}", offset + field.offset)
    else:
        yield {"name": name, "shape": Shape.cast(shape), "offset": offset}
