"""DeiT's instruction set; see ``rtl.program.instruction`` for what all instructions share.

Instructions of one queue run in order; the five queues (DMA, ARRAY, ATTEND, STREAM, INPUT) run concurrently and meet only through counters.

``image`` is an image *slot*, 0 or 1: whose residuals, activations, statistics and logits are meant.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rtl.program import instruction


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


#: 0 DMA, 1 ARRAY, 2 ATTEND, 3 STREAM, 4 INPUT
QUEUE_OF = {
    Opcode.LOAD: 0,
    Opcode.STORE: 0,
    Opcode.END: 0,
    Opcode.TILE: 1,
    Opcode.ATTEND: 2,
    Opcode.STREAM: 3,
    Opcode.INPUT: 4,
}


@dataclass(frozen=True, kw_only=True)
class Instruction(instruction.Instruction):
    """An instruction of the DeiT machine."""

    payloads = PAYLOAD
    queues = QUEUE_OF
