"""Predicted cycles of an EfficientViT's program: its eight queues, with the cycles that each engine publishes.

Every engine's law stands in its docstring: `ArraySequencer`, `RowFeeder`, `Collector`, `DepthSweeps`, `DepthEngine`, `AttendConfig`,
`AttendFeeder`, `WindowFormer`, `HeadEngine`, `WeightStream`, `DmaEngine`. Here is when each can take its next instruction.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rtl.bus import axi_writer
from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.efficientvit import collector, depth_engine, dma_engine, window_former, window_input
from rtl.efficientvit.accelerator import DEPTH_SETTLE, WAIT_STATES, TraceState, attend_config, depth_config, settle_cycles
from rtl.efficientvit.array_sequencer import COMMAND_CYCLES, OFFER_CYCLES, step_cycles
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.depth_command import sweep_cycles
from rtl.efficientvit.head_command import HeadKind
from rtl.efficientvit.head_engine import HeadEngine, HeadEngineConfig
from rtl.efficientvit.isa import PAIRS, QUEUE_OF, Counter, Instruction, Opcode
from rtl.efficientvit.row import RowUnits
from rtl.efficientvit.row_feeder import BASE
from rtl.flow.ddr import Memory
from rtl.logit_store import BEAT_CYCLES
from rtl.plan.queues import Queues
from rtl.program.instruction import Instruction as AnyInstruction
from rtl.program.memory import BEAT_BYTES
from rtl.slice_port import WRITE_LATENCY
from rtl.supervisor import start_cycles
from rtl.weight_stream import POST_CYCLES, request_cycles

#: What the array does in a cycle, or waits for: the names of the accelerator's own account.
KINDS = tuple(state.name.lower() for state in TraceState)
#: From a request to its first beat at the engine, beside the memory's latency.
BUS_LATENCY = REQUEST_LATENCY + BEAT_LATENCY
#: From the end of a transfer's last cycle to the last beat at the engine.
LAST_BEAT = BEAT_LATENCY - 1


@dataclass
class _Array:
    """STEPs, on a grid of cycles. ``written``, ``collected``: from a step's end to its posts. ``account``: so far."""

    queues: Queues
    written: int
    collected: int
    end: float = 0.0
    account: Tally[str] = field(default_factory=Tally)

    def free(self, instruction: AnyInstruction) -> float:
        """The last cycle of the step before: its successor is taken there."""
        return self.end - OFFER_CYCLES

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        begin = math.ceil((time + OFFER_CYCLES) / PAIRS) * PAIRS
        self._charge(instruction, offered, begin)
        cycles = step_cycles(instruction.payload)
        self.end = begin + cycles
        self.account["compute"] += cycles
        self.queues.post(Counter.STEPS_WRITTEN, self.end + self.written)
        self.queues.post(Counter.STEPS_COLLECTED, self.end + self.collected)

    def _charge(self, instruction: AnyInstruction, offered: float, begin: float) -> None:
        """The cycles since the last step: to what was waited for last, and to the grid."""
        waits = self.queues.waits(instruction)
        last = max(waits, key=lambda counter: waits[counter], default=None)
        waited = max(0.0, offered - self.end)
        state = TraceState.DRAIN if last is None or waits[last] < offered else WAIT_STATES[Counter(last)]
        self.account[state.name.lower()] += round(waited)
        self.account["align"] += round(begin - self.end) - round(waited)


@dataclass
class _Depth:
    """DEPTH_LAYER and DEPTH_LINES. A line pair is taken while the last sweep of the one before goes on."""

    queues: Queues
    latency: Mapping[int, int]  # by kernel
    layer: Mapping[str, int] = field(default_factory=dict)
    last_sweep: float = 0.0
    end: float = 0.0
    done: float = 0.0
    next_is_layer: bool = False

    def free(self, instruction: AnyInstruction) -> float:
        return self.last_sweep

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
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


class _Outer:
    """OUTER: a head's K^T V."""

    def __init__(self, queues: Queues, config: EfficientVitMachine):
        self.queues, self.config = queues, attend_config(config)
        self.taken_until = self.closes = 0.0  # the next head's last step may not begin sooner

    def free(self, instruction: AnyInstruction) -> float:
        return self.taken_until

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        pixels, wide = instruction.payload["pixels"], bool(instruction.payload["wide"])
        tiles = self.config.attention.tiles(wide)
        before = (-(-pixels // self.config.depth) - 1) * tiles
        last_step = max(time + 1 + before, self.closes)
        self.taken_until, self.closes = last_step + tiles, last_step + self.config.spacing(wide)
        self.queues.post(Counter.OUTERS_DONE, last_step - before + self.config.latency(pixels, wide))


class _Window:
    """WINDOW: output lines of the stem's windows, each as soon as the input lines under it have come."""

    def __init__(self, queues: Queues, config: EfficientVitMachine, latency: int):
        self.queues, self.size, self.latency = queues, config.image_size, latency
        self.bytes = config.image_size**2 * config.channels
        self.at = self.end = 0.0
        self.arrived: list[float] = []  # of the image: its input lines
        self.read: list[float] = []  # and its output lines

    def free(self, instruction: AnyInstruction) -> float:
        return self.at

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
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
class _Head:
    """FULLY_CONNECTED: LINEARs follow each other, POOL and NORM are alone."""

    queues: Queues
    pending: float = 0.0  # the command before has left the place where the next one waits
    end: float = 0.0
    done: float = 0.0

    def free(self, instruction: AnyInstruction) -> float:
        return self.pending

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
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


class _Stream:
    """STREAM and HEAD_STREAM, on the same four ports."""

    def __init__(self, queues: Queues, ports: int, latency: int):
        self.queues, self.ports, self.latency = queues, ports, latency
        self.at, self.under_way = 0.0, 0
        self.waiting: tuple[AnyInstruction, float] | None = None

    def free(self, instruction: AnyInstruction) -> float:
        """Once the instruction before has been asked for, which needs a place in the ports: one at work, one that waits."""
        return math.inf if self.waiting else self.at

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        self.at = time + request_cycles(self.ports)
        if self.under_way == 2:
            self.waiting = instruction, self.at
        else:
            self._ask(instruction, self.at)

    def _ask(self, instruction: AnyInstruction, time: float) -> None:
        self.under_way += 1
        size = instruction.payload["items"] * self.ports * BEAT_BYTES
        done = partial(self._done, instruction.post_counter)
        self.queues.memory.request("weights", time + self.latency, size, size, done, channels=self.ports)

    def _done(self, counter: int, time: float) -> None:
        self.queues.post(counter, time + LAST_BEAT + WRITE_LATENCY + POST_CYCLES)
        self.under_way -= 1
        if self.waiting:
            instruction, asked = self.waiting
            self.waiting, self.at = None, max(asked, time + LAST_BEAT + WRITE_LATENCY)
            self._ask(instruction, self.at)


class _Dma:
    """LOAD and HEAD_LOAD; STORE and END, which wait until all LOADs have arrived."""

    def __init__(self, queues: Queues, latency: int):
        self.queues, self.latency = queues, latency
        self.at, self.under_way, self.arrived = 0.0, 0, 0.0
        self.stored: list[float] = []
        self.waiting: tuple[AnyInstruction, float] | None = None
        self.end = 0.0

    def free(self, instruction: AnyInstruction) -> float:
        return math.inf if self.waiting else self.at

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        checked = time + dma_engine.REQUEST_CYCLES
        if instruction.opcode in (Opcode.LOAD, Opcode.HEAD_LOAD):
            if self.under_way <= dma_engine.JOBS:
                self.at = checked + 1
                self._ask(instruction, checked)
            else:
                self.waiting = instruction, checked
        elif self.under_way:
            self.waiting = instruction, checked
        else:
            self._store(instruction, max(checked, self.arrived))

    def _ask(self, instruction: AnyInstruction, time: float) -> None:
        self.under_way += 1
        done = partial(self._done, instruction.post_counter)
        self.queues.memory.request("data", time + self.latency, instruction.payload["beats"] * BEAT_BYTES, BEAT_BYTES, done)

    def _done(self, counter: int, time: float) -> None:
        self.arrived = time + LAST_BEAT + 1
        self.queues.post(counter, self.arrived)
        self.under_way -= 1
        if not self.waiting:
            return
        instruction, checked = self.waiting
        if instruction.opcode in (Opcode.LOAD, Opcode.HEAD_LOAD):
            self.waiting, self.at = None, max(checked, time) + 1
            self._ask(instruction, max(checked, time))
        elif not self.under_way:
            self.waiting = None
            self._store(instruction, max(checked, self.arrived + 2))

    def _store(self, instruction: AnyInstruction, time: float) -> None:
        if instruction.opcode == Opcode.END:
            self.end = time + 1
            return
        beats = -(-instruction.payload["items"] // 8)
        self.queues.memory.moved += beats * BEAT_BYTES
        memory = self.latency - BUS_LATENCY
        written = time + axi_writer.REQUEST_LATENCY + beats * BEAT_CYCLES
        self.stored.append(written)
        self.at = written + memory + axi_writer.DONE_LATENCY + 1
        self.queues.post(instruction.post_counter, self.at)


@dataclass
class _HeadTransfers:
    """The last queue: its LOADs and STREAMs go to the engines of others, when these have none of their own."""

    dma: _Dma
    stream: _Stream

    def free(self, instruction: AnyInstruction) -> float:
        return self._engine(instruction).free(instruction)

    def _engine(self, instruction: AnyInstruction) -> _Dma | _Stream:
        return self.dma if instruction.opcode == Opcode.HEAD_LOAD else self.stream

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        self._engine(instruction).take(instruction, offered, time)


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
    array = _Array(
        queues,
        written=COMMAND_CYCLES - 1 + timing.settle,
        collected=COMMAND_CYCLES - 1 + BASE + timing.word + collector.latency(config.rows) + collector.GROUP_INTERVAL * (config.groups - 1),
    )
    dma, stream = _Dma(queues, latency), _Stream(queues, config.weight_ports, latency)
    depth = depth_config(config)
    queues.engines = {
        0: dma,
        1: array,
        2: _Outer(queues, config),
        3: stream,
        4: _Window(queues, config, latency + BEAT_LATENCY),
        5: _Depth(queues, {kernel: depth.latency(kernel) for kernel in (3, 5)}),
        6: _Head(queues),
        7: _HeadTransfers(dma, stream),
    }
    queues.run()
    cycles = math.ceil(dma.end)
    found = {kind: round(array.account[kind]) for kind in KINDS}
    account = found | {"drain": found["drain"] + cycles - sum(found.values())}
    return Schedule(cycles=cycles, account=account, stored=tuple(dma.stored), bytes_moved=queues.memory.moved)
