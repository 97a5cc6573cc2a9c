"""EfficientViT's instruction set; see ``rtl.program.instruction`` for what all instructions share.

Instructions of one queue run in order; the queues run concurrently and meet only through counters.

Tensors are words of 32 channels. Pixel p of a tensor lies in row ``p % rows`` of pass ``p // rows``; a row's activation memory holds the
words of its pixels, at addresses that the program chooses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rtl.efficientvit import depth_command, head_command
from rtl.program import instruction

#: Channels of a word; a step makes words of as many outputs, in pairs (c, c + PAIRS).
WORD_CHANNELS = 32
PAIRS = WORD_CHANNELS // 2
#: Least bit of Hardswish's fraction field: K = HARDSWISH_BASE + fraction.
HARDSWISH_BASE = 6
#: Bit of a STREAM's address that names the head's buffer.
HEAD_BUFFER = 15


class Opcode(enum.IntEnum):
    LOAD = 1
    STEP = 2
    OUTER = 3
    STORE = 4
    END = 5
    STREAM = 6  # as DeiT's: the same engine executes it
    WINDOW = 7
    DEPTH_LAYER = 8
    DEPTH_LINES = 9
    FULLY_CONNECTED = 10
    HEAD_STREAM = 11
    HEAD_LOAD = 12


class Counter(enum.IntEnum):
    """What the compiler uses the counters for. NONE is never posted. The two of the array and OUTERS_DONE, DEPTHS_DONE are posted by the
    machine for every instruction of their queues; the others by the instruction's post."""

    __hash__ = int.__hash__  # Enum's own hashes the name

    NONE = 0
    LOADED = 1  # LOADs in place
    STREAMED = 2  # weight tiles in the weight memory
    HEAD_STREAMED = 10  # and in the head's buffer
    HEAD_LOADED = 11  # LOADs of the head in place
    STEPS_WRITTEN = 3  # steps whose results are in the memory of their row: of all rows as seen from instructions that hop
    STEPS_COLLECTED = 4  # steps whose results are in the expansion ring, the key/value memory or the pool
    DEPTHS_DONE = 5  # commands of the depthwise engine; of a line pair, when its results are in the rows' memories
    OUTERS_DONE = 6  # states in the state memory
    WINDOWS_DONE = 7  # WINDOWs whose words are in the rows' memories
    HEADS_DONE = 8  # commands of the head
    STORED = 9  # images whose logits are in DDR


class LoadTarget(enum.IntEnum):
    """Where LOAD puts its beats of 16 bytes; ``address`` counts beats. Layouts: ``rtl.efficientvit.program.pack``."""

    PARAMETER = 0  # of the rows' requantizers: two beats per pair of output channels
    DEPTH_WEIGHT = 1
    DEPTH_PARAMETER = 2
    HEAD_PARAMETER = 3


_STREAM: instruction.Layout = (("offset", 32), ("stride", 32), ("items", 16), ("address", 16))

_LOAD: instruction.Layout = (("target", 3), ("offset", 32), ("beats", 16), ("address", 16))
PAYLOAD: dict[Opcode, instruction.Layout] = {
    Opcode.LOAD: _LOAD,
    Opcode.HEAD_LOAD: _LOAD,
    # Weight words of 64 bytes, to the weight memory or the head's buffer: slice s of word i is beat i of the run at offset + s * stride in
    # the WEIGHTS window, s < 4.
    Opcode.STREAM: _STREAM,
    Opcode.HEAD_STREAM: _STREAM,
    Opcode.STEP: (
        ("weight_address", 13),  # in the weight memory, or, for a score, of its state
        ("parameter_address", 11),  # of the first pair
        ("source", 10),  # first word of the input
        ("source_stride", 2),  # grouped and score: from one output word's input to the next
        ("words", 7),  # of the input per output word: 1..64
        ("outputs", 6),  # words: 1..63
        ("grouped", 1),  # output word j has one word of input, source + j * source_stride
        ("score", 1),  # as grouped, after 16 cycles of divisors; weights from the state memory, one parameter for all
        ("hardswish", 1),
        ("fraction", 3),
        ("zero", 8),
        ("low", 1),  # the lower limit
        ("shortcut_enable", 1),
        ("shortcut", 10),
        ("shortcut_zero", 8),
        ("exponent_low", 5),  # score
        ("write", 1),
        ("target", 10),
        ("ring", 1),  # results also to the expansion ring
        ("attention", 1),  # of three words the second and third also to the key/value memory
        ("pool", 1),  # results also to the pool: sums from word ``key_value`` on, the image's first pass if ``bank`` is 1
        ("pixels", 7),  # of this pass: 1..rows
        ("key_value", 9),  # address of the pass's first pixels in the key/value memory
        ("bank", 3),  # of the expansion ring, for the pass's first pixel
        ("address", 10),  # and its address there
        ("column", 9),  # x of the first pixel
        ("width", 9),  # of a line; the ring's pitch is width | 1
        ("pitch", 7),  # words of one pixel in the ring
        ("lines_left", 5),  # lines before the ring's first line follows its last one
        ("ring_words", 11),  # addresses that a bank's part of the ring takes
    ),
    # K^T V of one head: see ``rtl.efficientvit.attend_command``.
    Opcode.OUTER: (
        ("address", 10),
        ("stride", 10),
        ("pixels", 11),
        ("wide", 1),
        ("base", 10),
        ("place", 5),
        ("state_multiplier", 16),
        ("state_shift", 2),
        ("sum_multiplier", 16),
        ("sum_shift", 2),
    ),
    Opcode.DEPTH_LAYER: depth_command.LAYER,
    Opcode.DEPTH_LINES: depth_command.LINES_PAIR,
    # Windows of some output lines of the stem's convolution, to the rows from ``row`` on. ``first``: of an image; it begins at ``offset``.
    Opcode.WINDOW: (
        ("offset", 32),
        ("first", 1),
        ("lines", 9),
        ("row", 6),
        ("address", 10),
        ("region", 10),  # the address that follows ``region_end``
        ("region_end", 10),
        ("pad_0", 8),
        ("pad_1", 8),
        ("pad_2", 8),
    ),
    Opcode.FULLY_CONNECTED: head_command.FULLY_CONNECTED,
    Opcode.STORE: (("offset", 32), ("items", 16), ("image", 1)),
    Opcode.END: (("status", 8),),
}


#: 0 DMA, 1 ARRAY, 2 OUTER, 3 STREAM, 4 WINDOW, 5 DEPTH, 6 HEAD, 7 HEAD_TRANSFER: the head's transfers, when nobody else wants the
#: ports.
QUEUE_OF = {
    Opcode.LOAD: 0,
    Opcode.STORE: 0,
    Opcode.END: 0,
    Opcode.STEP: 1,
    Opcode.OUTER: 2,
    Opcode.STREAM: 3,
    Opcode.WINDOW: 4,
    Opcode.DEPTH_LAYER: 5,
    Opcode.DEPTH_LINES: 5,
    Opcode.FULLY_CONNECTED: 6,
    Opcode.HEAD_STREAM: 7,
    Opcode.HEAD_LOAD: 7,
}


@dataclass(frozen=True, kw_only=True)
class Instruction(instruction.Instruction):
    """An instruction of the EfficientViT machine."""

    payloads = PAYLOAD
    queues = QUEUE_OF
