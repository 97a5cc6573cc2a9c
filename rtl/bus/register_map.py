"""The control registers as data: the hardware, the driver's dictionary and docs/registers.md all come from ``REGISTERS``."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass

ADDRESS_BITS = 12
WORD_BITS = 32
ID_WORD = int.from_bytes(b"PVIT", "big")
VERSION_WORD = 1

WINDOWS = ("program", "weights", "image", "result")
CONFIG = ("rows", "inputs", "bits", "lanes", "passes")
COUNTERS = {
    "cycles": "cycles in which busy was set",
    "stall_weights": "cycles in which the array waited for weights",
    "stall_attention": "cycles in which the array waited for attention, or attention for its operands",
    "stall_hazard": "cycles in which the array waited for its own results",
    "busy_array": "cycles in which the array computed",
    "busy_attention": "cycles in which attention computed",
    "instructions": "instructions that were started",
    "data_beats": "beats moved on the data bus, both ways",
}


class ErrorCode(enum.IntEnum):
    """Why the machine stopped. The first error is kept until done and error are cleared."""

    NONE = 0
    PROGRAM_BUS = 1
    DATA_READ_BUS = 2
    DATA_WRITE_BUS = 3
    BAD_INSTRUCTION = 4
    WINDOW_OVERRUN = 5
    WATCHDOG = 6
    COUNTER_OVERFLOW = 7
    MEMORY_CONFLICT = 8


class Access(enum.Enum):
    """Who may write: RO nobody, RW the driver, RW_LOCKED the driver while the machine is not busy, SPECIAL has its own rules (see doc)."""

    RO = "ro"
    RW = "rw"
    RW_LOCKED = "rw, locked while busy"
    SPECIAL = "special"


@dataclass(frozen=True, kw_only=True)
class Field:
    name: str
    low: int
    width: int
    doc: str


@dataclass(frozen=True, kw_only=True)
class Register:
    """One 32-bit word.

    Parameters
    ----------
    name : lower case, unique
    offset : byte offset, a multiple of 4
    access : who may write
    width : bits that exist; the others read as zero and ignore writes
    doc : one line
    fields : parts of the word, if it has any
    init : value after reset
    """

    name: str
    offset: int
    access: Access
    doc: str
    width: int = WORD_BITS
    fields: tuple[Field, ...] = ()
    init: int = 0


def _windows() -> tuple[Register, ...]:
    found = []
    for index, window in enumerate(WINDOWS):
        offset = 0x40 + 16 * index
        for suffix, step, width, doc in (
            ("base_lo", 0, 32, "byte address, low 32 bits; a multiple of 16"),
            ("base_hi", 4, 8, "byte address, high 8 bits"),
            ("bytes", 8, 32, "size in bytes; transfers beyond it are refused"),
        ):
            doc = f"{window} window: {doc}"
            found.append(Register(name=f"{window}_{suffix}", offset=offset + step, access=Access.RW_LOCKED, width=width, doc=doc))
    return tuple(found)


REGISTERS = (
    Register(
        name="control",
        offset=0x00,
        access=Access.SPECIAL,
        width=3,
        doc="commands; start and clear read as zero",
        fields=(
            Field(name="start", low=0, width=1, doc="write 1: clears done, error, counters and starts; ignored while busy or with clear"),
            Field(name="clear", low=1, width=1, doc="write 1: resets the machine, clears done, error and the counters; the windows stay"),
            Field(name="interrupt_enable", low=2, width=1, doc="irq = interrupt_enable and (done or error)"),
        ),
    ),
    Register(
        name="status",
        offset=0x04,
        access=Access.SPECIAL,
        width=3,
        doc="state; write 1 to done or error to clear it",
        fields=(
            Field(name="busy", low=0, width=1, doc="a program is running"),
            Field(name="done", low=1, width=1, doc="the program ended"),
            Field(name="error", low=2, width=1, doc="the machine stopped with an error; clearing it clears the error registers too"),
        ),
    ),
    Register(
        name="error",
        offset=0x08,
        access=Access.RO,
        doc="the first error since start",
        fields=(
            Field(name="code", low=0, width=8, doc=", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ErrorCode)),
            Field(name="instruction", low=16, width=16, doc="index of the instruction in the program"),
        ),
    ),
    Register(
        name="watchdog_wait",
        offset=0x0C,
        access=Access.RO,
        width=16,
        doc="what the watchdog found waiting",
        fields=(
            Field(name="op", low=0, width=8, doc="opcode of the waiting instruction"),
            Field(name="counter", low=8, width=8, doc="the counter it waited for"),
        ),
    ),
    Register(
        name="watchdog_values",
        offset=0x10,
        access=Access.RO,
        doc="the counter's values",
        fields=(
            Field(name="have", low=0, width=16, doc="value of the counter"),
            Field(name="want", low=16, width=16, doc="value that was waited for"),
        ),
    ),
    Register(
        name="watchdog_limit",
        offset=0x14,
        access=Access.RW,
        init=1_000_000,
        doc="cycles without progress that end in a watchdog error; 0 turns it off",
    ),
    Register(name="id", offset=0x18, access=Access.RO, doc=f"{ID_WORD:#010x}, the characters PVIT"),
    Register(name="version", offset=0x1C, access=Access.RO, doc="version of this register map"),
    *(
        Register(name=f"config_{name}", offset=0x20 + 4 * index, access=Access.RO, doc=f"{name} of the machine that was built")
        for index, name in enumerate(CONFIG)
    ),
    *_windows(),
    *(
        Register(name=f"count_{name}", offset=0x80 + 4 * index, access=Access.RO, doc=f"{doc}, since start; stops at its largest value")
        for index, (name, doc) in enumerate(COUNTERS.items())
    ),
)


def as_dict() -> dict[str, dict]:
    """The map for the driver's manifest: plain values only."""
    return {
        register.name: {
            "offset": register.offset,
            "access": register.access.value,
            "width": register.width,
            "init": register.init,
            "doc": register.doc,
            "fields": {field.name: {"low": field.low, "width": field.width, "doc": field.doc} for field in register.fields},
        }
        for register in REGISTERS
    }


def as_markdown() -> str:
    """The text of docs/registers.md."""
    lines = [
        "# Control registers",
        "",
        "Generated by `python -m rtl.bus.register_map` from `rtl/bus/register_map.py`; a test compares them.",
        "32-bit words on an AXI-Lite slave with 12-bit byte addresses. Writes honour byte strobes.",
        "Three accesses are answered with SLVERR and change nothing: an unmapped address (reads as 0), a write to a read-only register,",
        "and a write to a locked register while busy.",
        "",
        "| offset | name | access | bits | after reset | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for register in REGISTERS:
        init = f"{register.init:,}" if register.access is not Access.RO else ""
        cells = (f"0x{register.offset:03X}", register.name, register.access.value, str(register.width), init, register.doc)
        lines.append(f"| {' | '.join(cells)} |")
    for register in REGISTERS:
        if register.fields:
            lines += ["", f"## {register.name}", "", "| bits | field | meaning |", "|---|---|---|"]
            for field in register.fields:
                bits = f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else f"{field.low}"
                lines.append(f"| {bits} | {field.name} | {field.doc} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
