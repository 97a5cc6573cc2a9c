"""Predicted cycles of a DeiT's program: an event model of the five queues, from the latencies that the units publish.

Formulas, in cycles
-------------------
* Fetch, queues, waits, posts: `rtl.plan.dispatch`.
* INPUT: over its own port, as fast as the load bus scatters it. Positions hold it up, for they go first; they in turn wait in every cycle
  in which the rows write residuals: `rtl.token_ports`.
* LOAD: an item, or a beat of positions, per cycle; the memory's latency is hidden while others still arrive. STORE: `BEAT_CYCLES` per
  eight logits, after all LOADs.
* STREAM: every weight port brings 16 bytes per cycle; the latency is hidden likewise.
* A step of TILE (one pass of one image): computes ``words``; while it does, the next step fills ``16 * ceil(activations / 16)``, so that
  steps are ``max(words, fill of the next step, minimum)`` apart; ``minimum = finish + 2`` where the step gathers statistics.
* The fill of a pass, of either image, starts ``hazard + 2`` cycles after the last word on that pass (plus ``finish`` after statistics).
* TILE is done ``drain`` cycles after its last word.
* ATTEND: `AttentionConfig.cycles`.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rtl.bus import axi_writer
from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.config import AcceleratorConfig
from rtl.dma_engine import REQUEST_CYCLES as LOAD_REQUEST
from rtl.flow.ddr import Memory
from rtl.loader import ITEM_LATENCY, JOB_CYCLES, WAITING_JOBS
from rtl.logit_store import BEAT_CYCLES
from rtl.pixel_input import POST_CYCLES as PIXEL_POST
from rtl.pixel_input import REQUEST_CYCLES as PIXEL_REQUEST
from rtl.plan.bandwidth import Bandwidth
from rtl.plan.deit_array import KINDS, Array, Span, Timing
from rtl.plan.dispatch import Dispatch
from rtl.program.isa import QUEUE_OF, Accumulate, Counter, Destination, Instruction, LoadTarget, Opcode, weight_item_bits
from rtl.program.memory import BEAT_BYTES
from rtl.slice_port import WRITE_LATENCY
from rtl.supervisor import start_cycles
from rtl.weight_stream import POST_CYCLES as STREAM_POST
from rtl.weight_stream import request_cycles

ITEM_BYTES = {LoadTarget.PARAMETER: 8, LoadTarget.NORM: 4, LoadTarget.TABLE: 1, LoadTarget.POSITION: 16}
#: From a request to its first beat at the engine, beside the memory's latency.
BUS_LATENCY = REQUEST_LATENCY + BEAT_LATENCY
#: Jobs that the loader holds, and that a weight port holds: one at work.
LOADS_HELD, STREAMS_HELD = WAITING_JOBS + 1, 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``cycles``: END. ``spans``: every instruction, in program order. Utilisation: word cycles of the array / cycles."""

    cycles: int
    spans: tuple[Span, ...]
    bytes_moved: int = 0

    def busy(self, *opcodes: Opcode) -> float:
        return sum(span.busy for span in self.spans if span.opcode in opcodes)

    @property
    def utilisation(self) -> float:
        return self.busy(Opcode.TILE) / self.cycles

    @property
    def account(self) -> dict[str, int]:
        """All cycles by `KINDS`; what follows the last word is drain."""
        total: Tally[str] = Tally()
        for span in self.spans:
            total.update(span.account)
        found = {kind: round(total[kind]) for kind in KINDS}
        return found | {"drain": self.cycles - sum(found.values()) + found["drain"]}


def schedule(instructions: Sequence[Instruction], config: AcceleratorConfig, memory: Memory, timing: Timing | None = None) -> Schedule:
    """Waits look back in the program (a tested law), so one walk in program order finds every time. ``timing``: of the units, unless
    others are tried."""
    machine = _Machine(config, memory, timing or Timing.of(config))
    spans = tuple(machine.run(instruction) for instruction in instructions)
    return Schedule(cycles=math.ceil(spans[-1].done), spans=spans, bytes_moved=round(machine.memory.moved))


def transfer_bytes(opcode: Opcode, payload: dict[str, int], config: AcceleratorConfig) -> int:
    """Bytes that a LOAD, STREAM, STORE or INPUT moves: whole beats; 0 for the others."""
    if opcode == Opcode.STREAM:
        return config.weight_ports * _beats(payload["items"] * weight_item_bits(config.slice_inputs) // 8)
    if opcode == Opcode.LOAD:
        return _beats(payload["items"] * ITEM_BYTES[LoadTarget(payload["target"])])
    item = {Opcode.STORE: 2, Opcode.INPUT: 1}.get(opcode, 0)
    return _beats(payload["items"] * item) if item else 0


def _beats(size: int) -> int:
    return -(-size // BEAT_BYTES) * BEAT_BYTES


@dataclass
class _Port:
    """Transfers in order; ``held`` at a time, so that the next is asked for while the last one arrives.

    began, free : of the last transfer        ends : of those that may still be there
    """

    held: int
    began: float = 0.0
    free: float = 0.0
    ends: deque[float] = field(default_factory=deque)

    def room(self, offered: float) -> float:
        """When an instruction that is offered can be taken."""
        return max(offered, self.ends[0]) if len(self.ends) >= self.held else offered

    def transfer(self, memory: Bandwidth, first: float, size: float, rate: float) -> tuple[float, float]:
        """(first byte, last byte), if nobody else used the port and the first byte came at ``first``."""
        self.began = max(self.free, first, self.began)
        self.keep(memory.transfer(self.began, size, rate))
        return self.began, self.free

    def keep(self, end: float) -> None:
        self.free = end
        self.ends.append(end)
        if len(self.ends) > self.held:
            self.ends.popleft()


@dataclass
class _Scatter:
    """An image on the load bus."""

    begin: float
    end: float


class _Machine:
    """When each engine is free, and when each post came."""

    def __init__(self, config: AcceleratorConfig, memory: Memory, timing: Timing):
        self.config, self.timing = config, timing
        self.latency = memory.latency + BUS_LATENCY
        self.memory = Bandwidth(memory.bytes_per_cycle, memory.refresh_period, memory.refresh_length)
        self.residual_port = Bandwidth(1.0)  # written by the array and by positions
        self.load_bus = Bandwidth(1.0)  # cycles that positions take from images
        self.scattered: list[_Scatter] = []
        self.dispatch = Dispatch(QUEUE_OF, self.memory, memory.latency, start_cycles(timing.drain))
        self.data, self.weights, self.pixels = _Port(LOADS_HELD), _Port(STREAMS_HELD), _Port(1)
        self.array, self.attend_free = Array(timing), 0.0

    def run(self, instruction: Instruction) -> Span:
        waits = self.dispatch.waits(instruction)
        offered = self.dispatch.offered(instruction, waits)
        payload = instruction.payload
        if instruction.opcode == Opcode.TILE:
            span = self.array.tile(payload, offered, self._reason(payload, waits))
            taken = span.start
            self._write_residuals(payload)
        else:
            engines = {Opcode.ATTEND: self._attend, Opcode.STREAM: self._stream, Opcode.LOAD: self._load, Opcode.INPUT: self._input}
            span = engines.get(Opcode(instruction.opcode), self._store)(payload, offered)
            taken = span.start
        self.dispatch.taken(instruction, taken)
        if instruction.post_enable:
            self.dispatch.post(instruction.post_counter, span.done)
        return replace(span, name=instruction.comment, opcode=Opcode(instruction.opcode))

    def _write_residuals(self, payload: dict[str, int]) -> None:
        """Positions wait for them: one per result."""
        if payload["destination"] == Destination.RESIDUAL and payload["accumulate"] in (Accumulate.NONE, Accumulate.LAST):
            for begin in self.array.begins:
                self.residual_port.transfer(begin, payload["words"] / payload["planes"], 1 / payload["planes"])

    @staticmethod
    def _reason(payload: dict[str, int], waits: Mapping[int, float]) -> str:
        """What the last wait is for."""
        last = max(waits, key=lambda counter: waits[counter], default=Counter.TILE_LOADED)
        attention = "key_value" if payload["destination"] == Destination.QKV else "attention"
        return {Counter.TILE_STREAMED: "weights", Counter.ATTENTIONS_DONE: attention}.get(Counter(last), "input")

    def _stream(self, payload: dict[str, int], offered: float) -> Span:
        size, ports = transfer_bytes(Opcode.STREAM, payload, self.config), self.config.weight_ports
        taken = self.weights.room(offered)
        rate = min(BEAT_BYTES * ports, size / payload["items"])  # a slice per cycle
        start, end = self.weights.transfer(self.memory, taken + request_cycles(ports) + self.latency, size, rate)
        return Span(name="", opcode=Opcode.STREAM, start=taken, done=end + WRITE_LATENCY + STREAM_POST, busy=end - start)

    def _hold_pixels(self, start: float, end: float) -> None:
        """Images on the load bus while positions are: those go first. Whoever waits for an image comes behind these in the program."""
        late = 0.0
        for number, scatter in list(enumerate(self.scattered))[-2:]:
            scatter.begin += late
            late += max(0.0, min(scatter.end + late, end) - max(scatter.begin, start))
            scatter.end += late
            self.dispatch.revise(Counter.INPUT_LOADED, number, scatter.end + self.config.rows + PIXEL_POST)
        if self.scattered:
            self.pixels.ends[-1] = self.scattered[-1].end + self.config.rows + PIXEL_POST

    def _load(self, payload: dict[str, int], offered: float) -> Span:
        size, taken = transfer_bytes(Opcode.LOAD, payload, self.config), self.data.room(offered)
        self.data.free += JOB_CYCLES
        first = taken + LOAD_REQUEST + self.latency
        start, end = self.data.transfer(self.memory, first, size, min(BEAT_BYTES, size / payload["items"]))
        if payload["target"] == LoadTarget.POSITION:
            end = self.data.free = max(end, self.residual_port.transfer(start, payload["items"], 1.0))
            self.load_bus.transfer(start, end - start, 1.0)
            self._hold_pixels(start, end)
        return Span(name="", opcode=Opcode.LOAD, start=taken, done=end + ITEM_LATENCY + self.config.rows + 4, busy=end - start)

    def _input(self, payload: dict[str, int], offered: float) -> Span:
        size, taken = transfer_bytes(Opcode.INPUT, payload, self.config), self.pixels.room(offered)
        rate = min(BEAT_BYTES, size / self.timing.pixels)
        start, end = self.pixels.transfer(self.memory, taken + PIXEL_REQUEST + self.latency, size, rate)
        end = max(end, self.load_bus.transfer(start, self.timing.pixels, 1.0))
        self.scattered.append(_Scatter(start, end))
        end += self.config.rows + PIXEL_POST
        self.pixels.ends[-1] = end
        return Span(name="", opcode=Opcode.INPUT, start=taken, done=end, busy=end - start)

    def _store(self, payload: dict[str, int], offered: float) -> Span:
        """STORE, and END: both wait for all LOADs."""
        start = max(offered, self.data.free) + LOAD_REQUEST
        end = start
        if "items" in payload:
            beats = -(-payload["items"] // 8)
            self.memory.transfer(start, beats * BEAT_BYTES, BEAT_BYTES)
            end += axi_writer.REQUEST_LATENCY + beats * BEAT_CYCLES + self.latency - BUS_LATENCY + axi_writer.DONE_LATENCY
        self.data.keep(end)
        return Span(name="", opcode=Opcode.STORE, start=end, done=end, busy=end - start)

    def _attend(self, payload: dict[str, int], offered: float) -> Span:
        attention, start = self.timing.attention, max(offered, self.attend_free)
        self.attend_free = start + attention.cycles(payload["heads"], payload["passes"])
        busy = payload["heads"] * payload["passes"] * (attention.score_cycles + attention.output_cycles)
        return Span(name="", opcode=Opcode.ATTEND, start=start, done=self.attend_free, busy=busy)
