"""The order in which each queue executes its tasks: list scheduling with a model of the engines, the longest way to the end first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rtl.efficientvit.isa import PAIRS
from rtl.efficientvit.program.tasks import IMAGES_TOGETHER, Engine, Event, Task

#: From the end of a task until another queue's task that waits for it can start: the engine's pipeline, the post and the queue.
LATENCY = {Event.DONE: 40, Event.WRITTEN: 70, Event.COLLECTED: 130, Event.ORDER: 0}
#: Engines whose tasks may overtake each other; the others keep the order that they are given.
CHOOSING = (Engine.ARRAY, Engine.DEPTH, Engine.OUTER)
#: What a change of layers costs the depthwise engine.
LAYER_CYCLES = 60


@dataclass
class Schedule:
    """``order``: per engine, its tasks. ``start``: of every task, planned."""

    order: dict[Engine, list[Task]] = field(default_factory=lambda: defaultdict(list))
    start: dict[Task, int] = field(default_factory=dict)
    end: int = 0


def tails(tasks: Sequence[Task]) -> dict[Task, int]:
    """Cycles from a task's start to the end of what depends on it."""
    after: dict[Task, int] = defaultdict(int)
    total: dict[Task, int] = {}
    for task in reversed(tasks):
        total[task] = task.cycles + after[task]
        for before, event in task.after:
            after[before] = max(after[before], LATENCY[event] + total[task])
    return total


def schedule(tasks: Sequence[Task]) -> Schedule:
    """Greedy: whenever an engine is free, of the tasks that can start the most urgent one: of the earlier images, with the longest tail.

    tasks : each after all that it depends on
    """
    return _Scheduler(tasks).run()


class _Scheduler:
    def __init__(self, tasks: Sequence[Task]):
        tail = tails(tasks)
        self.urgency = {task: (task.image // IMAGES_TOGETHER, -tail[task], place) for place, task in enumerate(tasks)}
        self.left = len(tasks)
        self.waiting: dict[Task, int] = {}
        self.followers: dict[Task, list[Task]] = defaultdict(list)
        self.in_order: dict[Engine, list[Task]] = defaultdict(list)
        for task in tasks:
            predecessors = {before for before, _ in task.after}
            self.waiting[task] = len(predecessors)
            for before in predecessors:
                self.followers[before].append(task)
            if task.engine not in CHOOSING:
                self.in_order[task.engine].append(task)
        self.result = Schedule()
        self.free: dict[Engine, int] = defaultdict(int)
        self.position: dict[Engine, int] = defaultdict(int)
        self.earliest: dict[Task, int] = {}
        # Of a choosing engine: tasks whose predecessors are placed, by when they can start; and those that could start now, by urgency.
        self.coming: dict[Engine, list] = {engine: [] for engine in CHOOSING}
        self.ready: dict[Engine, list] = {engine: [] for engine in CHOOSING}
        self.layer: Task | None = None
        for task in tasks:
            if self.waiting[task] == 0:
                self._release(task)

    def run(self) -> Schedule:
        while self.left:
            options = [option for engine in self.in_order if (option := self._next_in_order(engine))]
            for engine in CHOOSING:
                if self.ready[engine]:
                    options.append((self.free[engine], engine))
                elif self.coming[engine]:
                    options.append((max(self.free[engine], self.coming[engine][0][0]), engine))
            assert options, "tasks wait for each other"
            start, engine = min(options)
            if engine in CHOOSING:
                self._choose(engine, start)
            else:
                task = self.in_order[engine][self.position[engine]]
                self.position[engine] += 1
                self._place(task, start)
            self.left -= 1
        return self.result

    def _next_in_order(self, engine: Engine) -> tuple[int, Engine] | None:
        queue, position = self.in_order[engine], self.position[engine]
        if position == len(queue) or self.waiting[queue[position]]:
            return None
        return max(self.free[engine], self.earliest[queue[position]]), engine

    def _choose(self, engine: Engine, start: int) -> None:
        if engine is Engine.ARRAY:
            start = -(-start // PAIRS) * PAIRS
        coming, ready = self.coming[engine], self.ready[engine]
        while coming and coming[0][0] <= start:
            task = heapq.heappop(coming)[2]
            heapq.heappush(ready, (self.urgency[task], task))
        if engine is Engine.DEPTH:
            self._place_lines(ready, start)
        else:
            self._place(heapq.heappop(ready)[1], start)

    def _place_lines(self, ready: list, start: int) -> None:
        """A line pair of the layer at hand, or, if there is none, of the most urgent one."""
        entry = min((entry for entry in ready if entry[1].layer is self.layer), default=None) or min(ready)
        ready.remove(entry)
        heapq.heapify(ready)
        task = entry[1]
        if task.layer is not self.layer:
            self.layer = task.layer
            assert task.layer is not None
            self._place(replace(task.layer, after=set()), start)
            start += LAYER_CYCLES
        self._place(task, start)

    def _release(self, task: Task) -> None:
        start, earliest = self.result.start, 0
        for before, event in task.after:
            earliest = max(earliest, start[before] + before.cycles + LATENCY[event])
        self.earliest[task] = earliest
        if task.engine in CHOOSING:
            heapq.heappush(self.coming[task.engine], (earliest, self.urgency[task][2], task))

    def _place(self, task: Task, start: int) -> None:
        self.result.start[task] = start
        self.result.order[task.engine].append(task)
        self.free[task.engine] = start + task.cycles
        self.result.end = max(self.result.end, self.free[task.engine])
        for follower in self.followers[task]:
            self.waiting[follower] -= 1
            if self.waiting[follower] == 0:
                self._release(follower)
