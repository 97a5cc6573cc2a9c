"""The INPUT queue's engine: whole images, over a memory port of their own, to the rows' activation memories."""

from __future__ import annotations

from amaranth import Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, DATA_BITS, REQUEST
from rtl.config import AcceleratorConfig
from rtl.pixel_turn import pixel_turn
from rtl.program import isa
from rtl.row_bus import LANES, LoadBus
from rtl.transfer import DmaError, Instruction, TransferCheck, Window
from rtl.units.protocol import delay

_INPUT = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.INPUT]))
#: From an instruction that is taken to its request; from the last beat to the post, beside the rows: cycles.
REQUEST_CYCLES, POST_CYCLES = 6, 4
_CHECK_CYCLES = 5  # `TransferCheck`, and the comparisons beside it
_SETTLE_CYCLES = 3  # until `idle` of the scatter knows of the last beat


class PixelInput(wiring.Component):
    """Executes INPUT, one at a time: an image is checked, asked for and scattered before the next instruction is taken.

    66 rows: 1,381 LUT, 1,395 FF (`rtl.flow.estimate`), nearly all of it `PixelTurn`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : stream of {opcode, payload, post}        window : IMAGE        clear : abandons everything
    hold : others want the load bus: beats that are on their way come out, no new ones
    o_read, i_beats : to and from the AXI reader
    o : beats for the load bus; whoever merges them takes each in the cycle in which it is valid
    post : strobe, when the last pixel has passed the last row        progress : a beat of pixels is on ``o``
    error : DmaError, held until clear; nothing is taken after it. An INPUT of anything but a whole image is a bad instruction

    Timing
    ------
    Instruction taken in cycle t: request offered in t + 6. Beats as `rtl.pixel_turn` takes and gives them. Post `rows` + 4 cycles after
    the last beat on ``o``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.pixels = pixel_turn(config)
        super().__init__(
            {
                "i": In(stream.Signature(Instruction)),
                "window": In(Window),
                "clear": In(1),
                "hold": In(1),
                "o_read": Out(stream.Signature(REQUEST)),
                "i_beats": In(stream.Signature(BEAT)),
                "o": Out(LoadBus),
                "post": Out(Post),
                "error": Out(2),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pixels = pixels = self.pixels
        taken, started = Signal(Instruction), Signal()
        fields = data.View(_INPUT, taken.payload[: _INPUT.size])
        m.d.comb += [pixels.image.eq(fields.image), pixels.start.eq(started), pixels.clear.eq(self.clear)]
        m.d.comb += [pixels.hold.eq(self.hold), self.o.eq(pixels.o)]
        m.d.sync += self.progress.eq(pixels.o.valid)
        left = Signal(25)  # bytes or beats after this one, less one: below zero at the last one
        take = self._feed(m) if pixels.item_bits == DATA_BITS else self._cut(m, left[-1])
        self._finish(m, taken, started, left, take, self._accept(m, taken, fields, started))
        return m

    @property
    def _image_bytes(self) -> int:
        shape = self.config.shape
        return shape.image_size**2 * shape.channels

    def _accept(self, m, taken, fields, started):
        """Takes an instruction, checks it and asks for its image. Returns the signal that ends it."""
        held, ready, steps, known, release = Signal(), Signal(), Signal(_CHECK_CYCLES), Signal(), Signal()
        m.submodules.check = check = TransferCheck()
        beats = -(-self._image_bytes // LANES)
        good = steps[-1] & known & check.inside
        m.d.comb += [
            self.i.ready.eq(ready),
            check.window.eq(self.window),
            check.offset.eq(fields.offset),
            check.beats.eq(beats),
            self.o_read.payload.beats.eq(beats),
        ]
        whole = Signal()
        m.d.sync += [
            ready.eq(~held & ~self.error.any() & ~(self.i.valid & ready)),
            steps.eq(steps << 1),
            whole.eq(fields.items == self._image_bytes),
            known.eq((taken.opcode == isa.Opcode.INPUT) & whole),
            started.eq(good),
        ]
        with m.If(self.i.valid & ready):
            m.d.sync += [taken.eq(self.i.payload), held.eq(1), steps.eq(1)]
        with m.If(self.o_read.ready):
            m.d.sync += self.o_read.valid.eq(0)
        with m.If(good):
            m.d.sync += [self.o_read.payload.address.eq(check.address), self.o_read.valid.eq(1)]
        with m.If(steps[-1] & ~check.inside):
            m.d.sync += self.error.eq(DmaError.WINDOW_OVERRUN)
        with m.If(steps[-1] & ~known):
            m.d.sync += self.error.eq(DmaError.BAD_INSTRUCTION)
        with m.If(release):
            m.d.sync += held.eq(0)
        with m.If(self.clear):
            m.d.sync += [held.eq(0), ready.eq(0), steps.eq(0), self.o_read.valid.eq(0), self.error.eq(DmaError.NONE)]
        return release

    def _feed(self, m):
        """Whole beats. Returns whether a beat is taken."""
        take = Signal()
        m.d.comb += [
            self.pixels.i.payload.eq(self.i_beats.payload.data),
            self.pixels.i.valid.eq(self.i_beats.valid),
            self.i_beats.ready.eq(self.pixels.i.ready),
            take.eq(self.i_beats.valid & self.i_beats.ready),
        ]
        return take

    def _cut(self, m, final):
        """A beat is held and shifted down by a byte in each cycle, up to the ``final`` one. Returns whether a byte is taken."""
        held, have, go = Signal(DATA_BITS), Signal(LANES), Signal()  # have: a one per byte that is left
        m.d.comb += [
            self.pixels.i.payload.eq(held[:8]),
            self.pixels.i.valid.eq(have[0]),
            self.i_beats.ready.eq(~have[0] | (go & ~have[1])),
            go.eq(have[0] & ~self.hold),
        ]
        with m.If(go):
            m.d.sync += [held.eq(held >> 8), have.eq(have >> 1)]
        with m.If(self.i_beats.valid & self.i_beats.ready):
            m.d.sync += [held.eq(self.i_beats.payload.data), have.eq(Const(1).replicate(LANES))]
        with m.If(self.clear | (go & final)):
            m.d.sync += have.eq(0)
        return go

    def _finish(self, m, taken, started, left, take, release):
        """Counts what went into the scatter; when all of it has come out, and has passed the rows, posts."""
        pieces = self._image_bytes * 8 // self.pixels.item_bits
        fed, settle, done = Signal(), Signal(_SETTLE_CYCLES), Signal()
        with m.If(take):
            m.d.sync += left.eq(left - 1)
            with m.If(left[-1]):
                m.d.sync += fed.eq(1)
        m.d.sync += [settle.eq((settle << 1 | fed) & fed.replicate(_SETTLE_CYCLES)), done.eq(0)]
        with m.If(settle[-1] & self.pixels.idle):
            m.d.sync += [done.eq(1), fed.eq(0), settle.eq(0)]
        with m.If(started):
            m.d.sync += left.eq(pieces - 2)
        fire = delay(m, done, self.config.rows, name="fire", reset=True)
        m.d.comb += release.eq(fire)
        m.d.sync += [self.post.counter.eq(taken.post.counter), self.post.enable.eq(fire & taken.post.enable)]
        with m.If(self.clear):
            m.d.sync += [fed.eq(0), settle.eq(0), done.eq(0), self.post.enable.eq(0)]
