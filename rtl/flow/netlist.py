"""A flat netlist of UltraScale+ primitives, read from yosys JSON, and what it occupies.

Yosys leaves three things uncounted that a slice has: the dual-output LUT (it emits two LUTs where one does), CARRY8 (it emits CARRY4)
and explicit primitives (its own statistics skip them). So the cells are counted here.
"""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from pathlib import Path

#: A net bit: a number, or "0", "1", "x" for a constant.
Bit = int | str

LUT_INPUTS = {"INV": 1, "LUT1": 1, "LUT2": 2, "LUT3": 3, "LUT4": 4, "LUT5": 5, "LUT6": 6}
#: LUTs of each distributed memory.
LUTRAMS = {
    "RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4, "RAM64M": 4, "RAM32X16DR8": 8, "RAM64X8SW": 8,
    "RAM16X1D": 2, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM16X1S": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
}  # fmt: skip
SHIFT_REGISTERS = {"SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1}
FLIP_FLOPS = frozenset({"FDRE", "FDSE", "FDCE", "FDPE", "FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1"})
BLOCK_RAMS = {"RAMB36E2": 1.0, "RAMB18E2": 0.5}
MULTIPLEXERS = frozenset({"MUXF7", "MUXF8", "MUXF9"})
CARRIES = {"CARRY4": 4, "CARRY8": 8}
DSP = "DSP48E2"
#: Attribute of the nets that registers drove before names were lost.
REGISTER = "popvit_register"
_COUNTED = {"$scopeinfo", *LUT_INPUTS, "LUT6_2", *LUTRAMS, *SHIFT_REGISTERS, *FLIP_FLOPS, *BLOCK_RAMS, *MULTIPLEXERS, *CARRIES, DSP}


@dataclass(frozen=True)
class Cell:
    """One primitive. `pins` maps a port to its bits."""

    name: str
    type: str
    parameters: dict[str, str]
    pins: dict[str, list[Bit]]
    outputs: frozenset[str]

    def integer(self, parameter: str, default: int) -> int:
        """A parameter that yosys wrote as a string of binary digits."""
        text = self.parameters.get(parameter)
        return default if text is None else int(text, 2)

    def input_bits(self) -> list[int]:
        """Every input bit that is a net."""
        return [bit for port, bits in self.pins.items() if port not in self.outputs for bit in bits if isinstance(bit, int)]

    def output_bits(self) -> list[int]:
        """Every output bit that is a net."""
        return [bit for port in sorted(self.outputs) for bit in self.pins.get(port, []) if isinstance(bit, int)]


@dataclass(frozen=True)
class Netlist:
    """The cells of one module, its ports, and the name of each net bit."""

    cells: list[Cell]
    inputs: list[int]
    outputs: list[int]
    names: dict[int, str] = field(repr=False)

    @classmethod
    def load(cls, path: Path, top: str) -> Netlist:
        module = json.loads(path.read_text(encoding="utf-8"))["modules"][top]
        cells = [
            Cell(
                name=name,
                type=cell["type"],
                parameters=cell["parameters"],
                pins=cell["connections"],
                outputs=frozenset(port for port, direction in cell["port_directions"].items() if direction == "output"),
            )
            for name, cell in module["cells"].items()
        ]
        ports = {"input": [], "output": [], "inout": []}
        for port in module["ports"].values():
            ports[port["direction"]] += [bit for bit in port["bits"] if isinstance(bit, int)]
        return cls(cells, ports["input"], ports["output"], _names(module["netnames"]))

    def types(self) -> collections.Counter:
        return collections.Counter(cell.type for cell in self.cells)


def _names(netnames: dict) -> dict[int, str]:
    """One name per net bit: the register's own where it is marked, else one that the designer gave where there is any."""
    found = {}
    for name, net in sorted(netnames.items(), key=_preference):
        for index, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                found.setdefault(bit, f"{name}[{index}]" if len(net["bits"]) > 1 else name)
    return found


def _preference(item: tuple[str, dict]) -> tuple:
    name, net = item
    return REGISTER not in net.get("attributes", {}), net.get("hide_name", 0), len(name), name


def occupied(netlist: Netlist) -> dict:
    """What the netlist occupies: counts by the names of `rtl.flow.estimate.Resources`, and `other`: cells that are not counted."""
    types = netlist.types()
    logic = sum(types[name] for name in LUT_INPUTS)
    lutram = sum(size * types[name] for name, size in LUTRAMS.items())
    shift = sum(size * types[name] for name, size in SHIFT_REGISTERS.items())
    raw = logic + types["LUT6_2"] + lutram + shift
    return {
        "lut": raw - _pairs(netlist),
        "lut_raw": raw,
        "lutram": lutram,
        "srl": shift,
        "ff": sum(types[name] for name in FLIP_FLOPS),
        "carry8": types["CARRY8"] + -(-types["CARRY4"] // 2),
        "dsp": types[DSP],
        "bram36": sum(size * types[name] for name, size in BLOCK_RAMS.items()),
        "other": {name: types[name] for name in sorted(types) if name not in _COUNTED},
    }


def _pairs(netlist: Netlist) -> int:
    """How many pairs of LUTs fit one dual-output LUT: together at most 5 inputs, at least 2 of them shared (or one set in the other).

    Greedy, widest first; the partner that shares most. A net with more than 64 readers is no reason to pair.
    """
    small = {}
    for cell in netlist.cells:
        if LUT_INPUTS.get(cell.type, 6) <= 5:
            small[cell.name] = frozenset(cell.input_bits())
    readers = collections.defaultdict(list)
    for name, inputs in small.items():
        for bit in inputs:
            readers[bit].append(name)
    paired, pairs = set(), 0
    for name in sorted(small, key=lambda name: (-len(small[name]), name)):
        if name not in paired:
            partner = _partner(name, small, readers, paired)
            if partner:
                paired |= {name, partner}
                pairs += 1
    return pairs


def _partner(name: str, small: dict, readers: dict, paired: set) -> str | None:
    inputs = small[name]
    shared = collections.Counter(
        other for bit in inputs if len(readers[bit]) <= 64 for other in readers[bit] if other != name and other not in paired
    )
    fitting = [
        (count, other) for other, count in shared.items() if len(small[other] | inputs) <= 5 and (count >= 2 or small[other] <= inputs)
    ]
    return max(fitting)[1] if fitting else None
