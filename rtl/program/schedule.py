"""Predicted cycles of a program: an event model of the five queues. For plans and reports; the RTL is what counts.

Formulas, in cycles
-------------------
* INPUT: over its own port, as fast as the load bus scatters it; positions and tables of the same time wait for the bus.
* LOAD: an item, or a beat of positions, per cycle; ``latency`` is hidden while others still arrive. STORE: ``STORE_CYCLES`` per logit.
* STREAM: every weight port brings 16 bytes per cycle; ``latency`` is hidden likewise. All ports share ``memory_bytes``.
* A step of TILE (one pass of one image): computes ``words``; while it does, the next step fills ``16 * ceil(activations / 16)``, so that
  steps are ``max(words, fill of the next step, minimum)`` apart; ``minimum = finish + 2`` where the step gathers statistics.
* The fill of a pass, of either image, starts ``hazard`` cycles after the last word on that pass (plus ``finish`` after statistics).
* TILE is done ``drain`` cycles after its last word.
* ATTEND: ``heads * passes * attention_job + attention_lead``.

Left out: fetching the program, refreshes of the memory, and positions held back while the rows use the port of their residual memory.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.program.bandwidth import Bandwidth
from rtl.program.compiler import CompiledProgram
from rtl.program.instruction import WAITS
from rtl.program.isa import Counter, Destination, Instruction, LoadTarget, Opcode, weight_item_bits
from rtl.program.memory import BEAT_BYTES

#: What the array does in a cycle, or waits for: the names of the accelerator's own account.
KINDS = ("compute", "fill", "hazard", "weights", "attention", "input", "key_value", "drain")
#: Cycles per logit: eight in 18.
STORE_CYCLES = 4 / 8
ITEM_BYTES = {LoadTarget.PARAMETER: 8, LoadTarget.NORM: 4, LoadTarget.TABLE: 1, LoadTarget.POSITION: 16}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latencies of the machine, in cycles. The defaults are estimates; pass what the built units publish where it matters.

    hazard, finish : see ``rtl.row_bus.RowTiming``        drain : last word to last result in the last row
    attention_job : one (pass, head)        attention_lead : first and last phases, not overlapped
    pixels : scattering one image to the rows
    memory_bytes : bytes per cycle from DDR, sustained, for all ports together        latency : of a transfer
    """

    attention_job: int
    attention_lead: int
    drain: int
    pixels: int
    hazard: int = 60
    finish: int = 60
    memory_bytes: float = 57.6
    latency: int = 60

    @classmethod
    def of(cls, config: AcceleratorConfig, **changes: Any) -> Timing:
        """Estimates for ``config``; ``changes`` replace single ones."""
        attention = AttentionConfig.of(config)
        job = attention.score_cycles + attention.output_cycles
        lead = attention.cycles(config.shape.heads, config.passes) - config.shape.heads * config.passes * job
        estimate = cls(attention_job=job, attention_lead=lead, drain=config.rows + 60, pixels=pixel_cycles(config))
        return replace(estimate, **changes)


def pixel_cycles(config: AcceleratorConfig) -> int:
    """Scattering an image: byte by byte; where lines of patches are whole beats, a byte of all patches of a grid row and pass at once."""
    shape, rows = config.shape, config.rows
    line = shape.patch_size * shape.channels
    if line % BEAT_BYTES or shape.grid > BEAT_BYTES:
        return shape.image_size**2 * shape.channels
    first = [shape.first_patch + row * shape.grid for row in range(shape.grid)]
    parts = sum((slot + shape.grid - 1) // rows - slot // rows + 1 for slot in first)
    return parts * line * shape.patch_size


@dataclass(frozen=True, kw_only=True)
class Span:
    """One instruction: when it started, when its post came, and how long its engine worked. ``name``: its comment.

    account : TILE: cycles of the array by ``KINDS``, from the last word of the tile before to its own
    """

    name: str
    opcode: Opcode
    start: float
    done: float
    busy: float
    account: Mapping[str, float] = field(default_factory=dict)


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

    @property
    def account(self) -> dict[str, int]:
        """All cycles by ``KINDS``; what follows the last word is drain."""
        total: Tally[str] = Tally()
        for span in self.spans:
            total.update(span.account)
        found = {kind: round(total[kind]) for kind in KINDS}
        return found | {"drain": self.cycles - sum(found.values())}


def predict(compiled: CompiledProgram, config: AcceleratorConfig, timing: Timing) -> Schedule:
    """Waits look back in the program (a tested law), so one walk in program order finds every time."""
    machine = _Machine(config, timing)
    spans = tuple(machine.run(instruction) for instruction in compiled.instructions)
    return Schedule(cycles=math.ceil(spans[-1].done), spans=spans)


def transfer_bytes(opcode: Opcode, payload: dict[str, int], config: AcceleratorConfig) -> int:
    """Bytes that a LOAD, STREAM, STORE or INPUT moves; 0 for the others."""
    if opcode == Opcode.STORE:
        return 2 * payload["items"]
    if opcode == Opcode.STREAM:
        return payload["items"] * config.weight_ports * weight_item_bits(config.slice_inputs) // 8
    if opcode == Opcode.INPUT:
        return payload["items"]
    return payload["items"] * ITEM_BYTES[LoadTarget(payload["target"])] if opcode == Opcode.LOAD else 0


@dataclass
class _Port:
    """Transfers in order; the next is asked for while the last one arrives. ``began``, ``free``: of the last transfer."""

    began: float = 0.0
    free: float = 0.0

    def transfer(self, memory: Bandwidth, ready: float, size: float, rate: float, latency: float) -> tuple[float, float]:
        """(first byte, last byte)."""
        self.began = max(self.free, max(ready, self.began) + latency)
        self.free = memory.transfer(self.began, size, rate)
        return self.began, self.free


@dataclass
class _Array:
    """The two stages of the sequencer, and the account of its cycles."""

    timing: Timing
    issued: float = 0.0  # the ARRAY queue is in order
    changed_over: float = 0.0  # start of the last compute: the next fill may begin
    compute_end: float = 0.0
    readable: dict[int, float] = field(default_factory=dict)  # per pass: when it may be filled again

    def tile(self, payload: dict[str, int], ready: float, reason: str) -> Span:
        """``ready``: its waits are met, the last one being for ``reason``."""
        ready = self.issued = max(ready, self.issued)
        account: Tally[str] = Tally()
        passes = range(payload["first_pass"], payload["first_pass"] + payload["passes"])
        starts = [self._step(payload, index, ready, reason, account) for _ in range(payload["images"]) for index in passes]
        done, busy = self.compute_end + self.timing.drain, payload["words"] * len(starts)
        return Span(name="", opcode=Opcode.TILE, start=starts[0], done=done, busy=busy, account=account)

    def _step(self, payload: dict[str, int], index: int, ready: float, reason: str, account: Tally[str]) -> float:
        """Fill, then compute, one pass. Returns the start of the fill."""
        fill = -(-payload["activations"] // 16) * 16
        fill_start = max(ready, self.changed_over, self.readable.get(index, 0.0))
        compute_start = self.changed_over = max(fill_start + fill, self.compute_end)
        idle, waited = self.compute_end, max(self.compute_end, min(ready, fill_start))
        filled_from = max(self.compute_end, fill_start)
        account.update({reason: waited - idle, "hazard": filled_from - waited, "fill": compute_start - filled_from})
        statistics = payload["statistics"]
        length = max(payload["words"], self.timing.finish + 2) if statistics else payload["words"]
        account.update({"compute": payload["words"], "fill": length - payload["words"]})
        self.compute_end = compute_start + length
        if payload["destination"] == Destination.LOGITS:  # in no row's memory
            return fill_start
        self.readable[index] = compute_start + payload["words"] + self.timing.hazard + (self.timing.finish if statistics else 0)
        return fill_start


class _Machine:
    """When each engine is free, and when each post came."""

    def __init__(self, config: AcceleratorConfig, timing: Timing):
        self.config, self.timing = config, timing
        self.memory = Bandwidth(timing.memory_bytes)
        self.load_bus = Bandwidth(1.0)  # beats to the rows: pixels first
        self.data, self.weights, self.pixels, self.array = _Port(), _Port(), _Port(), _Array(timing)
        self.attend_free = 0.0
        self.posts: defaultdict[int, list[float]] = defaultdict(list)

    def run(self, instruction: Instruction) -> Span:
        payload, waits = instruction.payload, self._waits(instruction)
        ready = max(waits.values(), default=0.0)
        if instruction.opcode == Opcode.TILE:
            span = self.array.tile(payload, ready, self._reason(payload, waits))
        elif instruction.opcode == Opcode.ATTEND:
            span = self._attend(payload, ready)
        else:
            span = self._transfer(instruction.opcode, payload, ready)
        if instruction.post_enable:
            self.posts[instruction.post_counter].append(span.done)
        return replace(span, name=instruction.comment)

    def _waits(self, instruction: Instruction) -> dict[int, float]:
        """When each counter that the instruction waits for has its value. One queue posts each, in order."""
        named = ((getattr(instruction, f"wait{n}_counter"), getattr(instruction, f"wait{n}_value")) for n in range(WAITS))
        return {counter: self.posts[counter][value - 1] for counter, value in named if value}

    @staticmethod
    def _reason(payload: dict[str, int], waits: Mapping[int, float]) -> str:
        """What the last wait is for."""
        last = max(waits, key=lambda counter: waits[counter], default=Counter.TILE_LOADED)
        attention = "key_value" if payload["destination"] == Destination.QKV else "attention"
        return {Counter.TILE_STREAMED: "weights", Counter.ATTENTIONS_DONE: attention}.get(Counter(last), "input")

    def _transfer(self, opcode: Opcode, payload: dict[str, int], ready: float) -> Span:
        size, timing = transfer_bytes(opcode, payload, self.config), self.timing
        if opcode == Opcode.STREAM:
            start, done = self.weights.transfer(self.memory, ready, size, BEAT_BYTES * self.config.weight_ports, timing.latency)
            return Span(name="", opcode=opcode, start=start, done=done, busy=done - start)
        if opcode == Opcode.LOAD:
            start, end = self.data.transfer(self.memory, ready, size, min(BEAT_BYTES, size / payload["items"]), timing.latency)
            if payload["target"] in (LoadTarget.POSITION, LoadTarget.TABLE):
                end = self.data.free = max(end, self.load_bus.transfer(start, payload["items"], 1.0))
            return Span(name="", opcode=opcode, start=start, done=end + self.config.rows, busy=end - start)
        if opcode == Opcode.INPUT:
            start, end = self.pixels.transfer(self.memory, ready, size, min(BEAT_BYTES, size / timing.pixels), timing.latency)
            end = self.pixels.free = max(end, self.load_bus.transfer(start, timing.pixels, 1.0))
            return Span(name="", opcode=opcode, start=start, done=end + self.config.rows, busy=end - start)
        start = max(ready, self.data.free)
        busy = payload["items"] * STORE_CYCLES + timing.latency if opcode == Opcode.STORE else 0.0
        self.data.free = start + busy
        return Span(name="", opcode=opcode, start=start, done=start + busy, busy=busy)

    def _attend(self, payload: dict[str, int], ready: float) -> Span:
        start = max(ready, self.attend_free)
        busy = payload["heads"] * payload["passes"] * self.timing.attention_job
        self.attend_free = start + busy + self.timing.attention_lead
        return Span(name="", opcode=Opcode.ATTEND, start=start, done=self.attend_free, busy=busy)
