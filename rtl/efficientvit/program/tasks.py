"""Tasks, what they must wait for, and the memories whose use decides that."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rtl.efficientvit.isa import Opcode

#: Images that are on the machine side by side.
IMAGES_TOGETHER = 2


class Engine(enum.IntEnum):
    """The queue that executes a task; its number is the dispatcher's."""

    DMA = 0
    ARRAY = 1
    OUTER = 2
    STREAM = 3
    WINDOW = 4
    DEPTH = 5
    HEAD = 6
    HEAD_TRANSFER = 7


class Event(enum.Enum):
    """What of a task another one waits for. ORDER: nothing but an earlier place in the same queue."""

    DONE = "done"
    WRITTEN = "written"  # a step's results in the rows' memories; its operands have been read
    COLLECTED = "collected"  # a step's results wherever else they go
    ORDER = "order"


@dataclass(eq=False)
class Block:
    """A run of bytes that a task needs in one of the machine's memories, and how many of its words they are."""

    name: str
    data: bytes
    words: int


@dataclass(eq=False)
class Task:
    """One instruction to be. ``cycles``: how long its engine is busy. ``after``: other tasks and what of them it needs.

    layer : of a line pair: the command that must come before it, unless the line pair before had the same one
    weights, parameters : blocks whose addresses become the fields of these names
    tensor, image : whose values it makes, for comparison
    """

    engine: Engine
    opcode: Opcode
    name: str
    cycles: int
    payload: dict[str, int]
    image: int
    after: set[tuple[Task, Event]] = field(default_factory=set)
    layer: Task | None = None
    weights: Block | None = None
    parameters: Block | None = None
    makes: tuple | None = None


def finished(task: Task) -> Event:
    """The event after which what a task reads is free and what it writes in the rows' memories is there."""
    return Event.WRITTEN if task.engine is Engine.ARRAY else Event.DONE


class RowCells:
    """The addresses of the rows' memories: which tensor holds them, who wrote them, who has read them."""

    def __init__(self, count: int):
        self._owner: list[object] = [None] * count
        self._before: list[set[tuple[Task, Event]]] = [set() for _ in range(count)]
        self._writers: list[set[Task]] = [set() for _ in range(count)]
        self._readers: list[set[Task]] = [set() for _ in range(count)]

    def read(self, cells: Iterable[int], task: Task, owner: object) -> None:
        for cell in cells:
            assert self._owner[cell] == owner, f"{task.name} reads what is no longer there"
            task.after |= {(writer, finished(writer)) for writer in self._writers[cell]}
            self._readers[cell].add(task)

    def write(self, cells: Iterable[int], task: Task, owner: object) -> None:
        for cell in cells:
            if self._owner[cell] != owner:
                self._before[cell] = {(other, finished(other)) for other in self._readers[cell] | self._writers[cell] if other is not task}
                self._owner[cell], self._writers[cell], self._readers[cell] = owner, set(), set()
            self._writers[cell].add(task)
            task.after |= {
                (other, Event.ORDER if other.engine is task.engine is Engine.ARRAY else event) for other, event in self._before[cell]
            }


class BankCells:
    """The addresses of a banked memory that the array writes and another engine reads, each written by one task at a time."""

    def __init__(self, count: int):
        self._writer, self._reader = np.full(count, -1), np.full(count, -1)
        self._tasks: list[Task] = []

    def read(self, cells: np.ndarray, task: Task) -> None:
        writers = np.unique(self._writer[cells])
        assert writers.size == 0 or writers[0] >= 0, f"{task.name} reads what was never written"
        task.after |= {(self._tasks[index], Event.COLLECTED) for index in writers.tolist()}
        self._reader[cells] = self._number(task)

    def write(self, cells: np.ndarray, task: Task) -> None:
        readers = np.unique(self._reader[cells])
        task.after |= {(self._tasks[index], Event.DONE) for index in readers.tolist() if index >= 0}
        self._writer[cells] = self._number(task)

    def _number(self, task: Task) -> int:
        if not self._tasks or self._tasks[-1] is not task:
            self._tasks.append(task)
        return len(self._tasks) - 1


class Regions:
    """A memory given out in turn, as a ring of regions; a region's next user waits for those that read the one before."""

    def __init__(self, size: int):
        self.size, self._next = size, 0
        self._users: list[tuple[int, int, set[Task]]] = []

    def base(self, words: int) -> int:
        """A place whose users somebody else keeps an eye on."""
        assert words <= self.size
        base = 0 if self._next + words > self.size else self._next
        self._next = base + words
        return base

    def take(self, words: int) -> tuple[int, set[Task], set[Task]]:
        """(base, tasks that must be done with it, the set to which its own readers are added)."""
        base = self.base(words)
        old: set[Task] = set()
        kept = []
        for start, end, users in self._users:
            if start < base + words and base < end:
                assert users, "a region is given out again before anybody has read it"
                old |= users
            else:
                kept.append((start, end, users))
        mine: set[Task] = set()
        self._users = [*kept, (base, base + words, mine)]
        return base, old, mine


class RowMemory:
    """Places of tensors in the rows' memories: next fit, so that a place is used again late."""

    def __init__(self, words: int):
        self.words, self._next = words, 0
        self._taken: dict[str, tuple[int, int]] = {}

    def place(self, name: str, words: int) -> int | None:
        for start in (self._next, 0):
            base = self._fit(start, words)
            if base is not None:
                self._taken[name] = (base, words)
                self._next = base + words
                return base
        return None

    def _fit(self, start: int, words: int) -> int | None:
        base = start
        for taken, size in sorted(self._taken.values()):
            if taken + size <= base:
                continue
            if taken >= base + words:
                break
            base = taken + size
        return base if base + words <= self.words else None

    def share(self, old: str, new: str) -> None:
        """``new`` lies where ``old`` does, which may then be freed alone."""
        self._taken[new] = self._taken[old]

    def holds(self, name: str) -> bool:
        return name in self._taken

    def free(self, name: str) -> None:
        del self._taken[name]

    def base(self, name: str) -> int:
        return self._taken[name][0]
