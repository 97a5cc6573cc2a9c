"""The instruction set: 256-bit macro-instructions, one layout for the hardware decoder and the Python encoder.

Every instruction starts with a 64-bit header: opcode, two waits (``counter >= value``) and an optional post (``counter += 1`` when the
instruction is done). Counters are monotonic, 16 bits, zero at start; counter 0 is never posted, so ``wait 0 >= 0`` always holds.
The payload begins at bit 64. Little-endian: bit 0 of the instruction is bit 0 of its first byte in memory.

Instructions of one queue run in order; the three queues (DMA, ARRAY, ATTEND) run concurrently and meet only through counters.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

INSTRUCTION_BYTES = 32
PAYLOAD_OFFSET = 64
COUNTERS = 16


class Opcode(enum.IntEnum):
    LOAD = 1
    TILE = 2
    ATTEND = 3
    STORE = 4
    END = 5


class Window(enum.IntEnum):
    """DDR windows. Offsets in instructions are relative to a window's base and checked against its byte limit."""

    WEIGHTS = 0
    IMAGE = 1
    RESULT = 2


class LoadTarget(enum.IntEnum):
    """Where LOAD puts its items, and how wide an item is in memory.

    WEIGHT: one weight word per item, ``weight_item_bits(inputs)`` bits; bit i belongs to the i-th filled activation.
    PARAMETER: 64 bits: multiplier [0:16], shift code [16:18] (index into REQUANTIZE_SHIFTS), bias [18:45] signed.
    NORM: 32 bits: gamma [0:16] signed, beta [16:32] signed. TABLE: 8 bits, ``address`` = set * 256 + index.
    POSITION: 16 bits, s16, token-major (token, channel), written to the residual memories of slots 0, 1, ...
    PIXEL: 8 bits, the image as (y, x, channel) bytes; scattered to the activation memories of slots 1, 2, ...
    (patch order (y, x, channel)).
    """

    WEIGHT = 0
    PARAMETER = 1
    NORM = 2
    TABLE = 3
    POSITION = 4
    PIXEL = 5


class Source(enum.IntEnum):
    ACTIVATION = 0  # the row's activation memory, as it is
    NORMALIZED = 1  # the row's residual memory through LayerNorm with gamma and beta at norm_address


class Destination(enum.IntEnum):
    ACTIVATION = 0  # activation memory, channel base_channel + i, unsigned bits (through the table if table_enable)
    RESIDUAL = 1  # residual[channel] = saturate(residual[channel] + result)
    QKV = 2  # words are [Q of heads][K of heads][V of heads], each heads * head_dim channels, head base_channel first
    LOGITS = 3  # row 0 only: logit memory, s16, address base_channel + i


class Accumulate(enum.IntEnum):
    """K-tiles. FIRST and MIDDLE only write the accumulator memory; MIDDLE and LAST add what it holds."""

    NONE = 0
    FIRST = 1
    MIDDLE = 2
    LAST = 3


def weight_item_bits(inputs: int) -> int:
    """Bits of one weight word in memory: a power of two up to 128, then a multiple of 128, so that items never straddle beats."""
    if inputs <= 128:
        return max(8, 1 << (inputs - 1).bit_length())
    return -(-inputs // 128) * 128


#: Header fields, in order from bit 0: (name, width).
HEADER = (
    ("opcode", 4),
    ("wait0_counter", 4),
    ("wait0_value", 16),
    ("wait1_counter", 4),
    ("wait1_value", 16),
    ("post_enable", 1),
    ("post_counter", 4),
)

#: Payload fields per opcode, in order from PAYLOAD_OFFSET.
PAYLOAD = {
    Opcode.LOAD: (("window", 2), ("target", 3), ("offset", 32), ("items", 24), ("address", 16)),
    Opcode.TILE: (
        ("weight_address", 16),  # first word in the weight memory
        ("words", 16),  # weight words, planes included
        ("planes", 4),  # 1..8 consecutive words per output channel, most significant plane first
        ("first_pass", 4),
        ("passes", 4),
        ("activations", 16),  # filled per row; the fill is padded with zeros to a multiple of 16
        ("source", 2),
        ("norm_address", 16),
        ("destination", 2),
        ("accumulate", 2),
        ("base_channel", 16),
        ("heads", 8),  # QKV only: heads in this tile
        ("table_enable", 1),
        ("table_set", 1),
        ("statistics_first", 1),  # RESIDUAL only: this tile starts the tokens' LayerNorm statistics
        ("statistics_last", 1),  # RESIDUAL only: this tile completes them
        ("mask_enable", 1),  # RESIDUAL only: the token in slot 0 (class token) receives 0 instead of the result
    ),
    Opcode.ATTEND: (
        ("heads", 8),
        ("passes", 4),
        ("keys", 16),
        ("score_multiplier", 16),
        ("score_shift", 2),
        ("dividend", 32),
    ),
    Opcode.STORE: (("offset", 32), ("items", 16)),
    Opcode.END: (("status", 8),),
}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. ``payload`` holds exactly the fields of its opcode. Encoding checks every range."""

    opcode: Opcode
    payload: dict[str, int]
    wait0_counter: int = 0
    wait0_value: int = 0
    wait1_counter: int = 0
    wait1_value: int = 0
    post_enable: int = 0
    post_counter: int = 0
    comment: str = ""

    def encode(self) -> bytes:
        header = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("payload", "comment")}
        word = _pack(HEADER, header) | _pack(PAYLOAD[self.opcode], self.payload) << PAYLOAD_OFFSET
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Instruction:
        word = int.from_bytes(data, "little")
        header = _unpack(HEADER, word)
        opcode = Opcode(header.pop("opcode"))
        return cls(opcode=opcode, payload=_unpack(PAYLOAD[opcode], word >> PAYLOAD_OFFSET), **header)


def _pack(layout, values: dict[str, int]) -> int:
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


def _unpack(layout, word: int) -> dict[str, int]:
    values = {}
    for name, width in layout:
        values[name] = word & ((1 << width) - 1)
        word >>= width
    return values
