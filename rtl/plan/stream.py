"""STREAMs of both machines: `rtl.weight_stream`."""

from __future__ import annotations

import math
from functools import partial

from rtl.bus.axi import BEAT_BYTES
from rtl.bus.axi_reader import BEAT_LATENCY
from rtl.plan.queues import Queues
from rtl.program.instruction import Instruction
from rtl.program.isa import weight_item_bits
from rtl.slice_port import WRITE_LATENCY
from rtl.weight_stream import POST_CYCLES, request_cycles

#: From the end of a transfer's last cycle to the last beat at the engine.
LAST_BEAT = BEAT_LATENCY - 1
#: Of a port: the job at work, and one that waits.
HELD = 2


def stream_bytes(items: int, ports: int, slice_inputs: int) -> int:
    """What a STREAM moves: whole beats over every port."""
    return ports * -(-items * weight_item_bits(slice_inputs) // 8 // BEAT_BYTES) * BEAT_BYTES


class Stream:
    """latency : from a request to its first beat on the bus"""

    def __init__(self, queues: Queues, ports: int, slice_inputs: int, latency: float):
        self.queues, self.ports, self.slice_inputs, self.latency = queues, ports, slice_inputs, latency
        self.at, self.under_way, self.busy = 0.0, 0, 0.0
        self.waiting: tuple[Instruction, float] | None = None

    def free(self, instruction: Instruction) -> float:
        """Once the instruction before has been asked for, which needs a place in the ports."""
        return math.inf if self.waiting else self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        self.at = time + request_cycles(self.ports)
        if self.under_way == HELD:
            self.waiting = instruction, self.at
        else:
            self._ask(instruction, self.at)

    def _ask(self, instruction: Instruction, time: float) -> None:
        self.under_way += 1
        items = instruction.payload["items"]
        size, done = stream_bytes(items, self.ports, self.slice_inputs), partial(self._done, instruction.post_counter)
        self.queues.memory.request("weights", time + self.latency, size, size / items, done, channels=self.ports)  # a slice per cycle

    def _done(self, counter: int, began: float, time: float) -> None:
        self.queues.post(counter, time + LAST_BEAT + WRITE_LATENCY + POST_CYCLES)
        self.under_way -= 1
        self.busy += time - began
        if self.waiting:
            instruction, asked = self.waiting
            self.waiting, self.at = None, max(asked, time + LAST_BEAT + WRITE_LATENCY)
            self._ask(instruction, self.at)
