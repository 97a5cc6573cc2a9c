"""`OuterProduct`: K^T V and the sums of K of one head, 128 products per cycle, a few pixels at a time."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from model import integer
from rtl.tech.dsp48e2 import PairCascade, cascade_latency, generic
from rtl.tech.lut_arithmetic import MULTIPLIERS, LutMultiplyAdd
from rtl.units.outer_product_sums import TileSums
from rtl.units.protocol import delay, require

#: Products per cycle.
PRODUCTS = 128
#: The largest head: channels of k and of v.
CHANNELS = 32
#: Sums that are read per cycle.
READ = 4
_MUX = 4


@dataclass(frozen=True, kw_only=True)
class OuterProductConfig:
    """
    Parameters
    ----------
    bits : of the codes of k and v, 4..8
    depth : pixels per step: 1, 2 or 4. A deeper step adds its pixels in the DSPs' cascades, so fewer sums are kept in fabric, but the last
        step of a head may be partly empty
    pixels : that a sum may be over, up to 1024
    multipliers : "dsp", two products each; or "lut", of one pixel per step
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    """

    bits: int = 8
    depth: int = 1
    pixels: int = 1024
    multipliers: str = "dsp"
    technology: object = generic

    def __post_init__(self) -> None:
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")
        require(self.depth in (1, 2, 4), "depth must be 1, 2 or 4", self.depth, "choose one of them")
        require(1 <= self.pixels <= 1024, "pixels must be 1..1024", self.pixels, "choose a number in that range")
        require(
            self.multipliers in MULTIPLIERS, f"multipliers must be one of {', '.join(MULTIPLIERS)}", repr(self.multipliers), "choose one"
        )
        require(self.multipliers == "dsp" or self.depth == 1, "depth must be 1 with multipliers of LUTs", self.depth, "choose dsp")

    @property
    def keys(self) -> int:
        """Channels of k in a tile: a multiple of ``READ``."""
        return 8 if self.depth < 4 else 4

    @property
    def values(self) -> int:
        """Channels of v in a tile."""
        return PRODUCTS // self.depth // self.keys

    @property
    def key_parts(self) -> int:
        """Tiles of a head of ``CHANNELS`` along k; a head of half the channels has half as many."""
        return CHANNELS // self.keys

    @property
    def value_parts(self) -> int:
        return CHANNELS // self.values

    @property
    def product_latency(self) -> int:
        """Cycles from pixel 0's k and v to the sum over the step's pixels."""
        return cascade_latency(self.depth) if self.multipliers == "dsp" else LutMultiplyAdd.latency_of(self.key_bits)

    @property
    def halves(self) -> int:
        """Reads that a column of a tile takes."""
        return self.keys // READ

    @property
    def read_latency(self) -> int:
        """Cycles from a read to its sums: each leaves one choice in so many."""
        choices, cycles = (self.values + 1) * self.halves, 0
        while choices > 1:
            choices, cycles = -(-choices // _MUX), cycles + 1
        return cycles

    @property
    def key_bits(self) -> int:
        """Of k as a multiplier of LUTs takes it: an even number."""
        return self.bits - 1 + (self.bits - 1) % 2

    def tiles(self, wide: bool) -> int:
        """Cycles of a step: tiles of a head of 32 channels (``wide``) or 16."""
        return self.key_parts * self.value_parts // (1 if wide else 4)

    @property
    def sum_bits(self) -> int:
        """Of S. |v| may be 2**(bits-1): memory that was never written holds any code."""
        bound = self.pixels * ((1 << (self.bits - 1)) - 1) << (self.bits - 1)
        return bound.bit_length() + 1

    @property
    def total_bits(self) -> int:
        """Of the sum of K, never negative, as a signed number."""
        return (self.pixels * ((1 << (self.bits - 1)) - 1)).bit_length() + 1

    def build(self) -> OuterProduct:
        return OuterProduct(self)


def slot_layout(config: OuterProductConfig) -> data.StructLayout:
    """Which tile of the head."""
    return data.StructLayout({"key": exact_log2(config.key_parts), "value": exact_log2(config.value_parts)})


#: Which four sums: rows 4 ``part``... of column ``column`` of S, or, if ``total``, of the sums of K (then ``column`` is 0).
ReadLayout = data.StructLayout({"part": exact_log2(CHANNELS // READ), "column": exact_log2(CHANNELS), "total": 1})


class OuterProduct(wiring.Component):
    """Per cycle one tile of ``keys`` x ``values`` elements of K^T V, each the sum over the step's ``depth`` pixels, is added to the sums.

    A pixel's k and v are multiplied two k's to a DSP, or each pair in LUTs. What belongs to the step's pixel p comes p cycles after
    pixel 0's.

    Parameters
    ----------
    config : OuterProductConfig

    Members
    -------
    k : In(depth x keys of unsigned ``bits - 1``), after the ReLU; 0 for a pixel that is not there
    v : In(depth x values of signed ``bits``)
    slot : In(slot_layout), the tile's place; a tile comes back to its place after 2 cycles or more
    enable : In(1), there is a tile
    first : In(1), it begins new sums
    last : In(1), it ends them: they may be read until the next last tile takes this place
    read : In(ReadLayout)        sums : Out(4 x signed 27), ``read_latency`` cycles after `read`

    Timing
    ------
    ``OFFSETS``: slot, enable, first and last are sampled ``product_latency`` - 1 cycles after (pixel 0 of) k and v: depth + 2 with DSPs.
    A tile's last sums may be requested at `read` ``settle`` = 2 cycles after its slot. A tile and a request every cycle.

    Source: model/efficientvit/integer.py, linear_attention.
    """

    settle = 2

    def __init__(self, config: OuterProductConfig):
        self.config = config
        offset = config.product_latency - 1
        self.OFFSETS = {"slot": offset, "enable": offset, "first": offset, "last": offset}
        self.halves, self.read_latency = config.halves, config.read_latency
        super().__init__(
            {
                "k": In(data.ArrayLayout(data.ArrayLayout(unsigned(config.bits - 1), config.keys), config.depth)),
                "v": In(data.ArrayLayout(data.ArrayLayout(signed(config.bits), config.values), config.depth)),
                "slot": In(slot_layout(config)),
                "enable": In(1),
                "first": In(1),
                "last": In(1),
                "read": In(ReadLayout),
                "sums": Out(data.ArrayLayout(signed(integer.ACCUMULATOR_BITS), READ)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, column_bits = self.config, exact_log2(self.config.values)
        half, key_part = self.read.part[: exact_log2(self.halves)], self.read.part[exact_log2(self.halves) :]
        choices = []
        for name, terms, bits in (("states", self._products(m), config.sum_bits), ("totals", self._pixel_sums(m), config.total_bits)):
            m.submodules[name] = sums = TileSums(terms, bits=bits, slots=config.key_parts * config.value_parts)
            m.d.comb += [
                sums.terms.eq(Cat(terms)),
                sums.slot.eq(self.slot),
                sums.enable.eq(self.enable),
                sums.first.eq(self.first),
                sums.last.eq(self.last),
                sums.read.eq(Cat(key_part, self.read.column[column_bits:])),
            ]
            choices += [[sums.finished[start + k] for k in range(READ)] for start in range(0, len(terms), READ)]
        chosen = self._select(m, choices, Cat(half, self.read.column[:column_bits], self.read.total))
        m.d.comb += [self.sums[k].eq(value) for k, value in enumerate(chosen)]
        return m

    def _products(self, m):
        """Of a tile: those of column 0 of v first."""
        return self._slices(m) if self.config.multipliers == "dsp" else self._tables(m)

    def _tables(self, m):
        config, products = self.config, []
        for column in range(config.values):
            for key in range(config.keys):
                product = LutMultiplyAdd(config.technology, sum_bits=config.bits, b_bits=config.key_bits)
                m.submodules[f"product{column}_{key}"] = product
                m.d.comb += [product.a.eq(self.v[0][column]), product.b.eq(self.k[0][key])]
                products.append(product.p)
        return products

    def _slices(self, m):
        config, products = self.config, []
        for column in range(config.values):
            for pair in range(config.keys // 2):
                cascade = PairCascade(config.depth, config.technology, x_staggered=True, y_staggered=True)
                m.submodules[f"cascade{column}_{pair}"] = cascade
                for p in range(config.depth):
                    m.d.comb += [
                        cascade.x0[p].eq(self.k[p][2 * pair]),
                        cascade.x1[p].eq(self.k[p][2 * pair + 1]),
                        cascade.y[p].eq(self.v[p][column]),
                    ]
                products += [cascade.sum0, cascade.sum1]
        return products

    def _pixel_sums(self, m):
        """The tile's k, added over the pixels as the cascades add products, and as late."""
        config, sums = self.config, []
        for key in range(config.keys):
            total = self.k[0][key]
            for p in range(1, config.depth):
                total = delay(m, total, 1, name=f"total{key}_{p}") + self.k[p][key]
            sums.append(delay(m, total, config.product_latency - (config.depth - 1), name=f"total{key}"))
        return sums

    def _select(self, m, choices, index):
        """``choices[index]`` after ``read_latency`` cycles, each of which leaves one in four: a level after the memory's own."""
        for stage in range(self.read_latency):
            left = []
            for start in range(0, len(choices), _MUX):
                group = choices[start : start + _MUX]
                group += group[-1:] * (_MUX - len(group))
                left.append([Signal(signed(self.config.sum_bits), name=f"chosen{stage}_{start}_{k}", reset_less=True) for k in range(READ)])
                for k, value in enumerate(left[-1]):
                    m.d.sync += value.eq(Array(choice[k] for choice in group)[index[:2]])
            choices = left
            if len(choices) > 1:
                index = delay(m, index[2:], 1, name=f"index{stage}")
        return choices[0]
