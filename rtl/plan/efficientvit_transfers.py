"""The EfficientViT machine's transfers: `WeightStream` and `DmaEngine`, which two queues each have instructions for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from rtl.bus import axi_writer
from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.efficientvit import dma_engine
from rtl.efficientvit.isa import Opcode
from rtl.logit_store import BEAT_CYCLES
from rtl.plan.queues import Queues
from rtl.program.instruction import Instruction
from rtl.program.memory import BEAT_BYTES
from rtl.slice_port import WRITE_LATENCY
from rtl.weight_stream import POST_CYCLES, request_cycles

#: From the end of a transfer's last cycle to the last beat at the engine.
LAST_BEAT = BEAT_LATENCY - 1


class Stream:
    """STREAM and HEAD_STREAM, on the same four ports."""

    def __init__(self, queues: Queues, ports: int, latency: int):
        self.queues, self.ports, self.latency = queues, ports, latency
        self.at, self.under_way = 0.0, 0
        self.waiting: tuple[Instruction, float] | None = None

    def free(self, instruction: Instruction) -> float:
        """Once the instruction before has been asked for, which needs a place in the ports: one at work, one that waits."""
        return math.inf if self.waiting else self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        self.at = time + request_cycles(self.ports)
        if self.under_way == 2:
            self.waiting = instruction, self.at
        else:
            self._ask(instruction, self.at)

    def _ask(self, instruction: Instruction, time: float) -> None:
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


class Dma:
    """LOAD and HEAD_LOAD; STORE and END, which wait until all LOADs have arrived."""

    def __init__(self, queues: Queues, latency: int):
        self.queues, self.latency = queues, latency
        self.at, self.under_way, self.arrived = 0.0, 0, 0.0
        self.stored: list[float] = []
        self.waiting: tuple[Instruction, float] | None = None
        self.end = 0.0

    def free(self, instruction: Instruction) -> float:
        return math.inf if self.waiting else self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
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

    def _ask(self, instruction: Instruction, time: float) -> None:
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

    def _store(self, instruction: Instruction, time: float) -> None:
        if instruction.opcode == Opcode.END:
            self.end = time + 1
            return
        beats = -(-instruction.payload["items"] // 8)
        self.queues.memory.moved += beats * BEAT_BYTES
        memory = self.latency - REQUEST_LATENCY
        written = time + axi_writer.REQUEST_LATENCY + beats * BEAT_CYCLES
        self.stored.append(written)
        self.at = written + memory + axi_writer.DONE_LATENCY + 1
        self.queues.post(instruction.post_counter, self.at)


@dataclass
class HeadTransfers:
    """The last queue: its LOADs and STREAMs go to the engines of others, when these have none of their own."""

    dma: Dma
    stream: Stream

    def free(self, instruction: Instruction) -> float:
        return self._engine(instruction).free(instruction)

    def _engine(self, instruction: Instruction) -> Dma | Stream:
        return self.dma if instruction.opcode == Opcode.HEAD_LOAD else self.stream

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        self._engine(instruction).take(instruction, offered, time)
