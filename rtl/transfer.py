"""What the dispatcher, the DMA engine and the weight stream have in common: instructions, windows, and the check of a transfer."""

from __future__ import annotations

import enum

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import ADDRESS_BITS, BEATS_BITS
from rtl.program.instruction import INSTRUCTION_BYTES, PAYLOAD_OFFSET

PAYLOAD_BITS = 8 * INSTRUCTION_BYTES - PAYLOAD_OFFSET

Window = data.StructLayout({"base": ADDRESS_BITS, "bytes": 32})
Windows = data.StructLayout({"weights": Window, "image": Window, "result": Window})
#: What the dispatcher offers to an engine.
Instruction = data.StructLayout({"opcode": 4, "payload": PAYLOAD_BITS, "post": Post})


class DmaError(enum.IntEnum):
    NONE = 0
    WINDOW_OVERRUN = 1
    BAD_INSTRUCTION = 2


class TransferCheck(wiring.Component):
    """Address of a transfer, and whether it lies in its window.

    Members
    -------
    window, offset, beats : held for three cycles
    address : base + offset        inside : offset is a multiple of 16, beats is not 0, and the last byte is in the window

    Timing
    ------
    Outputs follow the inputs after three cycles: a sum, a comparison, and one for the flags.
    """

    def __init__(self):
        super().__init__(
            {
                "window": In(Window),
                "offset": In(32),
                "beats": In(BEATS_BITS),
                "address": Out(ADDRESS_BITS),
                "inside": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        end, fits, some, aligned = Signal(33), Signal(), Signal(BEATS_BITS // 6), Signal()
        m.d.sync += [
            end.eq((self.beats << 4) + self.offset),
            fits.eq(end <= self.window.bytes),
            some.eq(Cat(self.beats.word_select(index, 6).any() for index in range(BEATS_BITS // 6))),
            aligned.eq(~self.offset[:4].any()),
            self.inside.eq(fits & some.any() & aligned),
            self.address.eq(self.window.base + self.offset),
        ]
        return m
