"""Where the entries of the lookup tables live: groups, chunks, generator lanes, and the packing into seven-port RAMs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rtl.shapes import CHUNK, GROUP, SLOTS, ceil_div, table_shape

#: A RAM32M16 reads seven ports of two bits; the eighth port is its write address. It costs eight LUTs.
RAM_PORTS, RAM_LUTS = 7, 8


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One table generator. It serves the groups in `slot` of a chunk: of every chunk, or of those with this `parity` (kept lanes)."""

    slot: int
    parity: int | None = None

    def serves(self, group: int) -> bool:
        return group % SLOTS == self.slot and self.parity in (None, group // SLOTS % 2)


@dataclass(frozen=True, kw_only=True)
class Ram:
    """One RAM32M16: up to seven (group, bit pair) ports, written while chunk `first` or chunk `last` is written."""

    ports: tuple[tuple[int, int], ...]

    @property
    def first(self) -> int:
        return self.ports[0][0] // SLOTS

    @property
    def last(self) -> int:
        return self.ports[-1][0] // SLOTS


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """The tables of `inputs` activations of `bits` bits.

    A group is GROUP neighbouring activations and their 16 sums, for two banks: 32 entries, address ``{bank, weight bits}``.
    A chunk is SLOTS groups; one entry of each is written per cycle.

    All ports of one RAM are written together. If RAMs do not straddle chunks, ports are left over (b=6: 16 ports in three RAMs of
    seven). With ``shared`` they straddle: the RAM between chunk c and c+1 is written in both phases, and to keep the entries of c in
    phase c+1, the generators of c's last groups go on holding c's activations. Those slots have two generators, for even and odd
    chunks. What phase c writes into c+1's ports is overwritten in phase c+1, or never read: entry 0 is 0 in any case.
    """

    inputs: int
    bits: int
    shared: bool = False

    @classmethod
    def smallest(cls, inputs: int, bits: int) -> TableLayout:
        """Shared RAMs exactly if they save more LUTs than the additional generators cost (about 3*bits + 4 each)."""
        apart, shared = cls(inputs=inputs, bits=bits), cls(inputs=inputs, bits=bits, shared=True)
        saved = RAM_LUTS * (len(apart.rams) - len(shared.rams))
        return shared if saved > (len(shared.lanes) - SLOTS) * (3 * bits + 4) else apart

    @property
    def groups(self) -> int:
        return self.inputs // GROUP

    @property
    def chunks(self) -> int:
        return ceil_div(self.inputs, CHUNK)

    @property
    def pairs(self) -> int:
        """Two-bit ports per group."""
        return ceil_div(table_shape(self.bits).width, 2)

    @cached_property
    def rams(self) -> tuple[Ram, ...]:
        ports = [(group, pair) for group in range(self.groups) for pair in range(self.pairs)]
        step = len(ports) if self.shared else SLOTS * self.pairs
        runs = [ports[start : start + step] for start in range(0, len(ports), step)]
        return tuple(Ram(ports=tuple(run[at : at + RAM_PORTS])) for run in runs for at in range(0, len(run), RAM_PORTS))

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        kept = {group % SLOTS for ram in self.rams for group, _ in ram.ports if group // SLOTS < ram.last}
        return tuple(Lane(slot=slot, parity=parity) for slot in range(SLOTS) for parity in ((0, 1) if slot in kept else (None,)))

    def lane_of(self, group: int) -> int:
        """Index of the generator that writes this group."""
        return next(index for index, lane in enumerate(self.lanes) if lane.serves(group))
