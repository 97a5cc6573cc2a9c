"""The machine's memories as the compiler sees them: what lies where, and who must be done before something else may."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np

from rtl.efficientvit.program.tasks import Block, Engine, Event, Task, finished
from rtl.errors import InputError


class RowCells:
    """The addresses of the rows' memories: which tensor holds them, who wrote them, who has read them."""

    def __init__(self, count: int):
        self._owner: list[object] = [None] * count
        # Of each: those of the owner before, and of this one, with the event that ends their use.
        self._before: list[set[tuple[Task, Event]]] = [set() for _ in range(count)]
        self._writers: list[set[tuple[Task, Event]]] = [set() for _ in range(count)]
        self._readers: list[set[tuple[Task, Event]]] = [set() for _ in range(count)]

    def read(self, cells: Iterable[int], task: Task, owner: object) -> None:
        use = task, finished(task)
        for cell in cells:
            assert self._owner[cell] == owner, f"{task.name} reads what is no longer there"
            task.after |= self._writers[cell]
            self._readers[cell].add(use)

    def write(self, cells: Iterable[int], task: Task, owner: object) -> None:
        use, before = (task, finished(task)), set()
        for cell in cells:
            if self._owner[cell] != owner:
                self._before[cell] = (self._readers[cell] | self._writers[cell]) - {use}
                self._owner[cell], self._writers[cell], self._readers[cell] = owner, set(), set()
            self._writers[cell].add(use)
            before |= self._before[cell]
        if task.engine is Engine.ARRAY:  # its order is enough among its own
            before = {(other, Event.ORDER if other.engine is Engine.ARRAY else event) for other, event in before}
        task.after |= before


class BankCells:
    """The addresses of a banked memory that the array writes and another engine reads, each written by one task at a time."""

    def __init__(self, count: int):
        self._writer, self._reader = np.full(count, -1), np.full(count, -1)
        self._tasks: list[Task] = []

    def read(self, cells: np.ndarray, task: Task) -> None:
        writers = set(self._writer[cells].tolist())
        assert -1 not in writers, f"{task.name} reads what was never written"
        task.after |= {(self._tasks[index], Event.COLLECTED) for index in writers}
        self._reader[cells] = self._number(task)

    def write(self, cells: np.ndarray, task: Task) -> None:
        readers = set(self._reader[cells].tolist())
        task.after |= {(self._tasks[index], Event.DONE) for index in readers if index >= 0}
        self._writer[cells] = self._number(task)

    def _number(self, task: Task) -> int:
        if not self._tasks or self._tasks[-1] is not task:
            self._tasks.append(task)
        return len(self._tasks) - 1


class Region(NamedTuple):
    """``before``: tasks that must be done with it        users : to which its own are added"""

    base: int
    before: set[Task]
    users: set[Task]


class Regions:
    """A memory given out in turn, as a ring of regions; a region's next user waits for those that read the one before.

    name : of its depth in the machine's configuration        size : that depth
    """

    def __init__(self, name: str, size: int):
        self.name, self.size, self._next = name, size, 0
        self._users: list[tuple[int, int, set[Task]]] = []

    def base(self, words: int) -> int:
        """A place whose users somebody else keeps an eye on."""
        self._require(words <= self.size)
        base = 0 if self._next + words > self.size else self._next
        self._next = base + words
        return base

    def take(self, words: int) -> Region:
        base = self.base(words)
        old: set[Task] = set()
        kept = []
        for start, end, users in self._users:
            if start < base + words and base < end:
                self._require(bool(users))  # else nobody has read it yet
                old |= users
            else:
                kept.append((start, end, users))
        mine: set[Task] = set()
        self._users = [*kept, (base, base + words, mine)]
        return Region(base, old, mine)

    def _require(self, condition: bool) -> None:
        if not condition:
            raise InputError(f"{self.name} must hold what is in use at a time: {self.size} does not; use a deeper one or a smaller image")


class RowMemory:
    """Places of tensors in the rows' memories: next fit, so that a place is used again late."""

    def __init__(self, words: int):
        self.words, self._next = words, 0
        self._taken: dict[Hashable, tuple[int, int]] = {}

    def place(self, name: Hashable, words: int) -> int | None:
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

    def share(self, old: Hashable, new: Hashable) -> None:
        """``new`` lies where ``old`` does, which may then be freed alone."""
        self._taken[new] = self._taken[old]

    def holds(self, name: Hashable) -> bool:
        return name in self._taken

    def free(self, name: Hashable) -> None:
        del self._taken[name]

    def base(self, name: Hashable) -> int:
        return self._taken[name][0]


class CircularStore:
    """Blocks in a memory that is filled round and round. A block that is still there is not loaded again."""

    def __init__(self, words: int):
        self.words, self._next = words, 0
        self._blocks: dict[Block, list[int]] = {}  # address, end, last use

    def place(self, block: Block, use: int) -> tuple[int, bool, int]:
        """(address, whether it must be loaded, uses that must be over before). ``use``: number of the task that reads it."""
        if block in self._blocks:
            found = self._blocks[block]
            found[2] = use
            return found[0], False, 0
        assert block.words <= self.words, block.name
        base = 0 if self._next + block.words > self.words else self._next
        self._next = base + block.words
        over = [other for other, (start, end, _) in self._blocks.items() if start < self._next and base < end]
        last = max((self._blocks.pop(other)[2] for other in over), default=-1)
        self._blocks[block] = [base, self._next, use]
        return base, True, last + 1
