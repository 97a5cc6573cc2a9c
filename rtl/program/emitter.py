"""Instructions in program order, and the counters that they post."""

from __future__ import annotations

from collections import defaultdict

from rtl.program.instruction import WAITS, require_countable
from rtl.program.isa import PAYLOAD, Counter, Instruction, Opcode


class Emitter:
    """``instructions`` so far. ``posted[counter]``: posts so far; to wait for a higher value would break the law of looking back."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.posted: defaultdict[Counter, int] = defaultdict(int)

    def emit(self, opcode: Opcode, waits: dict[Counter, int], post: Counter | None = None, comment: str = "", **payload: int) -> None:
        """Append an instruction that waits until every counter has its value; payload fields left out are 0.

        Raises
        ------
        InputError : more posts than a counter holds
        """
        needed = {counter: value for counter, value in waits.items() if value}
        assert len(needed) <= WAITS and all(value <= self.posted[counter] for counter, value in needed.items()), comment
        header = {}
        for number, (counter, value) in enumerate(needed.items()):
            header |= {f"wait{number}_counter": int(counter), f"wait{number}_value": value}
        if post is not None:
            header |= {"post_enable": 1, "post_counter": int(post)}
            self.posted[post] += 1
            require_countable(post, self.posted[post])
        fields = {name: int(payload.pop(name, 0)) for name, _ in PAYLOAD[opcode]}
        assert not payload, f"{opcode.name} has no fields {sorted(payload)}"
        self.instructions.append(Instruction(opcode=opcode, payload=fields, comment=comment, **header))
