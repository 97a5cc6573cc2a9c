"""The DeiT machine's transfers beside `rtl.plan.stream`: `DmaEngine` with its `Loader`, and `PixelInput`."""

from __future__ import annotations

import math
from functools import partial

from rtl.bus import axi_writer
from rtl.bus.axi_reader import BEAT_LATENCY
from rtl.config import AcceleratorConfig
from rtl.dma_engine import REQUEST_CYCLES as LOAD_REQUEST
from rtl.loader import ITEM_LATENCY, JOB_CYCLES, TAIL_CYCLES, WAITING_JOBS
from rtl.logit_store import BEAT_CYCLES
from rtl.pixel_input import POST_CYCLES as PIXEL_POST
from rtl.pixel_input import REQUEST_CYCLES as PIXEL_REQUEST
from rtl.plan.bandwidth import Bandwidth
from rtl.plan.queues import Queues
from rtl.plan.stream import LAST_BEAT
from rtl.program.instruction import Instruction
from rtl.program.isa import LoadTarget, Opcode
from rtl.program.memory import BEAT_BYTES

ITEM_BYTES = {LoadTarget.PARAMETER: 8, LoadTarget.NORM: 4, LoadTarget.TABLE: 1, LoadTarget.POSITION: 16}
#: Jobs that the loader holds: one at work.
LOADS_HELD = WAITING_JOBS + 1


def load_bytes(payload: dict[str, int]) -> int:
    """What a LOAD moves: whole beats."""
    return _beats(payload["items"] * ITEM_BYTES[LoadTarget(payload["target"])])


def _beats(size: int) -> int:
    return -(-size // BEAT_BYTES) * BEAT_BYTES


class LoadBus:
    """Beats to the rows. Positions go before images, and wait in every cycle in which the array writes residuals.

    residual_writes : of the array and of positions        positions : their cycles        until : the image on the bus has come through
    """

    def __init__(self) -> None:
        self.residual_writes, self.positions = Bandwidth(1.0), Bandwidth(1.0)
        self.began = self.until = 0.0

    def load(self, begin: float, end: float, beats: int) -> float:
        """Positions that memory gives from ``begin`` to ``end``: when all have come."""
        end = max(end, self.residual_writes.transfer(begin, beats, 1.0))
        self.positions.transfer(begin, end - begin, 1.0)
        self.until += max(0.0, min(self.until, end) - max(self.began, begin))
        return end

    def scatter(self, begin: float, end: float, beats: int) -> None:
        """An image that memory gives from ``begin`` to ``end``."""
        self.began, self.until = begin, max(end, self.positions.transfer(begin, beats, 1.0))


class Dma:
    """LOAD; STORE and END, which wait until all LOADs have arrived."""

    def __init__(self, queues: Queues, bus: LoadBus, rows: int, latency: float):
        self.queues, self.bus, self.rows, self.latency = queues, bus, rows, latency
        self.at, self.under_way, self.arrived, self.end = 0.0, 0, 0.0, 0.0
        self.waiting: tuple[Instruction, float] | None = None

    def free(self, instruction: Instruction) -> float:
        return math.inf if self.waiting else self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        checked = time + LOAD_REQUEST
        wait = self.under_way == LOADS_HELD if instruction.opcode == Opcode.LOAD else self.under_way
        if wait:
            self.waiting = instruction, checked
        else:
            self._go(instruction, checked)

    def _go(self, instruction: Instruction, time: float) -> None:
        if instruction.opcode == Opcode.LOAD:
            self.at, self.under_way = time + 1, self.under_way + 1
            size, items = load_bytes(instruction.payload), instruction.payload["items"]
            self.queues.memory.request("data", time + self.latency, size, size / items, partial(self._done, instruction))
        elif instruction.opcode == Opcode.END:
            self.end = max(time, self.arrived + 1) + 1
        else:
            self._store(instruction, max(time, self.arrived + 1))

    def _done(self, instruction: Instruction, began: float, time: float) -> None:
        """The last item has come over the memory's bus."""
        if instruction.payload["target"] == LoadTarget.POSITION:
            time = self.bus.load(began, time, instruction.payload["items"])
        self.queues.memory.hold("data", time + JOB_CYCLES)
        self.arrived = time + LAST_BEAT + ITEM_LATENCY + TAIL_CYCLES
        if instruction.post_enable:
            self.queues.post(instruction.post_counter, self.arrived + self.rows)
        self.under_way -= 1
        if self.waiting and (self.waiting[0].opcode == Opcode.LOAD or not self.under_way):
            (following, checked), self.waiting = self.waiting, None
            self._go(following, max(checked, time))

    def _store(self, instruction: Instruction, time: float) -> None:
        beats = -(-instruction.payload["items"] // 8)
        self.queues.memory.moved += beats * BEAT_BYTES
        written = time + axi_writer.REQUEST_LATENCY + beats * BEAT_CYCLES
        self.at = self.arrived = written + self.queues.memory.memory.latency + axi_writer.DONE_LATENCY + 1


class Input:
    """INPUT, one image at a time."""

    def __init__(self, queues: Queues, bus: LoadBus, config: AcceleratorConfig, beats: int, latency: float):
        self.queues, self.bus, self.rows, self.beats, self.latency = queues, bus, config.rows, beats, latency
        self.at = 0.0

    def free(self, instruction: Instruction) -> float:
        return self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        size, self.at = _beats(instruction.payload["items"]), math.inf
        done = partial(self._done, instruction.post_counter)
        self.queues.memory.request("pixels", time + PIXEL_REQUEST + self.latency, size, size / self.beats, done)

    def _done(self, counter: int, began: float, time: float) -> None:
        self.bus.scatter(began, time, self.beats)
        self.queues.at(self.bus.until, partial(self._scattered, counter))

    def _scattered(self, counter: int, time: float) -> None:
        """Unless positions have come between."""
        if time < self.bus.until:
            self.queues.at(self.bus.until, partial(self._scattered, counter))
            return
        self.at = time + BEAT_LATENCY + self.rows + PIXEL_POST
        self.queues.post(counter, self.at)
