"""The instruction set: 256-bit macro-instructions, one layout for the hardware decoder and the Python encoder.

Every instruction starts with an 80-bit header: opcode, three waits (``counter >= value``) and an optional post (``counter += 1`` when the
instruction is done). Counters are monotonic, 16 bits, zero at start; counter 0 is never posted, so ``wait 0 >= 0`` always holds.
The payload begins at bit 80. Little-endian: bit 0 of the instruction is bit 0 of its first byte in memory.

Instructions of one queue run in order; the five queues (DMA, ARRAY, ATTEND, STREAM, INPUT) run concurrently and meet only through counters.

``image`` is an image *slot*, 0 or 1: whose residuals, activations, statistics and logits are meant.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

INSTRUCTION_BYTES = 32
PAYLOAD_OFFSET = 80
WAITS = 3
COUNTERS = 16


class Opcode(enum.IntEnum):
    LOAD = 1
    TILE = 2
    ATTEND = 3
    STORE = 4
    END = 5
    STREAM = 6
    INPUT = 7


class Counter(enum.IntEnum):
    """What the compiler uses the counters for. NONE is never posted: waiting for it to reach 0 is no wait."""

    NONE = 0
    TILE_LOADED = 1  # bundles (parameters, norm, table, positions) in memory
    TILES_DONE = 2  # tiles whose results have all landed
    ATTENTIONS_DONE = 3
    TILE_STREAMED = 4  # tiles whose weights are in memory
    INPUT_LOADED = 5  # images whose pixels are in memory


class LoadTarget(enum.IntEnum):
    """Where LOAD puts its items, and how wide an item is in the WEIGHTS window.

    PARAMETER: one per output channel, whatever its planes; a tile's first is at its ``weight_address``. 64 bits:
    multiplier [0:16], shift code [16:18] (index into REQUANTIZE_SHIFTS), bias [18:45] signed.
    NORM: 32 bits: gamma [0:16] signed, beta [16:32] signed. TABLE: 8 bits, ``address`` = set * 256 + index.
    POSITION: 128 bits, a beat of 8 rows, written to the residual memories of ``image``. Channels from ``address`` on, outermost; then
    passes; then groups of 16 rows (``ceil(rows / 16)``); then parity. Even beat (first): s16 of rows 16g + 0, 2, ... 14, row 16g + 2k in
    bytes 2k and 2k + 1. Odd beat: rows 16g + 1, 3, ... 15, row 16g + 2k + 1 in bytes 2k + 1 and (2k + 2) % 16. Other rows and slots: 0.
    """

    PARAMETER = 0
    NORM = 1
    TABLE = 2
    POSITION = 3


class Source(enum.IntEnum):
    ACTIVATION = 0  # the row's activation memory, as it is
    NORMALIZED = 1  # the row's residual memory through LayerNorm with gamma and beta at norm_address


class Destination(enum.IntEnum):
    ACTIVATION = 0  # activation memory, channel base_channel + i, unsigned bits (through the table if table_enable)
    RESIDUAL = 1  # residual[channel] = saturate(residual[channel] + result)
    QKV = 2  # words are [Q of heads][K of heads][V of heads], each heads * head_dim channels, head base_channel first
    LOGITS = 3  # logit memory of the image, s16, address base_channel + i, from row 0; from row 1 it is added, saturated, to what is there


class Mask(enum.IntEnum):
    """RESIDUAL only: rows whose residual receives 0 instead of the result. ROW_0 and ROWS_0_1 hold in pass 0 alone, ALL in every pass."""

    NONE = 0
    ROW_0 = 1  # the class token
    ROWS_0_1 = 2  # class and distillation token
    ALL = 3  # nothing changes: the tile only gathers LayerNorm statistics


class Accumulate(enum.IntEnum):
    """K-tiles. FIRST and MIDDLE only write the accumulator memory; MIDDLE and LAST add what it holds."""

    NONE = 0
    FIRST = 1
    MIDDLE = 2
    LAST = 3


def weight_item_bits(inputs: int) -> int:
    """Bits of one slice of a weight word in memory: a power of two up to 128, then a multiple of 128, so that items never straddle beats.

    ``inputs`` : of the slice, row inputs / weight ports
    """
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
    ("wait2_counter", 4),
    ("wait2_value", 16),
    ("post_enable", 1),
    ("post_counter", 4),
)

#: Payload fields per opcode, in order from PAYLOAD_OFFSET. An ``offset`` is relative to the base of a DDR window, and every transfer is
#: checked against its limit: WEIGHTS for LOAD and STREAM, IMAGE for INPUT, RESULT for STORE.
PAYLOAD = {
    Opcode.LOAD: (("target", 3), ("offset", 32), ("items", 24), ("address", 16), ("image", 1)),
    # Weight words: slice s of word i is item i of the run at offset + s * stride in the WEIGHTS window, s < weight ports.
    Opcode.STREAM: (("offset", 32), ("stride", 32), ("items", 16), ("address", 16)),
    Opcode.TILE: (
        ("weight_address", 16),  # first word in the weight memory
        ("words", 16),  # weight words, planes included
        ("planes", 4),  # 1..8 consecutive words per output channel, most significant plane first
        ("image", 1),  # first image slot
        ("images", 2),  # 1 or 2: steps run over passes (inner) and image slots (outer)
        ("first_pass", 4),
        ("passes", 4),
        ("activations", 16),  # filled per row; the fill is padded with zeros to a multiple of 16
        ("source", 2),
        ("source_image", 1),  # whose activation memory, when source is ACTIVATION
        ("source_channel", 12),  # first channel filled: K-tiles of the patch embedding
        ("norm_address", 16),
        ("destination", 2),
        ("accumulate", 2),
        ("base_channel", 16),
        ("heads", 8),  # QKV only: heads in this tile
        ("key_value_head", 8),  # QKV only: place of the tile's first head in the key/value memory
        ("table_enable", 1),
        ("table_set", 1),
        ("statistics", 1),  # RESIDUAL only: the tile's words are the whole token, in order: gather LayerNorm statistics
        ("mask", 2),  # RESIDUAL only, see Mask
        ("logit_row", 1),  # LOGITS only
    ),
    Opcode.ATTEND: (
        ("image", 1),
        ("first_head", 8),
        ("heads", 8),
        ("key_value_head", 8),  # place of first_head in the key/value memory
        ("first_pass", 4),
        ("passes", 4),
        ("keys", 16),
        ("score_multiplier", 16),
        ("score_shift", 2),
        ("dividend", 32),
        ("output_image", 1),  # in whose activation memory o goes: image, or the other slot when that is idle
    ),
    Opcode.STORE: (("offset", 32), ("items", 16), ("image", 1)),
    Opcode.END: (("status", 8),),
    # A whole image as (y, x, channel) bytes, ``items`` of them; scattered to the activation memories of ``image``, token slots
    # ``first_patch``, ..., each patch in the order (y, x, channel).
    Opcode.INPUT: (("offset", 32), ("items", 24), ("image", 1)),
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
    wait2_counter: int = 0
    wait2_value: int = 0
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
