"""Where the cycles of a run went: by layer and by what the array did, as the accelerator's trace port tells every cycle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

import rtl.efficientvit.accelerator as efficientvit
from rtl.accelerator import TraceState
from rtl.efficientvit.program.compiler import CompiledProgram as EfficientVitProgram
from rtl.efficientvit.program.tasks import Engine
from rtl.program.compiler import CompiledProgram
from rtl.program.isa import Opcode


def _kinds(states: type[Enum]) -> tuple[str, ...]:
    return tuple(state.name.lower() for state in sorted(states, key=lambda state: state.value))


#: What a cycle is charged to. ``fill``: tables are filled and nothing is computed. ``hazard``: operands are in flight. Then what the array
#: waits for. ``drain``: nothing is left to issue, and what lies between start, end and the host.
KINDS = _kinds(TraceState)
#: The same of an EfficientViT. ``align``: the next step waits for its place in the grid of 16 cycles. ``depth``: for the depthwise engine.
EFFICIENTVIT_KINDS = _kinds(efficientvit.TraceState)
LAYER = re.compile(r"\d+\.\w+|\w+")
#: Steps that belong to another layer: LayerNorm sums of what the patch embedding wrote in several tiles.
PART_OF = {"statistics": "patch"}
#: How an EfficientViT's layers end, and what they are called together.
OPERATORS = {
    "stem.in_conv": "stem",
    "inverted_conv": "pw1",
    "depth_conv": "depthwise",
    "point_conv": "pw2",
    "qkv": "qkv",
    "aggreg.0.0": "aggregation depthwise",
    "aggreg.0.1": "aggregation gpw",
    "attention": "attention",
    "proj": "proj",
    "head.in_conv": "head",
    "head.global_pool": "pool",
    "head.classifier.0": "fc1",
    "head.classifier.1": "norm",
    "head.classifier.4": "fc2",
    "logits": "fc2",
}
#: The EfficientViT's engines beside the array that the account tells of: depthwise layers, K^T V, the head behind the pool.
ENGINES = (Engine.DEPTH, Engine.OUTER, Engine.HEAD)

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where cycles went. Accounts add.

    layers : of the array, by layer ("patch", "0.qkv", ...) and kind
    attention_busy : those in which the attention engine worked, None where nothing tells
    engines : by an engine beside the array and by layer, the cycles for which the compiler plans it busy; empty where it plans none
    """

    layers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    attention_busy: int | None = None
    engines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __add__(self, more: Account) -> Account:
        busy = [part.attention_busy for part in (self, more) if part.attention_busy is not None]
        return Account(
            layers=_added(self.layers, more.layers),
            attention_busy=sum(busy) if busy else None,
            engines=_added(self.engines, more.engines),
        )

    @property
    def total(self) -> dict[str, int]:
        kinds = dict.fromkeys(kind for layer in self.layers.values() for kind in layer)
        return {kind: sum(layer.get(kind, 0) for layer in self.layers.values()) for kind in kinds}

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        found: dict[str, Any] = {"total": self.total, "layers": {name: dict(layer) for name, layer in self.layers.items()}}
        if self.attention_busy is not None:
            found["attention_busy"] = self.attention_busy
        if self.engines:
            found["engines"] = {name: dict(layers) for name, layers in self.engines.items()}
        return found


def _added(one: Counts, more: Counts) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for part in (one, more):
        for name, counts in part.items():
            into = found.setdefault(name, {})
            for key, count in counts.items():
                into[key] = into.get(key, 0) + count
    return found


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A program's steps by the number that the trace port tells.

    names, layers : of each, and the layer that it belongs to        work : of each, in words that the array takes
    kinds : of a layer, what a cycle of each state is charged to; every layer's are among ``all_kinds``
    """

    names: Sequence[str]
    layers: Sequence[str]
    work: Sequence[int]
    all_kinds: tuple[str, ...]
    kinds: Callable[[str], tuple[str, ...]]


def layer_of(name: str) -> str:
    """The layer that a DeiT's step belongs to: "0.qkv[1]" -> "0.qkv"."""
    found = LAYER.match(name)
    return PART_OF.get(found[0], found[0]) if found else name


def operator_of(layer: str) -> str:
    """What the layers of all blocks are called together: "0.qkv", "1.qkv", ... -> "qkv"."""
    ends = (title for end, title in OPERATORS.items() if f".{layer}".endswith(f".{end}"))
    return next(ends, layer.rpartition(".")[2])


def by_operator(layers: Counts) -> dict[str, dict[str, int]]:
    """Layers of all blocks together."""
    found: dict[str, dict[str, int]] = {}
    for name, kinds in layers.items():
        into = found.setdefault(operator_of(name), dict.fromkeys(kinds, 0))
        for kind, count in kinds.items():
            into[kind] += count
    return found


def steps_of(compiled: CompiledProgram | EfficientVitProgram) -> Steps:
    return _efficientvit_steps(compiled) if isinstance(compiled, EfficientVitProgram) else _deit_steps(compiled)


def _deit_steps(compiled: CompiledProgram) -> Steps:
    """The TILEs."""
    tiles = [step for step in compiled.steps if step.opcode == Opcode.TILE]
    payloads = [compiled.instructions[step.instruction].payload for step in tiles]

    def kinds(layer: str) -> tuple[str, ...]:
        """A QKV tile waits for attention only to overwrite keys and values."""
        return tuple("key_value" if kind == "attention" and layer.endswith(".qkv") else kind for kind in KINDS)

    return Steps(
        names=[step.name for step in tiles], layers=[layer_of(step.name) for step in tiles], all_kinds=KINDS, kinds=kinds,
        work=[payload["words"] * payload["passes"] * max(1, payload["images"]) for payload in payloads],
    )  # fmt: skip


def _efficientvit_steps(compiled: EfficientVitProgram) -> Steps:
    """The STEPs in the order of the array's queue."""
    tasks = compiled.plan.order[Engine.ARRAY]
    names = [task.name for task in tasks]
    return Steps(
        names=names, layers=names, work=[task.cycles for task in tasks], all_kinds=EFFICIENTVIT_KINDS, kinds=lambda _: EFFICIENTVIT_KINDS
    )


def account_of(compiled: CompiledProgram | EfficientVitProgram, counts: np.ndarray, attention_busy: int | None, cycles: int) -> Account:
    """The account of a run of ``cycles``. ``counts``: (steps, kinds), from `Simulator.account`; after the last step everything is drain."""
    steps = steps_of(compiled)
    layers = {name: dict.fromkeys(steps.all_kinds, 0) for name in steps.layers}
    for number, row in enumerate(counts.tolist()):
        name = steps.layers[min(number, len(steps.layers) - 1)]
        for kind, count in zip(steps.kinds(name), row, strict=True):
            layers[name][kind] += count
    # What the register accesses took: the machine counts from its start, the simulator from the write that starts it.
    layers[steps.layers[-1]]["drain"] += cycles - int(counts.sum())
    return Account(layers=layers, attention_busy=attention_busy, engines=_planned(compiled))


def _planned(compiled: CompiledProgram | EfficientVitProgram) -> dict[str, dict[str, int]]:
    """Of an EfficientViT: how long each of `ENGINES` is busy with each layer, as the compiler's model of it says."""
    found: dict[str, dict[str, int]] = {}
    if isinstance(compiled, EfficientVitProgram):
        for engine in ENGINES:
            layers = found.setdefault(engine.name.lower(), {})
            for task in compiled.plan.order[engine]:
                layers[task.name] = layers.get(task.name, 0) + task.cycles
    return found


class StepProgress:
    """How far a run is, from the number of the step that the array is at."""

    def __init__(self, compiled: CompiledProgram | EfficientVitProgram):
        steps = steps_of(compiled)
        self._names = steps.names
        self._before = np.concatenate([[0], np.cumsum(steps.work)]) / max(1, sum(steps.work))

    def at(self, step: int) -> tuple[float, str]:
        """Share of the work issued before this step, and its name."""
        step = min(step, len(self._names) - 1)
        return float(self._before[step]), self._names[step]
