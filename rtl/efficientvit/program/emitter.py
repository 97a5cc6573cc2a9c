"""Instructions with their waits, posts and places in the program."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rtl.efficientvit.isa import Counter, Instruction, Opcode
from rtl.efficientvit.program.tasks import Engine, Event
from rtl.errors import InputError
from rtl.program.instruction import WAITS, require_countable

#: The counter that an event of an engine's tasks adds to.
COUNTER_OF = {
    (Engine.ARRAY, Event.WRITTEN): Counter.STEPS_WRITTEN,
    (Engine.ARRAY, Event.COLLECTED): Counter.STEPS_COLLECTED,
    (Engine.DEPTH, Event.DONE): Counter.DEPTHS_DONE,
    (Engine.OUTER, Event.DONE): Counter.OUTERS_DONE,
    (Engine.WINDOW, Event.DONE): Counter.WINDOWS_DONE,
    (Engine.HEAD, Event.DONE): Counter.HEADS_DONE,
    (Engine.DMA, Event.DONE): Counter.STORED,
}
#: Cycles from an instruction's place in the program to its earliest start.
LEAD = 64


@dataclass(frozen=True)
class Issue:
    """An instruction and when it is planned to be dispatched."""

    time: float
    queue: Engine
    number: int
    instruction: Instruction


class Emitter:
    """``posted[counter]``: posts of instructions so far, those of the machine itself left out.

    An instruction comes after all that it waits for. Queues are short and filled in program order, so that nothing else keeps the oldest
    instruction that has not been executed from being at the head of its queue, and programs from waiting for themselves.
    """

    def __init__(self) -> None:
        self.posted: dict[Counter, int] = defaultdict(int)
        self._issues: list[Issue] = []
        self._last_time: dict[Engine, float] = defaultdict(float)
        # Of a queue: what counters have reached when its last instruction so far starts. Of a post: when it is made.
        self._known: dict[Engine, dict[Counter, int]] = defaultdict(dict)
        self._known_at: dict[tuple[Counter, int], dict[Counter, int]] = {}
        self._place_of: dict[tuple[Counter, int], float] = {}  # in the program, of the instruction that posts it

    def instructions(self) -> tuple[Instruction, ...]:
        """In program order."""
        return tuple(issue.instruction for issue in sorted(self._issues, key=lambda issue: (issue.time, issue.number)))

    def emit(
        self, queue: Engine, opcode: Opcode, waits: dict[Counter, int], payload: dict[str, int], start: float, comment: str,
        post: Counter | None = None, posts: dict[Counter, int] | None = None,
    ) -> None:  # fmt: skip
        """``payload``: all fields of the opcode. ``start``: when it is planned to start. ``posts``: what the machine posts when it is done,
        and the values that the counters then have.

        Raises
        ------
        InputError : more posts than a counter holds, or more waits than an instruction has
        """
        header = self._waits(queue, waits, comment)
        behind = max((self._place_of[counter, value] for counter, value in waits.items() if value), default=0.0)
        time = self._last_time[queue] = max(start - LEAD, self._last_time[queue], behind)
        if post is not None:
            header |= {"post_enable": 1, "post_counter": int(post)}
            self.posted[post] += 1
            posts = {post: self.posted[post]}
        for counter, value in (posts or {}).items():
            require_countable(counter, value)
            self._known_at[counter, value], self._place_of[counter, value] = dict(self._known[queue]), time
        self._issues.append(Issue(time, queue, len(self._issues), Instruction(opcode=opcode, payload=payload, comment=comment, **header)))

    def _waits(self, queue: Engine, waits: dict[Counter, int], comment: str) -> dict[str, int]:
        """As fields of the header."""
        needed = self._needed(queue, {counter: value for counter, value in sorted(waits.items()) if value})  # sets have no order
        if len(needed) > WAITS:
            raise InputError(f"an instruction waits for at most {WAITS} counters: {comment} needs {len(needed)}; use larger memories")
        header: dict[str, int] = {}
        for number, (counter, value) in enumerate(needed.items()):
            header |= {f"wait{number}_counter": int(counter), f"wait{number}_value": value}
        return header

    def _needed(self, queue: Engine, waits: dict[Counter, int]) -> dict[Counter, int]:
        """The waits that do not follow from earlier ones of the queue or from each other."""
        known = self._known[queue]
        left = {counter: value for counter, value in waits.items() if known.get(counter, 0) < value}
        for counter, value in list(left.items()):
            others = (self._known_at[other].get(counter, 0) for other in left.items() if other[0] is not counter)
            if max(others, default=0) >= value:
                del left[counter]
        for counter, value in left.items():
            known[counter] = value
            for other, reached in self._known_at[counter, value].items():
                known[other] = max(known.get(other, 0), reached)
        return left
