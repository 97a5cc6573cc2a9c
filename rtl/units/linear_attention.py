"""`LinearAttention`: words of k and v -> the state of a head, requantized: ReLU(K)^T V and the sums of ReLU(K)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from model import integer
from rtl.units.outer_product import CHANNELS, READ, OuterProduct, OuterProductConfig, ReadLayout, slot_layout
from rtl.units.protocol import delay
from rtl.units.requantize import Limits, Requantize, RequantizeConfig

__all__ = ["LinearAttention", "LinearAttentionConfig", "word_layout"]


@dataclass(frozen=True, kw_only=True)
class LinearAttentionConfig(OuterProductConfig):
    """Parameters are those of `OuterProductConfig`."""

    #: go -> shadow -> tile -> operand registers
    tile_latency: ClassVar[int] = 2

    @property
    def slot_latency(self) -> int:
        """Operand registers -> slot."""
        return self.product_latency

    @property
    def finish_latency(self) -> int:
        """To the sums."""
        return self.tile_latency + self.slot_latency + OuterProduct.settle - 1

    @property
    def latency(self) -> int:
        """From a read to its codes."""
        return self.read_latency + Requantize.latency

    def build(self) -> LinearAttention:
        return LinearAttention(self)


def word_layout(config: OuterProductConfig) -> data.StructLayout:
    """What a word of 32 codes is.

    pixel : a bit for each pixel of a step: whose it is; none: nobody's
    wide : head of 32 channels: its k and its v are a word each; else k is the lower half of the word, v the upper
    values : this is v (of a wide head)
    live : there is such a pixel; else k counts as 0
    go : the step's last word: multiply
    first, last : the step is the first, last of the head
    """
    return data.StructLayout({"pixel": config.depth, "wide": 1, "values": 1, "live": 1, "go": 1, "first": 1, "last": 1})


class LinearAttention(wiring.Component):
    """A step is the words of ``depth`` pixels of a head. Its tiles are added to the head's sums; those of the last head are read, four at
    a time, and requantized, while the next head comes.

    Parameters
    ----------
    config : LinearAttentionConfig

    Members
    -------
    i : In(word_layout)        word : In(32 x ``bits``), in the same cycle; codes: value + 2**(bits-1)
    finish : Out(1), the last step's sums may be requested from this cycle on
    read : In(ReadLayout), of which four values
    multiplier : In(unsigned 16), shift : In(2), index into REQUANTIZE_SHIFTS: of these four
    o : Out(4 x signed 8), in [-127, 127]: state or sum of K

    Timing
    ------
    Steps follow each other by ``config.tiles(wide)`` cycles or more. Pixel p + 1's first word follows pixel p's last by 2 cycles or more.
    finish : ``finish_latency`` + tiles cycles after the last go. The sums stay until the first tile of the next last step is added,
        ``finish_latency`` cycles after its go.
    ``OFFSETS``: multiplier and shift are sampled ``read_latency`` of the `OuterProduct` after read; o follows read by ``latency``.
    Four values per cycle.

    Source: model/efficientvit/integer.py, linear_attention.
    """

    def __init__(self, config: LinearAttentionConfig):
        self.config, self.core = config, OuterProduct(config)
        self.OFFSETS = {"multiplier": self.core.read_latency, "shift": self.core.read_latency}
        self.latency, self.finish_latency = config.latency, config.finish_latency
        self._tile_latency, self._slot_latency = config.tile_latency, config.slot_latency
        super().__init__(
            {
                "i": In(word_layout(config)),
                "word": In(CHANNELS * config.bits),
                "finish": Out(1),
                "read": In(ReadLayout),
                "multiplier": In(integer.MULTIPLIER_BITS),
                "shift": In(2),
                "o": Out(data.ArrayLayout(signed(8), READ)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self.core
        start = delay(m, self.i.go, 1, name="start", reset=True)
        slot, enable, first, last, end = self._tiles(m, start)
        for p in range(self.config.depth):
            self._operands(m, p, delay(m, start, p, name=f"start{p}", reset=True), delay(m, slot, p, name=f"slot{p}"))
        m.d.comb += [
            core.enable.eq(delay(m, enable, self._slot_latency, name="enable", reset=True)),
            Cat(core.slot, core.first, core.last).eq(delay(m, Cat(slot, first, last), self._slot_latency, name="control")),
            self.finish.eq(delay(m, end, self._slot_latency + core.settle, name="end", reset=True)),
            core.read.eq(self.read),
        ]
        self._requantize(m)
        return m

    def _tiles(self, m, start):
        """Tiles in the order of their slots, along k first, from the cycle after ``start`` on: slot, whether there is one, of the head's
        first and last step, whether it is the head's last."""
        layout = slot_layout(self.config)
        key, value = (Signal(layout[name].shape, name=name, reset_less=True) for name in ("key", "value"))
        enable, wide, first, last = Signal(name="running"), *(Signal(name=n, reset_less=True) for n in ("wide", "first", "last"))
        begin = delay(m, Cat(self.i.wide, self.i.first, self.i.last), 1, name="begin")
        # a head of 16 channels has half of the parts: the highest bit stays 0
        key_end, value_end = ((Cat(part[:-1], part[-1] | ~wide)).all() for part in (key, value))
        with m.If(start):
            m.d.sync += [enable.eq(1), key.eq(0), value.eq(0), Cat(wide, first, last).eq(begin)]
        with m.Else():
            m.d.sync += key.eq(key + 1)
            with m.If(key_end):
                m.d.sync += [key.eq(0), value.eq(value + 1)]
                with m.If(value_end):
                    m.d.sync += enable.eq(0)
        return Cat(key, value), enable, first, last, enable & key_end & value_end & last

    def _operands(self, m, p, start, slot):
        """Pixel p of a step: words as they come, then the operands of all its tiles, then those of one tile."""
        config = self.config
        key_bits = exact_log2(config.key_parts)
        for come, operands, part in (
            (self._keys(m, p), self.core.k[p], slot[:key_bits]),
            (self._values(m, p), self.core.v[p], slot[key_bits:]),
        ):
            held = [Signal.like(value, name=f"held_{value.name}") for value in come]
            with m.If(start):
                m.d.sync += [value.eq(new) for value, new in zip(held, come, strict=True)]
            size = len(operands)
            for index, operand in enumerate(operands):
                of_tile = Signal.like(held[index], name=f"tile_{come[index].name}")
                m.d.sync += of_tile.eq(Array(held[index::size])[part])
                m.d.comb += operand.eq(of_tile)

    def _keys(self, m, p):
        """After the ReLU. A code is the value with its sign inverted."""
        keys, bits = [Signal(self.config.bits - 1, name=f"k{p}_{c}", reset_less=True) for c in range(CHANNELS)], self.config.bits
        with m.If(self.i.pixel[p] & ~self.i.values):
            for c, key in enumerate(keys):
                code = self.word.word_select(c, bits)
                m.d.sync += key.eq(code[:-1] & (code[-1] & self.i.live).replicate(bits - 1))
        return keys

    def _values(self, m, p):
        """Those of a head of 16 channels come in the upper half of a word."""
        values, bits = [Signal(signed(self.config.bits), name=f"v{p}_{c}", reset_less=True) for c in range(CHANNELS)], self.config.bits
        with m.If(self.i.pixel[p] & (self.i.values | ~self.i.wide)):
            for c, value in enumerate(values):
                upper, own = (self.word.word_select(index % CHANNELS, bits) for index in (c + CHANNELS // 2, c))
                code = Mux(self.i.wide, own, upper)
                m.d.sync += value.eq(Cat(code[:-1], ~code[-1]).as_signed())
        return values

    def _requantize(self, m):
        """No sum of K is negative, and no rounding makes it so: [-127, 127] limits it as [0, 127] does."""
        for k in range(READ):
            m.submodules[f"requantize{k}"] = unit = Requantize(RequantizeConfig(technology=self.config.technology))
            m.d.comb += [
                unit.i_accumulator.payload.eq(self.core.sums[k]),
                unit.multiplier.eq(self.multiplier),
                unit.shift.eq(self.shift),
                unit.limits.eq(Limits.SIGNED8),
                self.o[k].eq(unit.o.payload[:8]),
            ]
