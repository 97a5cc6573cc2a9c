"""Instructions in program order, and the counters that join the queues."""

from __future__ import annotations

import enum
from collections import Counter as Tally

from rtl.program.isa import PAYLOAD, WAITS, Instruction, Opcode


class Counter(enum.IntEnum):
    """Names of the hardware counters. NONE is never posted: waiting for it to reach 0 is no wait."""

    NONE = 0
    TILE_LOADED = 1  # bundles (parameters, norm, table, positions) in memory
    TILES_DONE = 2  # tiles whose results have all landed
    ATTENTIONS_DONE = 3
    TILE_STREAMED = 4  # tiles whose weights are in memory


class Emitter:
    """``instructions`` so far. ``posted[counter]``: posts so far; to wait for a higher value would break the law of looking back."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.posted: Tally[Counter] = Tally()

    def emit(self, opcode: Opcode, waits: dict[Counter, int], post: Counter | None = None, comment: str = "", **payload: int) -> None:
        """Append an instruction that waits until every counter has its value; payload fields left out are 0."""
        needed = {counter: value for counter, value in waits.items() if value}
        assert len(needed) <= WAITS and all(value <= self.posted[counter] for counter, value in needed.items()), comment
        header = {}
        for number, (counter, value) in enumerate(needed.items()):
            header |= {f"wait{number}_counter": int(counter), f"wait{number}_value": value}
        if post is not None:
            header |= {"post_enable": 1, "post_counter": int(post)}
            self.posted[post] += 1
        fields = {name: int(payload.pop(name, 0)) for name, _ in PAYLOAD[opcode]}
        assert not payload, f"{opcode.name} has no fields {sorted(payload)}"
        self.instructions.append(Instruction(opcode=opcode, payload=fields, comment=comment, **header))
