"""Tasks, and what they must wait for; `memories` decides that."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from rtl.efficientvit.isa import Opcode

#: Images that are on the machine side by side.
IMAGES_TOGETHER = 2


class Engine(enum.IntEnum):
    """The queue that executes a task; its number is the dispatcher's."""

    __hash__ = int.__hash__  # Enum's own hashes the name, and engines and counters are keys everywhere

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

    __hash__ = object.__hash__

    DONE = "done"
    WRITTEN = "written"  # a step's results in the rows' memories; its operands have been read
    COLLECTED = "collected"  # a step's results wherever else they go
    ORDER = "order"


@dataclass(eq=False)
class Block:
    """A run of bytes that a task needs in one of the machine's memories: ``words`` of its words, ``size`` bytes that ``pack`` makes."""

    name: str
    words: int
    size: int
    pack: Callable[[], bytes]


@dataclass(eq=False)
class Task:
    """One instruction to be. ``cycles``: how long its engine is busy. ``after``: other tasks and what of them it needs.

    layer : of a line pair: the command that must come before it, unless the line pair before had the same one
    weights, parameters : blocks whose addresses become the fields of these names
    image : number in the program        makes : whose values, for comparison (`expected`)
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
