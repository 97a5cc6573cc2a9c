"""Where the cycles of a run went: by layer and by what the array did, as the accelerator's trace port tells every cycle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rtl.accelerator import TraceState
from rtl.program.compiler import CompiledProgram
from rtl.program.isa import Opcode

#: What a cycle is charged to. ``fill``: tables are filled and nothing is computed. ``hazard``: operands are in flight. Then what the array
#: waits for. ``drain``: nothing is left to issue, and what lies between start, end and the host.
KINDS = tuple(state.name.lower() for state in sorted(TraceState, key=lambda state: state.value))
LAYER = re.compile(r"\d+\.\w+|\w+")
#: Steps that belong to another layer: LayerNorm sums of what the patch embedding wrote in several tiles.
PART_OF = {"statistics": "patch"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """Cycles by layer ("patch", "0.qkv", ...) and kind, and those in which the attention engine worked. Accounts add."""

    layers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    attention_busy: int = 0

    def __add__(self, more: Account) -> Account:
        names = dict.fromkeys([*self.layers, *more.layers])
        both = {name: [part.layers.get(name, {}) for part in (self, more)] for name in names}
        layers = {name: {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS} for name, parts in both.items()}
        return Account(layers=layers, attention_busy=self.attention_busy + more.attention_busy)

    @property
    def total(self) -> dict[str, int]:
        return {kind: sum(layer[kind] for layer in self.layers.values()) for kind in KINDS}

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            "total": self.total,
            "layers": {name: dict(layer) for name, layer in self.layers.items()},
            "attention_busy": self.attention_busy,
        }


def layer_of(name: str) -> str:
    """The layer that a step belongs to: "0.qkv[1]" -> "0.qkv"."""
    found = LAYER.match(name)
    return PART_OF.get(found[0], found[0]) if found else name


def by_operator(layers: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Layers of all blocks together: "0.qkv", "1.qkv", ... -> "qkv"."""
    found: dict[str, dict[str, int]] = {}
    for name, kinds in layers.items():
        into = found.setdefault(name.rpartition(".")[2], dict.fromkeys(KINDS, 0))
        for kind, count in kinds.items():
            into[kind] += count
    return found


def tile_names(compiled: CompiledProgram) -> list[str]:
    """The step name of every TILE, by its number."""
    return [step.name for step in compiled.steps if step.opcode == Opcode.TILE]


def account_of(compiled: CompiledProgram, counts: np.ndarray, attention_busy: int, cycles: int) -> Account:
    """The account of a run of ``cycles``. ``counts``: (tiles, kinds), from `Simulator.account`; after the last TILE everything is drain."""
    names = [layer_of(name) for name in tile_names(compiled)]
    layers = {name: dict.fromkeys(KINDS, 0) for name in names}
    for tile, row in enumerate(counts.tolist()):
        layer = layers[names[min(tile, len(names) - 1)]]
        name = names[min(tile, len(names) - 1)]
        for kind, count in zip(KINDS, row, strict=True):
            # A QKV tile waits for attention only to overwrite keys and values.
            layer["key_value" if kind == "attention" and name.endswith(".qkv") else kind] += count
    # What the register accesses took: the machine counts from its start, the simulator from the write that starts it.
    layers[names[-1]]["drain"] += cycles - int(counts.sum())
    return Account(layers=layers, attention_busy=attention_busy)


class TileProgress:
    """How far a run is, from the number of the TILE that the array is at."""

    def __init__(self, compiled: CompiledProgram):
        self._names = tile_names(compiled)
        payloads = [compiled.instructions[step.instruction].payload for step in compiled.steps if step.opcode == Opcode.TILE]
        words = [payload["words"] * payload["passes"] * max(1, payload["images"]) for payload in payloads]
        self._before = np.concatenate([[0], np.cumsum(words)]) / max(1, sum(words))

    def at(self, tile: int) -> tuple[float, str]:
        """Share of the words issued before this tile, and its name."""
        tile = min(tile, len(self._names) - 1)
        return float(self._before[tile]), self._names[tile]
