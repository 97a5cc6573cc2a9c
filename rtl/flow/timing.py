"""Static timing over a flat netlist of UltraScale+ primitives: the slowest stage and the deepest one.

Delays are intra-site figures as published in RapidWright's `timing/ultrascaleplus` tables; the routed hop between sites is an
assumption. Nothing is placed or routed. So the nanoseconds rank stages, and levels are what a test may gate on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rtl.flow.netlist import BLOCK_RAMS, CARRIES, DSP, FLIP_FLOPS, LUT_INPUTS, LUTRAMS, MULTIPLEXERS, SHIFT_REGISTERS, Bit, Cell, Netlist

HOP_NS = 0.45  # assumed mean routed hop: 0.25 to a neighbour, above 0.9 where congested
FF_CLOCK_TO_Q_NS = 0.077
SETUP_NS = 0.025
LUT_NS = 0.150
LUT_O5_NS = 0.060  # more, for the second output
LUT_TO_CARRY_NS = 0.015  # inside a slice
CARRY_ENTER_NS, CARRY_STEP_NS, CARRY_LEAVE_NS = 0.170, 0.003, 0.050
MULTIPLEXER_NS = 0.100
LUTRAM_CLOCK_TO_OUT_NS = 0.312
BRAM_CLOCK_TO_OUT_NS, BRAM_REGISTERED_NS = 0.95, 0.22
DSP_REGISTERED_NS = 0.30
DSP_UNREGISTERED_NS = 3.0  # no P register: an assumption that makes the stage stand out


@dataclass(frozen=True)
class Arc:
    """From one bit to another through a cell: a delay with its hop, and 1 if it counts as a LUT level (a carry)."""

    source: object
    target: object
    ns: float
    level: int = 0
    carry: int = 0


@dataclass(frozen=True, order=True)
class Arrival:
    """The longest way to a bit."""

    ns: float = 0.0
    levels: int = 0
    carries: int = 0

    def through(self, arc: Arc) -> Arrival:
        return Arrival(self.ns + arc.ns, self.levels + arc.level, self.carries + arc.carry)


@dataclass(frozen=True)
class Stage:
    """From one register to the next: nanoseconds with set-up, LUT levels, carry chains, and where it starts and ends."""

    ns: float
    levels: int
    carries: int
    start: str
    end: str

    def __str__(self) -> str:
        return f"{self.start} -> {self.levels} LUT + {self.carries} carry -> {self.end}"


Rank = Callable[[Arrival], tuple]
Unit = Callable[[Cell | None, str], str]
NO_STAGE = Stage(0.0, 0, 0, "", "")


@functools.cache
def _depends(init: int, fixed: tuple[int | None, ...]) -> tuple[int, ...]:
    """Inputs that a function of `init` depends on, given the inputs that are constant."""
    width = len(fixed)
    legal = [a for a in range(1 << width) if all(value is None or a >> k & 1 == value for k, value in enumerate(fixed))]
    return tuple(k for k in range(width) if fixed[k] is None and any((init >> a ^ init >> (a ^ 1 << k)) & 1 for a in legal))


def _lut_arcs(cell: Cell) -> Iterator[Arc]:
    for bit in cell.input_bits():
        yield Arc(bit, cell.pins["O"][0], LUT_NS + HOP_NS, level=1)


def _dual_lut_arcs(cell: Cell) -> Iterator[Arc]:
    """O5 of a ternary adder does not depend on the carry it passes on; without the INIT it would seem to ripple."""
    init = cell.integer("INIT", 0)
    pins = [cell.pins[f"I{k}"][0] for k in range(6)]
    fixed = tuple(None if isinstance(bit, int) else int(bit == "1") for bit in pins)
    for port, function, inputs, more in (("O6", init, 6, 0.0), ("O5", init & 0xFFFF_FFFF, 5, LUT_O5_NS)):
        for target in cell.pins.get(port, []):
            for k in _depends(function, fixed[:inputs]):
                yield Arc(pins[k], target, LUT_NS + more + HOP_NS, level=1)


def _carry_arcs(cell: Cell, lut_outputs: set[Bit]) -> Iterator[Arc]:
    """A node per carry bit, named (cell, k), so that dependency is exact and the arcs are few."""
    width = CARRIES[cell.type]
    for port in ("CI", "CYINIT"):
        for bit in cell.pins.get(port, []):
            yield Arc(bit, (cell.name, 0), 0.0 if port == "CI" else HOP_NS)
    for k in range(width):
        carry, above = (cell.name, k), (cell.name, k + 1)
        select, data = cell.pins["S"][k], cell.pins["DI"][k]
        hop = {bit: LUT_TO_CARRY_NS if bit in lut_outputs else HOP_NS for bit in (select, data)}
        if k == 4 and isinstance(top := cell.pins.get("CI_TOP", ["0"])[0], int):
            yield Arc(top, carry, HOP_NS)
        yield Arc(carry, above, CARRY_STEP_NS)
        yield Arc(select, above, hop[select] + CARRY_ENTER_NS, carry=1)
        yield Arc(data, above, hop[data] + CARRY_ENTER_NS, carry=1)
        for target in cell.pins.get("O", [])[k : k + 1]:
            yield Arc(carry, target, CARRY_LEAVE_NS)
            yield Arc(select, target, hop[select] + CARRY_LEAVE_NS, carry=1)
        for target in cell.pins.get("CO", [])[k : k + 1]:
            yield Arc(above, target, 0.0)


def _memory_arcs(cell: Cell) -> Iterator[Arc]:
    """Distributed memory reads at once: output DOx from address ADDRx; where ports have other names, from every address."""
    for port in cell.outputs:
        own = f"ADDR{port[2:]}"
        addresses = [own] if own in cell.pins else [name for name in cell.pins if name.startswith(("A", "DPRA"))]
        for target in cell.pins.get(port, []):
            for address in addresses:
                yield from (Arc(bit, target, LUT_NS + HOP_NS, level=1) for bit in cell.pins[address])


def _multiplexer_arcs(cell: Cell) -> Iterator[Arc]:
    for port in ("I0", "I1", "S"):
        yield Arc(cell.pins[port][0], cell.pins["O"][0], MULTIPLEXER_NS + (HOP_NS if port == "S" else 0.0))


def _arcs(cell: Cell, lut_outputs: set[Bit]) -> Iterable[Arc]:
    if cell.type in LUT_INPUTS:
        return _lut_arcs(cell)
    if cell.type == "LUT6_2":
        return _dual_lut_arcs(cell)
    if cell.type in CARRIES:
        return _carry_arcs(cell, lut_outputs)
    if cell.type in LUTRAMS or cell.type in SHIFT_REGISTERS:
        return _memory_arcs(cell)
    if cell.type in MULTIPLEXERS:
        return _multiplexer_arcs(cell)
    return ()


def _launch_ns(cell: Cell, port: str) -> float | None:
    """Clock to `port`, for a cell that launches; None for a combinational one. A black box is taken as registered."""
    if cell.type in LUT_INPUTS or cell.type == "LUT6_2" or cell.type in CARRIES or cell.type in MULTIPLEXERS:
        return None
    if cell.type in LUTRAMS or cell.type in SHIFT_REGISTERS:
        return LUTRAM_CLOCK_TO_OUT_NS
    if cell.type in BLOCK_RAMS:
        registered = cell.integer("DOA_REG" if "A" in port.removeprefix("DOUT") else "DOB_REG", 0)
        return BRAM_REGISTERED_NS if registered else BRAM_CLOCK_TO_OUT_NS
    if cell.type == DSP:
        return DSP_REGISTERED_NS if cell.integer("PREG", 1) else DSP_UNREGISTERED_NS
    return FF_CLOCK_TO_Q_NS


def _endings(cell: Cell) -> Iterator[tuple[int, float, str]]:
    """(bit, hop and set-up, name) of each input at which a stage ends. D of a flip-flop sits behind its LUT: no hop."""
    combinational = _launch_ns(cell, "") is None
    if combinational:
        return
    reads = LUTRAMS.keys() | SHIFT_REGISTERS.keys()
    for port, bits in cell.pins.items():
        if port in cell.outputs or port in CLOCK_PINS:
            continue
        if cell.type in reads and port.startswith(("ADDR", "A", "DPRA")):
            continue
        hop = 0.0 if cell.type in FLIP_FLOPS and port == "D" else HOP_NS
        yield from ((bit, hop + SETUP_NS, port) for bit in bits if isinstance(bit, int))


CLOCK_PINS = ("C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK")


def clock_of(cell: Cell) -> Bit | None:
    """The net of a cell's clock, ``clk`` of a black box; None for a combinational one. C of a slice is none."""
    return next((cell.pins[pin][0] for pin in ("clk", *reversed(CLOCK_PINS)) if pin in cell.pins), None)


class Timing:
    """Longest ways through a netlist.

    `loops` counts bits on combinational loops, which are left out.
    """

    def __init__(self, netlist: Netlist):
        self.netlist = netlist
        luts = {bit for cell in netlist.cells if cell.type in LUT_INPUTS or cell.type == "LUT6_2" for bit in cell.output_bits()}
        self._into: dict[object, list[Arc]] = {}
        for cell in netlist.cells:
            for arc in _arcs(cell, luts):
                if not isinstance(arc.source, str) and not isinstance(arc.target, str):
                    self._into.setdefault(arc.target, []).append(arc)
        self._starts: dict[object, float] = dict.fromkeys(netlist.inputs, FF_CLOCK_TO_Q_NS)
        self._launched: dict[Bit, dict[object, float]] = {}  # the starts that are registers, by their clock
        for cell in netlist.cells:
            for port in cell.outputs:
                ns = _launch_ns(cell, port)
                if ns is not None:
                    starts = {bit: ns for bit in cell.pins.get(port, []) if isinstance(bit, int)}
                    self._starts |= starts
                    if (clock := clock_of(cell)) is not None:
                        self._launched.setdefault(clock, {}).update(starts)
        self._order, self.loops = self._sorted()

    def _sorted(self) -> tuple[list, int]:
        """Targets of arcs, each after the sources of its arcs."""
        pending = {target: sum(arc.source in self._into for arc in arcs) for target, arcs in self._into.items()}
        readers: dict[object, list] = {}
        for target, arcs in self._into.items():
            for arc in arcs:
                readers.setdefault(arc.source, []).append(target)
        order = [target for target, count in pending.items() if count == 0]
        for bit in order:
            for target in readers.get(bit, ()):
                pending[target] -= 1
                if pending[target] == 0:
                    order.append(target)
        return order, len(self._into) - len(order)

    def worst(self, rank: Rank, unit: Unit = lambda cell, name: "", starts: dict[object, float] | None = None) -> dict[str, Stage]:
        """The stage of the largest `rank` in each unit that stages end in.

        unit : tells the unit from the cell that ends a stage (None: an output of the netlist) and the name of the register or block
        starts : bits and their clock-to-output delays; all if None
        """
        arrivals = {bit: Arrival(ns) for bit, ns in (self._starts if starts is None else starts).items()}
        before: dict[object, object] = {}
        for target in self._order:
            best, source = arrivals.get(target), None
            for arc in self._into[target]:
                if arc.source in arrivals:
                    candidate = arrivals[arc.source].through(arc)
                    if best is None or rank(candidate) > rank(best):
                        best, source = candidate, arc.source
            if best is not None:
                arrivals[target] = best
                if source is not None:
                    before[target] = source
        worst: dict[str, tuple[Arrival, int, str]] = {}
        for arrival, bit, cell, owner, name in self._arrived(arrivals):
            where = unit(cell, owner)
            if where not in worst or rank(arrival) > rank(worst[where][0]):
                worst[where] = arrival, bit, name
        return {where: self._stage(*end, before) for where, end in sorted(worst.items())}

    def _arrived(self, arrivals: dict) -> Iterator[tuple[Arrival, int, Cell | None, str, str]]:
        """Every end of a stage: arrival with set-up, bit, cell, name of the register or block, name of the end."""
        for cell in self.netlist.cells:
            for bit, extra, port in _endings(cell):
                if bit in arrivals:
                    owner = self.netlist.names.get(cell.pins.get("Q", [None])[0], cell.name)
                    name = owner if cell.type in FLIP_FLOPS and port == "D" else f"{owner}.{port}"
                    yield arrivals[bit].through(Arc(bit, None, extra)), bit, cell, owner, name
        for bit in self.netlist.outputs:
            if bit in arrivals:
                name = self.netlist.names.get(bit, "an output")
                yield arrivals[bit], bit, None, name, name

    def _stage(self, arrival: Arrival, bit: int, name: str, before: dict) -> Stage:
        start = bit
        while start in before:
            start = before[start]
        return Stage(round(arrival.ns, 3), arrival.levels, arrival.carries, self.netlist.names.get(start, "an input"), name)

    def slowest(self) -> Stage:
        return self.worst(lambda arrival: (arrival.ns,)).get("", NO_STAGE)

    def deepest(self) -> Stage:
        """The stage with most LUT levels and carries together."""
        return self.worst(_depth).get("", NO_STAGE)

    def deepest_by_unit(self) -> dict[str, Stage]:
        """The deepest stage that ends in each unit of the design: a submodule of the top."""
        return self.worst(_depth, lambda cell, name: unit_of(name))

    def deepest_by_clocks(self) -> dict[tuple[str, str], Stage]:
        """The deepest stage from registers of each clock to those of each, by the names of the clocks; empty if there is only one."""
        if len(self._launched) < 2:
            return {}
        names = {clock: self.netlist.names.get(clock, "a clock") for clock in self._launched}
        return {
            (names[clock], end): stage
            for clock, starts in self._launched.items()
            for end, stage in self.worst(_depth, lambda cell, name: names.get(clock_of(cell), "") if cell else "", starts).items()
            if end
        }


def _depth(arrival: Arrival) -> tuple:
    return arrival.levels + arrival.carries, arrival.ns


def unit_of(name: str) -> str:
    """Submodule of the top that a hierarchical name is in, "" for the top itself. The one inside a `Shell` counts as the top."""
    first, *more = name.removeprefix("$flatten").replace("\\", "").removeprefix("inner.").split(".")
    return first if more and not first.startswith("$") else ""
