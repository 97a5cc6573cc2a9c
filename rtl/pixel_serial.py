"""Scatters an image to the rows' activation memories one byte at a time, whatever the geometry."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import AcceleratorConfig
from rtl.row_bus import CHANNEL_BITS, LANES, PASS_BITS, LoadBus, LoadKind


def scatterer_members(item_bits: int) -> dict:
    """Members of every scatterer: items of an image in, beats of the load bus out."""
    flags = {name: In(1) for name in ("image", "start", "clear", "hold")}
    return {"i": In(stream.Signature(item_bits)), **flags, "o": Out(LoadBus), "idle": Out(1)}


class PixelSerial(wiring.Component):
    """One byte, one lane, one beat.

    Members
    -------
    i : stream of bytes, the image as (y, x, channel)        image, start, clear, hold, o, idle : see `rtl.pixel_turn.PixelTurn`

    Timing
    ------
    A byte per cycle without hold; on ``o`` two cycles later.
    """

    item_bits = 8

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(scatterer_members(8))

    def elaborate(self, platform):
        m = Module()
        row, pass_index, channel = Signal(8), Signal(PASS_BITS), Signal(CHANNEL_BITS)
        take, held, byte, held_row = Signal(), Signal(), Signal(8), Signal(8)
        m.d.comb += [
            self.i.ready.eq(~self.hold),
            take.eq(self.i.valid & self.i.ready),
            self.o.kind.eq(LoadKind.PIXEL),
            self.o.token.image.eq(self.image),
        ]
        self._count(m, take, row, pass_index, channel)
        held_pass, held_channel = Signal.like(pass_index), Signal.like(channel)
        m.d.sync += [
            held.eq(take),
            byte.eq(self.i.payload),
            Cat(held_row, held_pass, held_channel).eq(Cat(row, pass_index, channel)),
            self.o.valid.eq(held),
            self.o.group_0.eq(held_row // LANES),
            self.o.lanes.eq(1 << held_row % LANES),
            self.o.token.pass_index.eq(held_pass),
            self.o.token.address.eq(held_channel),
            self.o.data.eq(Cat(byte for _ in range(LANES))),
        ]
        m.d.sync += self.idle.eq(~(self.i.valid | held | self.o.valid))
        with m.If(self.clear | self.start):
            m.d.sync += [held.eq(0), self.o.valid.eq(0)]
        return m

    def _count(self, m, take, row, pass_index, channel):
        """Row, pass and channel of the next byte. Every grid row begins where the one before it ended."""
        shape, rows = self.config.shape, self.config.rows
        line = shape.patch_size * shape.channels
        first_row, first_pass = divmod(shape.first_patch, rows)[::-1]
        offset, column, patch_line = Signal(range(max(2, line))), Signal(range(max(2, shape.grid))), Signal(range(max(2, shape.patch_size)))
        start_row, start_pass = Signal(8, init=first_row), Signal(PASS_BITS, init=first_pass)
        start_channel, wraps = Signal(CHANNEL_BITS), Signal()
        next_row, next_pass = Signal(8), Signal(PASS_BITS)
        m.d.comb += [
            wraps.eq(row == rows - 1),
            next_row.eq(Mux(wraps, 0, row + 1)),
            next_pass.eq(pass_index + wraps),
        ]
        with m.If(take):
            m.d.sync += [offset.eq(offset + 1), channel.eq(channel + 1)]
            with m.If(offset == line - 1):
                m.d.sync += [offset.eq(0), channel.eq(start_channel), column.eq(column + 1), row.eq(next_row), pass_index.eq(next_pass)]
                with m.If(column == shape.grid - 1):
                    m.d.sync += [column.eq(0), row.eq(start_row), pass_index.eq(start_pass), patch_line.eq(patch_line + 1)]
                    m.d.sync += [channel.eq(start_channel + line), start_channel.eq(start_channel + line)]
                    with m.If(patch_line == shape.patch_size - 1):
                        m.d.sync += [patch_line.eq(0), channel.eq(0), start_channel.eq(0)]
                        m.d.sync += [row.eq(next_row), pass_index.eq(next_pass), start_row.eq(next_row), start_pass.eq(next_pass)]
        with m.If(self.clear | self.start):
            m.d.sync += [signal.eq(0) for signal in (offset, column, patch_line, channel, start_channel)]
            m.d.sync += [row.eq(first_row), start_row.eq(first_row), pass_index.eq(first_pass), start_pass.eq(first_pass)]
