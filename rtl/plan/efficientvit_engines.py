"""The EfficientViT machine's engines: when each can take its next instruction, and when it posts. Their laws stand with the units:
`ArraySequencer`, `RowFeeder`, `Collector`, `DepthSweeps`, `DepthEngine`, `AttendConfig`, `AttendFeeder`, `WindowFormer`, `HeadEngine`."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtl.efficientvit import depth_engine, window_former, window_input
from rtl.efficientvit.accelerator import DEPTH_SETTLE, WAIT_STATES, TraceState, attend_config
from rtl.efficientvit.array_sequencer import OFFER_CYCLES, step_cycles
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.depth_command import sweep_cycles
from rtl.efficientvit.head_command import HeadKind
from rtl.efficientvit.head_engine import HeadEngine, HeadEngineConfig
from rtl.efficientvit.isa import PAIRS, Counter, Opcode
from rtl.plan.queues import Queues
from rtl.program.instruction import Instruction


@dataclass
class Array:
    """STEPs, on a grid of cycles. ``written``, ``collected``: from a step's end to its posts. ``account``: so far."""

    queues: Queues
    written: int
    collected: int
    end: float = 0.0
    account: Tally[str] = field(default_factory=Tally)

    def free(self, instruction: Instruction) -> float:
        """The last cycle of the step before: its successor is taken there."""
        return self.end - OFFER_CYCLES

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        begin = math.ceil((time + OFFER_CYCLES) / PAIRS) * PAIRS
        self._charge(instruction, offered, begin)
        cycles = step_cycles(instruction.payload)
        self.end = begin + cycles
        self.account["compute"] += cycles
        self.queues.post(Counter.STEPS_WRITTEN, self.end + self.written)
        self.queues.post(Counter.STEPS_COLLECTED, self.end + self.collected)

    def _charge(self, instruction: Instruction, offered: float, begin: float) -> None:
        """The cycles since the last step: to what was waited for last, and to the grid."""
        waits = self.queues.waits(instruction)
        last = max(waits, key=lambda counter: waits[counter], default=None)
        waited = max(0.0, offered - self.end)
        known = last is not None and waits[last] >= offered
        state = WAIT_STATES.get(Counter(last), TraceState.DRAIN) if known else TraceState.DRAIN
        self.account[state.name.lower()] += round(waited)
        self.account["align"] += round(begin - self.end) - round(waited)


@dataclass
class Depth:
    """DEPTH_LAYER and DEPTH_LINES. A line pair is taken while the last sweep of the one before goes on."""

    queues: Queues
    latency: Mapping[int, int]  # by kernel
    layer: Mapping[str, int] = field(default_factory=dict)
    last_sweep: float = 0.0
    end: float = 0.0
    done: float = 0.0
    next_is_layer: bool = False

    def free(self, instruction: Instruction) -> float:
        return self.last_sweep

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        if instruction.opcode == Opcode.DEPTH_LAYER:
            self.layer = instruction.payload
            self.last_sweep = self.end = self.done = max(time, self.done + depth_engine.LAYER_WAIT)
            self.queues.post(Counter.DEPTHS_DONE, self.done + 1 + DEPTH_SETTLE)
            return
        kernel = 5 if self.layer["kernel_5"] else 3
        sweep = sweep_cycles(kernel, self.layer["width"])
        sweeps = 1 if self.layer["half"] else 2 * self.layer["words"]
        begin = max(time + depth_engine.FIRST_READ, self.end)
        self.end, self.last_sweep = begin + sweeps * sweep, begin + (sweeps - 1) * sweep
        self.done = self.end + self.latency[kernel]
        self.queues.post(Counter.DEPTHS_DONE, self.done + DEPTH_SETTLE)


class Outer:
    """OUTER: a head's K^T V."""

    def __init__(self, queues: Queues, config: EfficientVitMachine):
        self.queues, self.config = queues, attend_config(config)
        self.taken_until = self.closes = 0.0  # the next head's last step may not begin sooner

    def free(self, instruction: Instruction) -> float:
        return self.taken_until

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        pixels, wide = instruction.payload["pixels"], bool(instruction.payload["wide"])
        tiles = self.config.attention.tiles(wide)
        before = (-(-pixels // self.config.depth) - 1) * tiles
        last_step = max(time + 1 + before, self.closes)
        self.taken_until, self.closes = last_step + tiles, last_step + self.config.spacing(wide)
        self.queues.post(Counter.OUTERS_DONE, last_step - before + self.config.latency(pixels, wide))


class Window:
    """WINDOW: output lines of the stem's windows, each as soon as the input lines under it have come."""

    def __init__(self, queues: Queues, config: EfficientVitMachine, latency: int):
        self.queues, self.size, self.latency = queues, config.image_size, latency
        self.bytes = config.image_size**2 * config.channels
        self.at = self.end = 0.0
        self.arrived: list[float] = []  # of the image: its input lines
        self.read: list[float] = []  # and its output lines

    def free(self, instruction: Instruction) -> float:
        return self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        payload = instruction.payload
        begin = time + window_input.REQUEST_CYCLES
        if payload["first"]:
            self.queues.memory.moved += self.bytes
            self.arrived, self.read, self.begun = [], [], begin + self.latency
        end = begin
        for _ in range(payload["lines"]):
            end = self._line(end)
        self.at = end + window_former.LATENCY + window_input.SETTLE_CYCLES
        self.queues.post(instruction.post_counter, self.at + 1)

    def _line(self, begin: float) -> float:
        """An output line, read as two input lines more than before have come: when it is through."""
        while len(self.arrived) < 2 * len(self.read) + 2:
            number = len(self.arrived)
            kept = (number - window_former.LINES + 1) // 2  # the output line whose reading makes room
            room = self.read[kept] if 0 <= kept < len(self.read) else 0.0
            before = self.arrived[-1] if self.arrived else self.begun
            self.arrived.append(max(before, room) + self.size // window_former.COLUMNS)
        self.read.append(max(begin, self.arrived[2 * len(self.read) + 1]) + 2 + self.size // 2)
        return self.read[-1]


@dataclass
class Head:
    """FULLY_CONNECTED: LINEARs follow each other, POOL and NORM are alone."""

    queues: Queues
    pending: float = 0.0  # the command before has left the place where the next one waits
    end: float = 0.0
    done: float = 0.0

    def free(self, instruction: Instruction) -> float:
        return self.pending

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        payload = instruction.payload
        if payload["kind"] == HeadKind.LINEAR:
            begin = max(time + 1, self.end)
            self.pending, self.end = begin, begin + payload["words"] * payload["pairs"]
            self.done = self.end + HeadEngine.linear_latency
        else:
            pool = payload["kind"] == HeadKind.POOL
            counts = {"channels": payload["channels"], "inverse_shift": payload["inverse_shift"]} if payload["statistics"] else {}
            cycles = HeadEngineConfig.channel_cycles(words=payload["words"], pool=pool, **counts)
            self.pending = self.end = self.done = max(time + 1, self.done + 1) + cycles
        self.queues.post(Counter.HEADS_DONE, self.done)
