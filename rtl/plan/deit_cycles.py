"""Predicted cycles of a DeiT's program: its five queues, with the latencies that the units publish.

Formulas, in cycles
-------------------
* Fetch, queues, waits, posts: `rtl.plan.queues`. All ports share one memory: `rtl.plan.shared_memory`.
* INPUT: as fast as the load bus scatters it. Positions hold it up, and wait for residual writes: `rtl.plan.deit_transfers`.
* LOAD: an item, or a beat of positions, per cycle; the memory's latency is hidden while others still arrive. STORE: `BEAT_CYCLES` per
  eight logits, after all LOADs. STREAM: `rtl.plan.stream`.
* A step of TILE (one pass of one image): computes ``words``; while it does, the next step fills ``16 * ceil(activations / 16)``, so that
  steps are ``max(words, fill of the next step, minimum)`` apart; ``minimum = finish + 2`` where the step gathers statistics.
* The fill of a pass, of either image, starts ``hazard + 2 + LOOK_CYCLES`` cycles after the last word on that pass (plus ``finish`` after
  statistics).
* TILE is done ``drain`` cycles after its last word.
* ATTEND: `AttentionConfig.cycles`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rtl.attention_config import AttentionConfig
from rtl.bus.axi_reader import REQUEST_LATENCY
from rtl.config import AcceleratorConfig
from rtl.flow.ddr import Memory
from rtl.plan.deit_array import Array, Timing
from rtl.plan.deit_transfers import Dma, Input, LoadBus, load_bytes
from rtl.plan.queues import Queues
from rtl.plan.stream import Stream, stream_bytes
from rtl.program.instruction import Instruction
from rtl.program.isa import QUEUE_OF, Opcode
from rtl.program.memory import BEAT_BYTES
from rtl.supervisor import start_cycles


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``cycles``: END. ``account``: of the array, by `deit_array.KINDS`. ``attending``, ``streaming``: cycles that the attention's jobs and
    the weights take."""

    cycles: int
    account: Mapping[str, int]
    bytes_moved: int
    attending: float
    streaming: float


class _Attention:
    """ATTEND: some heads on some passes."""

    def __init__(self, queues: Queues, config: AttentionConfig):
        self.queues, self.config = queues, config
        self.at = self.busy = 0.0

    def free(self, instruction: Instruction) -> float:
        return self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        heads, passes = instruction.payload["heads"], instruction.payload["passes"]
        self.at = time + self.config.cycles(heads, passes)
        self.busy += heads * passes * (self.config.score_cycles + self.config.output_cycles)
        self.queues.post(instruction.post_counter, self.at)


def schedule(instructions: Sequence[Instruction], config: AcceleratorConfig, memory: Memory, timing: Timing | None = None) -> Schedule:
    """Every engine's instructions as soon as it can. ``timing``: of the units, unless others are tried."""
    timing = timing or Timing.of(config)
    queues = Queues(instructions, QUEUE_OF, memory, start_cycles(timing.drain))
    latency, bus = memory.latency + REQUEST_LATENCY, LoadBus()
    array, attention = Array(queues, timing, bus.residual_writes), _Attention(queues, timing.attention)
    dma = Dma(queues, bus, config.rows, latency)
    stream = Stream(queues, config.weight_ports, config.slice_inputs, latency)
    queues.engines = {0: dma, 1: array, 2: attention, 3: stream, 4: Input(queues, bus, config, timing.pixels, latency)}
    queues.run()
    cycles = math.ceil(dma.end)
    return Schedule(
        cycles=cycles, account=array.total(cycles), bytes_moved=queues.memory.moved, attending=attention.busy, streaming=stream.busy
    )


def transfer_bytes(opcode: Opcode, payload: dict[str, int], config: AcceleratorConfig) -> int:
    """Bytes that a LOAD, STREAM, STORE or INPUT moves: whole beats; 0 for the others."""
    if opcode == Opcode.STREAM:
        return stream_bytes(payload["items"], config.weight_ports, config.slice_inputs)
    if opcode == Opcode.LOAD:
        return load_bytes(payload)
    size = payload["items"] * {Opcode.STORE: 2, Opcode.INPUT: 1}[opcode] if opcode in (Opcode.STORE, Opcode.INPUT) else 0
    return -(-size // BEAT_BYTES) * BEAT_BYTES
