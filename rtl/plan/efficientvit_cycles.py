"""Predicted cycles of an EfficientViT's program: its eight queues, with the cycles that each engine publishes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.efficientvit import collector
from rtl.efficientvit.accelerator import TraceState, depth_config, settle_cycles
from rtl.efficientvit.array_sequencer import COMMAND_CYCLES
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import QUEUE_OF, Instruction
from rtl.efficientvit.row import RowUnits
from rtl.efficientvit.row_feeder import BASE
from rtl.flow.ddr import Memory
from rtl.plan.efficientvit_engines import Array, Depth, Head, Outer, Window
from rtl.plan.efficientvit_transfers import Dma, HeadTransfers
from rtl.plan.queues import Queues
from rtl.plan.stream import Stream
from rtl.supervisor import start_cycles

#: What the array does in a cycle, or waits for: the names of the accelerator's own account.
KINDS = tuple(state.name.lower() for state in TraceState)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``cycles``: END. ``account``: of the array, by `KINDS`. ``stored``: per image, when its last logits were written."""

    cycles: int
    account: Mapping[str, int]
    stored: tuple[float, ...]
    bytes_moved: int


def schedule(instructions: Sequence[Instruction], config: EfficientVitMachine, memory: Memory) -> Schedule:
    """Every engine's instructions as soon as it can."""
    timing = RowUnits(config).timing
    queues = Queues(instructions, QUEUE_OF, memory, start_cycles(settle_cycles(timing, config.rows)))
    latency = memory.latency + REQUEST_LATENCY
    array = Array(
        queues,
        written=COMMAND_CYCLES - 1 + timing.settle,
        collected=COMMAND_CYCLES - 1 + BASE + timing.word + collector.latency(config.rows) + collector.GROUP_INTERVAL * (config.groups - 1),
    )
    dma, stream = Dma(queues, latency), Stream(queues, config.weight_ports, config.slice_inputs, latency)
    depth = depth_config(config)
    queues.engines = {
        0: dma,
        1: array,
        2: Outer(queues, config),
        3: stream,
        4: Window(queues, config, latency + BEAT_LATENCY),
        5: Depth(queues, {kernel: depth.latency(kernel) for kernel in (3, 5)}),
        6: Head(queues),
        7: HeadTransfers(dma, stream),
    }
    queues.run()
    cycles = math.ceil(dma.end)
    found = {kind: round(array.account[kind]) for kind in KINDS}
    account = found | {"drain": found["drain"] + cycles - sum(found.values())}
    return Schedule(cycles=cycles, account=account, stored=tuple(dma.stored), bytes_moved=queues.memory.moved)
