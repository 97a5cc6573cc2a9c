"""Scatters an image to the rows' activation memories one byte at a time, whatever the geometry."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import AcceleratorConfig
from rtl.row_bus import CHANNEL_BITS, LANES, PASS_BITS, LoadBus, LoadKind

#: Where a token lies. ``wraps``: the next one lies in row 0 of the next pass.
_PLACE = data.StructLayout({"row": 8, "pass_index": PASS_BITS, "wraps": 1})


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
        place, channel = Signal(_PLACE, init=self._first), Signal(CHANNEL_BITS)
        take, held, byte, held_place, held_channel = Signal(), Signal(), Signal(8), Signal(_PLACE), Signal(CHANNEL_BITS)
        m.d.comb += [
            self.i.ready.eq(~self.hold),
            take.eq(self.i.valid & self.i.ready),
            self.o.kind.eq(LoadKind.PIXEL),
            self.o.token.image.eq(self.image),
        ]
        self._count(m, take, place, channel)
        m.d.sync += [
            held.eq(take),
            byte.eq(self.i.payload),
            held_place.eq(place),
            held_channel.eq(channel),
            self.o.valid.eq(held),
            self.o.group_0.eq(held_place.row // LANES),
            self.o.lanes.eq(1 << held_place.row % LANES),
            self.o.token.pass_index.eq(held_place.pass_index),
            self.o.token.address.eq(held_channel),
            self.o.data.eq(Cat(byte for _ in range(LANES))),
        ]
        m.d.sync += self.idle.eq(~(self.i.valid | held | self.o.valid))
        return ResetInserter(self.clear | self.start)(m)

    @property
    def _first(self) -> dict[str, int]:
        pass_index, row = divmod(self.config.shape.first_patch, self.config.rows)
        return {"row": row, "pass_index": pass_index, "wraps": row == self.config.rows - 1}

    def _count(self, m, take, place, channel):
        """Place and channel of the next byte. Every grid row begins where the one before it ended. Each counter has a flag beside it, as
        old as itself, that says where it wraps."""
        shape = self.config.shape
        line = shape.patch_size * shape.channels
        start, following = Signal(_PLACE, init=self._first), Signal(_PLACE)
        start_channel, next_channel = Signal(CHANNEL_BITS), Signal(CHANNEL_BITS, init=line)
        wraps_at = (self.config.rows - 2) % self.config.rows
        # A place stays for a patch line: what follows it may be known one cycle late, but for lines of one byte.
        m.d["sync" if line > 1 else "comb"] += [
            following.row.eq(Mux(place.wraps, 0, place.row + 1)),
            following.pass_index.eq(place.pass_index + place.wraps),
            following.wraps.eq(place.row == wraps_at),
        ]
        patch_ends = _cyclic(m, take, line, "offset")
        line_ends = _cyclic(m, take & patch_ends, shape.grid, "column")
        row_ends = _cyclic(m, take & patch_ends & line_ends, shape.patch_size, "patch_line")
        with m.If(take):
            m.d.sync += channel.eq(Mux(patch_ends, Mux(line_ends, Mux(row_ends, 0, next_channel), start_channel), channel + 1))
        with m.If(take & patch_ends):
            m.d.sync += place.eq(Mux(line_ends & ~row_ends, start, following))
        with m.If(take & patch_ends & line_ends):
            m.d.sync += [start_channel.eq(Mux(row_ends, 0, next_channel)), next_channel.eq(Mux(row_ends, line, next_channel + line))]
            with m.If(row_ends):
                m.d.sync += start.eq(following)


def _cyclic(m: Module, step: Value, length: int, name: str) -> Signal:
    """Counts steps modulo ``length``. Returns whether the next one is the last of a round: a register."""
    count, last = Signal(range(length), name=name), Signal(name=f"{name}_last", init=length == 1)
    with m.If(step):
        m.d.sync += [count.eq(Mux(last, 0, count + 1)), last.eq(count == (length - 2) % length)]
    return last
