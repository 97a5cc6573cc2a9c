"""When an instruction reaches its engine: fetched in program order, dealt to a queue with room, held until its waits are met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rtl.bus.axi import BEAT_BYTES
from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.dispatcher import DEAL_CYCLES, POST_LATENCY
from rtl.instruction_queue import INSTRUCTION_CYCLES, MEAN_WAIT, OFFER_LATENCY, QUEUE_DEPTH
from rtl.plan.bandwidth import Bandwidth
from rtl.program.instruction import INSTRUCTION_BYTES, WAITS, Instruction

#: Of a queue: its head, and what its memory holds.
HELD = QUEUE_DEPTH + 1


class Dispatch:
    """The dispatcher and its queues. Call `offered` for every instruction in program order, then `taken` and, if it posts, `post`.

    Every wait looks back in the program (a tested law), so what it waits for is known by then.

    queues : of each opcode        memory, latency : where the program comes from        start : of the dispatcher
    """

    def __init__(self, queues: Mapping[Any, int], memory: Bandwidth, latency: float, start: float):
        self._queue_of, self._memory = queues, memory
        self._dealt = start + 1 + REQUEST_LATENCY + latency + BEAT_LATENCY
        self._taken: defaultdict[int, list[float]] = defaultdict(list)
        self._posts: defaultdict[int, list[float]] = defaultdict(list)

    def waits(self, instruction: Instruction) -> dict[int, float]:
        """When each counter that the instruction waits for has its value, for its queue's eyes."""
        named = ((getattr(instruction, f"wait{n}_counter"), getattr(instruction, f"wait{n}_value")) for n in range(WAITS))
        return {counter: self._posts[counter][value - 1] + POST_LATENCY + MEAN_WAIT for counter, value in named if value}

    def offered(self, instruction: Instruction, waits: Mapping[int, float]) -> float:
        """When its queue offers it to its engine."""
        before = self._taken[self._queue_of[instruction.opcode]]
        room = before[-HELD] + 2 if len(before) >= HELD else 0.0
        self._dealt = max(self._dealt + DEAL_CYCLES, room)
        self._memory.transfer(self._dealt, INSTRUCTION_BYTES, BEAT_BYTES)
        follows = before[-1] + INSTRUCTION_CYCLES if before else 0.0
        return max(self._dealt + OFFER_LATENCY, follows, *waits.values())

    def taken(self, instruction: Instruction, time: float) -> None:
        self._taken[self._queue_of[instruction.opcode]].append(time)

    def post(self, counter: int, time: float) -> None:
        """``time``: of the strobe."""
        self._posts[counter].append(time)

    def revise(self, counter: int, number: int, time: float) -> None:
        """The strobe of a post, from 0, comes later than was said. Nobody has asked yet."""
        self._posts[counter][number] = time
