"""A machine as its queues: instructions are fetched in program order, dealt, held until their waits are met, and taken by their engines."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rtl.bus.axi_reader import BEAT_LATENCY, REQUEST_LATENCY
from rtl.dispatcher import DEAL_CYCLES, POST_LATENCY
from rtl.flow.ddr import Memory
from rtl.instruction_queue import INSTRUCTION_CYCLES, MEAN_WAIT, OFFER_LATENCY, QUEUE_DEPTH
from rtl.plan.shared_memory import SharedMemory
from rtl.program.instruction import INSTRUCTION_BYTES, Instruction

#: Of a queue: its head, and what its memory holds.
HELD = QUEUE_DEPTH + 1


class Engine(Protocol):
    """Executes the instructions of a queue, in order. Each ends in `Queues.post`, called at once or when the memory has answered."""

    def free(self, instruction: Instruction) -> float:
        """When it can take this one, the next; infinite as long as that is not known."""
        ...

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        """It was offered, and is taken at ``time``."""
        ...


class Queues:
    """Runs a program: whatever can happen first, happens.

    queue_of : per opcode        engines : per queue; those in front are served first where several share a unit
    memory : behind all ports        start : of the dispatcher
    """

    def __init__(self, instructions: Sequence[Instruction], queue_of: Mapping[Any, int], memory: Memory, start: float):
        self.memory = SharedMemory(memory)
        self.memory.moved = INSTRUCTION_BYTES * len(instructions)
        count = 1 + max(queue_of.values())
        self.engines: dict[int, Engine] = {}
        self._program = [(instruction, queue_of[instruction.opcode]) for instruction in instructions]
        self._waits = {id(instruction): instruction.waits for instruction in instructions}
        self._fetched, self._dealt = 0, start + 1 + REQUEST_LATENCY + memory.latency + BEAT_LATENCY
        self._queues: list[list[tuple[Instruction, float]]] = [[] for _ in range(count)]  # what was dealt to each, and when
        self._taken: list[list[float]] = [[] for _ in range(count)]
        self._offered: list[float | None] = [None] * count  # of each queue's head, once it is known
        self._missing: list[tuple[list[float], int]] = [([], 0)] * count  # what each head waits for: so many posts of a counter
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._posts: defaultdict[int, list[float]] = defaultdict(list)

    def post(self, counter: int, time: float) -> None:
        """``time``: of the strobe."""
        self._posts[counter].append(time + POST_LATENCY + MEAN_WAIT)

    def at(self, time: float, call: Callable[[float], None]) -> None:
        """``call(time)`` then."""
        heapq.heappush(self._timers, (time, next(self._numbers), call))

    def waits(self, instruction: Instruction) -> dict[int, float]:
        """When each counter that it waits for had its value, for the queue's eyes; infinite if that is not known yet."""
        found = {}
        for counter, value in self._waits[id(instruction)]:
            posts = self._posts[counter]
            found[counter] = posts[value - 1] if len(posts) >= value else math.inf
        return found

    def run(self) -> None:
        left = len(self._program)
        self._deal()
        while left or self._next_event() < math.inf:
            time, queue = min([(self._ready(queue), queue) for queue in self.engines])
            event = self._next_event()
            if event <= time:
                assert event < math.inf, "instructions wait for each other"
                self._happen(event)
            else:
                self._take(queue, time)
                left -= 1

    def _next_event(self) -> float:
        timer = self._timers[0][0] if self._timers else math.inf
        return min(timer, self.memory.next_event())

    def _happen(self, time: float) -> None:
        if self._timers and self._timers[0][0] <= time:
            heapq.heappop(self._timers)[2](time)
        else:
            self.memory.advance(time)

    def _deal(self) -> None:
        """As far as queues have room."""
        while self._fetched < len(self._program):
            instruction, queue = self._program[self._fetched]
            taken = self._taken[queue]
            beyond = len(self._queues[queue]) - HELD
            if beyond >= len(taken):
                return
            self._dealt = max(self._dealt + DEAL_CYCLES, taken[beyond] + 2 if beyond >= 0 else 0.0)
            self._queues[queue].append((instruction, self._dealt))
            self._fetched += 1

    def _ready(self, queue: int) -> float:
        """When the queue's head can be taken."""
        offered = self._offered[queue]
        if offered is None:
            offered = self._offer(queue)
            if offered == math.inf:
                return offered
            self._offered[queue] = offered
        return max(offered, self.engines[queue].free(self._queues[queue][len(self._taken[queue])][0]))

    def _offer(self, queue: int) -> float:
        """Infinite as long as it is not known."""
        posts, wanted = self._missing[queue]
        taken, dealt = self._taken[queue], self._queues[queue]
        if len(posts) < wanted or len(taken) == len(dealt):
            return math.inf
        instruction, time = dealt[len(taken)]
        offered = max(time + OFFER_LATENCY, taken[-1] + INSTRUCTION_CYCLES if taken else 0.0)
        for counter, value in self._waits[id(instruction)]:
            posts = self._posts[counter]
            if len(posts) < value:
                self._missing[queue] = posts, value
                return math.inf
            offered = max(offered, posts[value - 1])
        return offered

    def _take(self, queue: int, time: float) -> None:
        taken, offered = self._taken[queue], self._offered[queue]
        assert offered is not None
        instruction = self._queues[queue][len(taken)][0]
        taken.append(time)
        self._offered[queue] = None
        self.engines[queue].take(instruction, offered, time)
        self._deal()
