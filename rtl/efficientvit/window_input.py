"""The WINDOW queue's engine: an image over a memory port of its own, as windows to the rows."""

from __future__ import annotations

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, BEAT_BYTES, REQUEST
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAYLOAD, Opcode
from rtl.efficientvit.row_bus import window_lane
from rtl.efficientvit.window_former import WindowFormer
from rtl.transfer import DmaError, Instruction, TransferCheck, Window
from rtl.units.protocol import delay

_WINDOW = data.StructLayout(dict(PAYLOAD[Opcode.WINDOW]))
_CHECK_CYCLES = 5
#: From an instruction that is taken to its request, and to the former's start.
REQUEST_CYCLES = _CHECK_CYCLES + 1
#: From the last window's lane to its row's memory, seen from a reader that hops as the lane does.
SETTLE_CYCLES = 8


class WindowInput(wiring.Component):
    """Executes WINDOW, one at a time. The first one of an image asks for all of it; lines that are not needed yet wait in the reader.

    Members
    -------
    i : stream of {opcode, payload, post}        window : IMAGE        clear : abandons everything
    o_read, i_beats : to and from the AXI reader        o : windows for row 0's lane
    post : when the last window is in its row's memory        progress : a window is on ``o``
    error : DmaError, held until clear; nothing is taken after it
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(Instruction)),
                "window": In(Window),
                "clear": In(1),
                "o_read": Out(stream.Signature(REQUEST)),
                "i_beats": In(stream.Signature(BEAT)),
                "o": Out(window_lane(config.bits)),
                "post": Out(Post),
                "error": Out(2),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.former = former = WindowFormer(self.config)
        m.submodules.check = check = TransferCheck()
        beats = self.config.image_size**2 * self.config.channels // BEAT_BYTES
        taken, steps, working, waiting = Signal(Instruction), Signal(_CHECK_CYCLES), Signal(), Signal()
        fields = data.View(_WINDOW, taken.payload[: _WINDOW.size])
        known, fine = taken.opcode == Opcode.WINDOW, Signal()
        wiring.connect(m, wiring.flipped(self.i_beats), former.i_beats)
        m.d.comb += [
            self.i.ready.eq(~working & ~self.error.any()),
            check.window.eq(self.window),
            check.offset.eq(fields.offset),
            check.beats.eq(beats),
            self.o_read.payload.beats.eq(beats),
            fine.eq(known & (check.inside | ~fields.first)),
            former.start.eq(steps[-1] & fine),
            former.clear.eq(self.clear),
            *(former.job[name].eq(fields[name]) for name in ("first", "lines", "row", "address", "region", "region_end")),
            *(former.job.pads[channel].eq(fields[f"pad_{channel}"][: self.config.bits]) for channel in range(3)),
            self.o.eq(former.o),
        ]
        done = Signal()
        m.d.comb += done.eq(waiting & former.idle)
        m.d.sync += [steps.eq(steps << 1), self.progress.eq(former.o.valid), waiting.eq(former.start | (waiting & ~done))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [taken.eq(self.i.payload), working.eq(1), steps.eq(1)]
        with m.If(self.o_read.ready):
            m.d.sync += self.o_read.valid.eq(0)
        with m.If(steps[-1]):
            m.d.sync += self.o_read.payload.address.eq(check.address)
            with m.If(fine):
                m.d.sync += self.o_read.valid.eq(fields.first)
            with m.Elif(known):
                m.d.sync += self.error.eq(DmaError.WINDOW_OVERRUN)
            with m.Else():
                m.d.sync += self.error.eq(DmaError.BAD_INSTRUCTION)
        fire = delay(m, done, SETTLE_CYCLES, name="fire", reset=True)
        m.d.sync += [self.post.counter.eq(taken.post.counter), self.post.enable.eq(fire & taken.post.enable)]
        with m.If(fire):
            m.d.sync += working.eq(0)
        return ResetInserter(self.clear)(m)
