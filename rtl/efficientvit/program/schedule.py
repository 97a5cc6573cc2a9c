"""The order in which each queue executes its tasks: list scheduling with a model of the engines, the longest way to the end first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from rtl.efficientvit.isa import PAIRS
from rtl.efficientvit.program.tasks import IMAGES_TOGETHER, Engine, Event, Task

#: From the end of a task until another queue's task that waits for it can start: the engine's pipeline, the post and the queue.
LATENCY = {Event.DONE: 40, Event.WRITTEN: 70, Event.COLLECTED: 130, Event.ORDER: 0}


@dataclass
class Schedule:
    """``order``: per engine, its tasks. ``start``: of every task, planned."""

    order: dict[Engine, list[Task]] = field(default_factory=lambda: defaultdict(list))
    start: dict[Task, int] = field(default_factory=dict)
    end: int = 0


def tails(tasks: list[Task]) -> dict[Task, int]:
    """Cycles from a task's start to the end of what depends on it."""
    after: dict[Task, int] = defaultdict(int)
    total: dict[Task, int] = {}
    for task in reversed(tasks):
        total[task] = task.cycles + after[task]
        for before, event in task.after:
            after[before] = max(after[before], LATENCY[event] + total[task])
    return total


def schedule(tasks: list[Task]) -> Schedule:
    """Greedy: whenever an engine is free, of the tasks that can start first the one with the longest tail; images in turn.

    tasks : each after all that it depends on. The depthwise, window, attention and head engines keep this order
    """
    tail = tails(tasks)
    place = {task: number for number, task in enumerate(tasks)}
    waiting = {task: len({before for before, _ in task.after}) for task in tasks}
    followers: dict[Task, list[Task]] = defaultdict(list)
    for task in tasks:
        for before in {before for before, _ in task.after}:
            followers[before].append(task)
    in_order: dict[Engine, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.engine is not Engine.ARRAY:
            in_order[task.engine].append(task)
    result = Schedule()
    free: dict[Engine, int] = defaultdict(int)
    position: dict[Engine, int] = defaultdict(int)
    ready: list[tuple[int, int, Task]] = []  # of the array: (earliest, place, task)
    soon: list[tuple[tuple[int, int, int], int, Task]] = []  # that could start now: (priority, earliest, task)
    earliest: dict[Task, int] = {}

    def release(task: Task) -> None:
        earliest[task] = max((result.start[before] + before.cycles + LATENCY[event] for before, event in task.after), default=0)
        if task.engine is Engine.ARRAY:
            heapq.heappush(ready, (earliest[task], place[task], task))

    def run(task: Task, start: int) -> None:
        result.start[task] = start
        result.order[task.engine].append(task)
        free[task.engine] = start + task.cycles
        result.end = max(result.end, free[task.engine])
        for follower in followers[task]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                release(follower)

    for task in tasks:
        if waiting[task] == 0:
            release(task)
    left = len(tasks)
    while left:
        options: list[tuple[int, int, Engine]] = []
        for engine, queue in in_order.items():
            if position[engine] < len(queue) and waiting[queue[position[engine]]] == 0:
                task = queue[position[engine]]
                options.append((max(free[engine], earliest[task]), engine, engine))
        if ready or soon:
            now = free[Engine.ARRAY] if soon else max(free[Engine.ARRAY], ready[0][0])
            options.append((now, Engine.ARRAY, Engine.ARRAY))
        assert options, "tasks wait for each other"
        start, _, engine = min(options)
        if engine is Engine.ARRAY:
            start = -(-start // PAIRS) * PAIRS
            while ready and ready[0][0] <= start:
                when, _, task = heapq.heappop(ready)
                heapq.heappush(soon, ((task.image // IMAGES_TOGETHER, -tail[task], place[task]), when, task))
            run(heapq.heappop(soon)[2], start)
        else:
            task = in_order[engine][position[engine]]
            position[engine] += 1
            run(task, start)
        left -= 1
    return result
