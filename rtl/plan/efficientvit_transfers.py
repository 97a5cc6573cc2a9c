"""The EfficientViT machine's transfers beside `rtl.plan.stream`: `DmaEngine`, and the queue that goes last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from rtl.bus import axi_writer
from rtl.bus.axi_reader import REQUEST_LATENCY
from rtl.efficientvit import dma_engine
from rtl.efficientvit.isa import Opcode
from rtl.logit_store import BEAT_CYCLES
from rtl.plan.queues import Queues
from rtl.plan.stream import LAST_BEAT, Stream
from rtl.program.instruction import Instruction
from rtl.program.memory import BEAT_BYTES


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

    def _done(self, counter: int, began: float, time: float) -> None:
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
