"""Unpacks a stream of beats into items of a width chosen per request."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, BEAT_BYTES, DATA_BITS
from rtl.errors import InputError

INDEX_BITS = 24


@dataclass(frozen=True, kw_only=True)
class UnpackConfig:
    """
    Parameters
    ----------
    widths : item widths in bits, ascending; ``width_code`` indexes them. Powers of two from 8 to 128, then at most one multiple of 128.
    """

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.widths or tuple(sorted(set(self.widths))) != self.widths:
            raise InputError(f"widths must be ascending and distinct: {self.widths} are not; sort them")
        for width in self.widths:
            if width <= DATA_BITS and width not in (8, 16, 32, 64, 128):
                raise InputError(f"widths up to 128 must be powers of two from 8: {width} is not; round it up")
            if width % 8 or (width > DATA_BITS and width % DATA_BITS):
                raise InputError(f"widths above 128 must be multiples of 128: {width} is not; round it up")
        if len([width for width in self.widths if width > DATA_BITS]) > 1:
            raise InputError(f"at most one width may be above 128: {self.widths} have more; use one width for them")

    @property
    def item_bits(self) -> int:
        return max(self.widths)

    @property
    def code_bits(self) -> int:
        return max(1, (len(self.widths) - 1).bit_length())

    def code(self, width: int) -> int:
        """The ``width_code`` of a width."""
        if width not in self.widths:
            raise InputError(f"width must be one of {self.widths}: {width} is not; add it to the configuration")
        return self.widths.index(width)

    def beats(self, width: int, items: int) -> int:
        """Beats that a request for ``items`` items of ``width`` bits takes: each request starts on a fresh beat."""
        return -(-items * width // (8 * BEAT_BYTES))

    def build(self) -> Unpack:
        return Unpack(self)


class Unpack(wiring.Component):
    """Cuts beats into items, least significant bits first.

    A request for n items takes ``config.beats(width, n)`` beats from ``i``, whatever their ``last``, and drops what is left over.
    A request for no items is accepted and does nothing. ``clear`` drops the request in progress and the item that is offered.

    Members
    -------
    i_request : In(stream of {width_code, items: 24})
    i : In(stream of {data: 128, last: 1})
    o : Out(stream of {data: item_bits, index: 24, last: 1}); ``data`` is zero above the width, ``index`` counts from 0 in each request
    clear : In(1)

    Timing
    ------
    Beat taken in cycle t: its first item, if it completes one, is offered in t + 1. Within a request one item per cycle (widths up to 128),
    or one item per width / 128 cycles, when beats are there. Request taken in cycle t: its first beat is taken in t + 1 at the earliest.
    The next request is taken in the cycle in which the last item is, so between two requests of narrow items one cycle has no item.

    Raises
    ------
    InputError : from the configuration
    """

    def __init__(self, config: UnpackConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_request": In(stream.Signature(data.StructLayout({"width_code": config.code_bits, "items": INDEX_BITS}))),
                "i": In(stream.Signature(BEAT)),
                "o": Out(stream.Signature(data.StructLayout({"data": config.item_bits, "index": INDEX_BITS, "last": 1}))),
                "clear": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        narrow = [(code, width) for code, width in enumerate(self.config.widths) if width <= DATA_BITS]
        wide_beats = -(-self.config.item_bits // DATA_BITS)
        code = Signal(self.config.code_bits)
        left = Signal(INDEX_BITS)  # items not yet delivered, the offered one included
        active = Signal()
        final = Signal()
        word = Signal(max(DATA_BITS, self.config.item_bits))  # beats enter at the top if items are wide; narrow items leave at the bottom
        have = Signal(range(wide_beats + 1))  # beats in the word
        need = Signal.like(have)
        index_in_beat = Signal(range(max(2, DATA_BITS // self.config.widths[0])))
        beat_done = Signal()  # the offered item is the last one of what the word holds
        wide = Signal()
        deliver = Signal()
        load = Signal()

        m.d.comb += [
            need.eq(1),
            beat_done.eq(1),
            final.eq(left == 1),
            deliver.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(have == need),
            self.o.p.data.eq(word[: self.config.item_bits]),
            self.o.p.last.eq(final),
            self.i_request.ready.eq(~active | (deliver & final)),
            load.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(active & ((have != need) | (deliver & beat_done & ~final))),
        ]
        if wide_beats > 1:
            with m.If(code == len(self.config.widths) - 1):
                m.d.comb += [wide.eq(1), need.eq(wide_beats)]
        with m.If(deliver):
            m.d.sync += [left.eq(left - 1), self.o.p.index.eq(self.o.p.index + 1), index_in_beat.eq(index_in_beat + 1)]
            with m.If(beat_done):
                m.d.sync += [have.eq(load), index_in_beat.eq(0)]
        with m.Elif(load):
            m.d.sync += have.eq(have + 1)
        for value, width in narrow:
            with m.If(code == value):
                m.d.comb += [beat_done.eq(index_in_beat == DATA_BITS // width - 1), self.o.p.data.eq(word[:width])]
                with m.If(deliver):
                    m.d.sync += word[:DATA_BITS].eq(word[:DATA_BITS] >> width)
        with m.If(load):
            m.d.sync += word.eq(Mux(wide, Cat(word, self.i.p.data)[DATA_BITS:], self.i.p.data))
        with m.If(self.i_request.ready):
            m.d.sync += [
                code.eq(self.i_request.p.width_code),
                left.eq(self.i_request.p.items),
                active.eq(self.i_request.valid & self.i_request.p.items.any()),
                have.eq(0),
                index_in_beat.eq(0),
                self.o.p.index.eq(0),
            ]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), have.eq(0)]
        return m
