"""Predicted cycles of a program: an event model of the three queues. For plans and reports; the RTL is what counts.

Formulas, in cycles
-------------------
* LOAD and STORE: ``latency + ceil(bytes / bus_bytes)``, one at a time.
* A step of TILE (one pass): computes ``words``; while it does, the next step fills ``16 * ceil(activations / 16)``, so that steps are
  ``max(words, fill of the next step, minimum)`` apart; ``minimum = finish + 2`` where the step completes statistics.
* The fill of a pass starts ``hazard`` cycles after the last word on that pass (plus ``finish`` where statistics were completed).
* TILE is done ``drain`` cycles after its last word.
* ATTEND: ``heads * passes * attention_job + attention_lead``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.program.compiler import CompiledProgram
from rtl.program.isa import Instruction, LoadTarget, Opcode, weight_item_bits


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latencies of the machine, in cycles. The defaults are estimates; pass what the built units publish where it matters.

    hazard, finish : see ``rtl.row_bus.RowTiming``        drain : last word to last result in the last row
    attention_job : one (pass, head)        attention_lead : first and last phases, not overlapped
    bus_bytes : bytes per cycle from DDR, sustained        latency : of a transfer
    """

    attention_job: int
    attention_lead: int
    drain: int
    hazard: int = 60
    finish: int = 120
    bus_bytes: float = 16.0
    latency: int = 60

    @classmethod
    def of(cls, config: AcceleratorConfig, **changes: Any) -> Timing:
        """Estimates for ``config``; ``changes`` replace single ones."""
        attention = AttentionConfig.of(config)
        job = attention.score_cycles + attention.output_cycles
        estimate = cls(attention_job=job, attention_lead=attention.load_cycles + job, drain=config.rows + 60)
        return replace(estimate, **changes)


@dataclass(frozen=True, kw_only=True)
class Span:
    """One instruction: when it started, when its post came, and how long its engine worked. ``name``: its comment."""

    name: str
    opcode: Opcode
    start: float
    done: float
    busy: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``cycles``: END. ``spans``: every instruction, in program order. Utilisation: word cycles of the array / cycles."""

    cycles: int
    spans: tuple[Span, ...]

    def busy(self, *opcodes: Opcode) -> float:
        return sum(span.busy for span in self.spans if span.opcode in opcodes)

    @property
    def utilisation(self) -> float:
        return self.busy(Opcode.TILE) / self.cycles


def predict(compiled: CompiledProgram, config: AcceleratorConfig, timing: Timing) -> Schedule:
    """Waits look back in the program (a tested law), so one walk in program order finds every time."""
    machine = _Machine(config, timing)
    spans = tuple(machine.run(instruction) for instruction in compiled.instructions)
    return Schedule(cycles=math.ceil(spans[-1].done), spans=spans)


@dataclass
class _Machine:
    """When each engine is free, and when each post came."""

    config: AcceleratorConfig
    timing: Timing
    dma_free: float = 0.0
    attend_free: float = 0.0
    array_issued: float = 0.0  # the ARRAY queue is in order
    changed_over: float = 0.0  # start of the last compute: the next fill may begin
    compute_end: float = 0.0
    readable: dict[int, float] = field(default_factory=dict)  # per pass: when its last results may be read
    posts: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, instruction: Instruction) -> Span:
        ready = max(self._posted(instruction.wait0_counter, instruction.wait0_value),
                    self._posted(instruction.wait1_counter, instruction.wait1_value))  # fmt: skip
        engines: dict[Opcode, Callable[[dict[str, int], float], tuple[float, float, float]]] = {
            Opcode.TILE: self._tile,
            Opcode.ATTEND: self._attend,
        }
        start, done, busy = engines.get(instruction.opcode, self._transfer(instruction.opcode))(instruction.payload, ready)
        if instruction.post_enable:
            self.posts[instruction.post_counter].append(done)
        return Span(name=instruction.comment, opcode=instruction.opcode, start=start, done=done, busy=busy)

    def _posted(self, counter: int, value: int) -> float:
        return sorted(self.posts[counter])[value - 1] if value else 0.0

    def _transfer(self, opcode: Opcode) -> Callable[[dict[str, int], float], tuple[float, float, float]]:
        def run(payload: dict[str, int], ready: float) -> tuple[float, float, float]:
            start = max(ready, self.dma_free)
            size = transfer_bytes(opcode, payload, self.config)
            busy = self.timing.latency + math.ceil(size / self.timing.bus_bytes) if size else 0
            self.dma_free = start + busy
            return start, self.dma_free, busy

        return run

    def _attend(self, payload: dict[str, int], ready: float) -> tuple[float, float, float]:
        start = max(ready, self.attend_free)
        busy = payload["heads"] * payload["passes"] * self.timing.attention_job
        self.attend_free = start + busy + self.timing.attention_lead
        return start, self.attend_free, busy

    def _tile(self, payload: dict[str, int], ready: float) -> tuple[float, float, float]:
        ready = self.array_issued = max(ready, self.array_issued)
        starts = [self._step(payload, payload["first_pass"] + step, ready) for step in range(payload["passes"])]
        return starts[0], self.compute_end + self.timing.drain, payload["words"] * payload["passes"]

    def _step(self, payload: dict[str, int], number: int, ready: float) -> float:
        """Fill, then compute, one pass. Returns the start of the fill."""
        fill = -(-payload["activations"] // 16) * 16
        fill_start = max(ready, self.changed_over, self.readable.get(number, 0.0))
        compute_start = self.changed_over = max(fill_start + fill, self.compute_end)
        last = payload["statistics_last"]
        length = max(payload["words"], self.timing.finish + 2) if last else payload["words"]
        self.compute_end = compute_start + length
        self.readable[number] = compute_start + payload["words"] + self.timing.hazard + (self.timing.finish if last else 0)
        return fill_start


def transfer_bytes(opcode: Opcode, payload: dict[str, int], config: AcceleratorConfig) -> int:
    """Bytes that a LOAD or STORE moves; 0 for END."""
    if opcode == Opcode.STORE:
        return 2 * payload["items"]
    if opcode != Opcode.LOAD:
        return 0
    widths = {
        LoadTarget.WEIGHT: weight_item_bits(config.inputs),
        LoadTarget.PARAMETER: 64,
        LoadTarget.NORM: 32,
        LoadTarget.TABLE: 8,
        LoadTarget.POSITION: 16,
        LoadTarget.PIXEL: 8,
    }
    return payload["items"] * widths[LoadTarget(payload["target"])] // 8
