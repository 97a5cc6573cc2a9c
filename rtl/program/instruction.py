"""256-bit macro-instructions: what every family's instruction set shares. One layout for the hardware decoder and the Python encoder.

Every instruction starts with an 80-bit header: opcode, three waits (``counter >= value``) and an optional post (``counter += 1`` when the
instruction is done). Counters are monotonic, 16 bits, zero at start; counter 0 is never posted, so ``wait 0 >= 0`` always holds.
The payload begins at bit 80. Little-endian: bit 0 of the instruction is bit 0 of its first byte in memory.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from rtl.errors import InputError

INSTRUCTION_BYTES = 32
PAYLOAD_OFFSET = 80
WAITS = 3
COUNTERS = 16
#: Posts that a counter holds: the machine stops at one more.
MOST_POSTS = (1 << 16) - 1

Layout = tuple[tuple[str, int], ...]

#: Header fields, in order from bit 0: (name, width).
HEADER: Layout = (
    ("opcode", 4),
    ("wait0_counter", 4),
    ("wait0_value", 16),
    ("wait1_counter", 4),
    ("wait1_value", 16),
    ("wait2_counter", 4),
    ("wait2_value", 16),
    ("post_enable", 1),
    ("post_counter", 4),
)


def require_countable(counter: enum.IntEnum, posts: int) -> None:
    """Refuses a program whose posts to a counter are too many.

    Raises
    ------
    InputError : they are
    """
    if posts > MOST_POSTS:
        raise InputError(f"a program must post at most {MOST_POSTS} times to {counter.name}: {posts} are more; put fewer images into one")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. ``payload`` holds exactly the fields of its opcode. Encoding checks every range.

    A family's instructions are a subclass with its ``payloads`` (fields per opcode, in order from PAYLOAD_OFFSET) and ``queues`` (opcode ->
    the in-order queue that executes it).
    """

    payloads: ClassVar[Mapping[Any, Layout]] = {}
    queues: ClassVar[Mapping[Any, int]] = {}

    opcode: enum.IntEnum
    payload: dict[str, int]
    wait0_counter: int = 0
    wait0_value: int = 0
    wait1_counter: int = 0
    wait1_value: int = 0
    wait2_counter: int = 0
    wait2_value: int = 0
    post_enable: int = 0
    post_counter: int = 0
    comment: str = ""

    @property
    def waits(self) -> list[tuple[int, int]]:
        """(counter, value) of each wait that it has."""
        fields = (
            (self.wait0_counter, self.wait0_value),
            (self.wait1_counter, self.wait1_value),
            (self.wait2_counter, self.wait2_value),
        )
        return [(counter, value) for counter, value in fields if value]

    def encode(self) -> bytes:
        header = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("payload", "comment")}
        word = _pack(HEADER, header) | _pack(self.payloads[self.opcode], self.payload) << PAYLOAD_OFFSET
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        word = int.from_bytes(data, "little")
        header = _unpack(HEADER, word)
        code = header.pop("opcode")
        opcode = next(opcode for opcode in cls.payloads if opcode == code)
        return cls(opcode=opcode, payload=_unpack(cls.payloads[opcode], word >> PAYLOAD_OFFSET), **header)

    @classmethod
    def queue_count(cls) -> int:
        return 1 + max(cls.queues.values())

    @classmethod
    def payload_bits(cls, queue: int) -> int:
        """Payload bits that the instructions of a queue use."""
        return max(sum(width for _, width in cls.payloads[opcode]) for opcode, number in cls.queues.items() if number == queue)


def _pack(layout: Layout, values: dict[str, int]) -> int:
    if set(values) != {name for name, _ in layout}:
        raise ValueError(f"an instruction takes exactly the fields {[n for n, _ in layout]}: got {sorted(values)}")
    word = position = 0
    for name, width in layout:
        value = int(values[name])
        if not 0 <= value < 1 << width:
            raise ValueError(f"instruction field {name} must fit {width} bits: {value} does not")
        word |= value << position
        position += width
    return word


def _unpack(layout: Layout, word: int) -> dict[str, int]:
    values = {}
    for name, width in layout:
        values[name] = word & ((1 << width) - 1)
        word >>= width
    return values
