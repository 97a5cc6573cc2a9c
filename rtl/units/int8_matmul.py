"""Dot products of signed bytes with unsigned codes, two at a time, accumulated over any number of products."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from model.integer import ACCUMULATOR_BITS
from rtl.tech.clocking import Clocking, single_rate
from rtl.tech.dsp48e2 import generic, pair_sum_width
from rtl.units.protocol import require

WEIGHT_BITS = CODE_BITS = 8
#: Outputs that share the codes: one slice multiplies a code by two weights.
OUTPUTS = 2


@dataclass(frozen=True, kw_only=True)
class Int8MatmulConfig:
    """
    Parameters
    ----------
    inputs : weights of an output, and codes, per cycle
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    clocking : of the multipliers, see `rtl.tech.clocking`; `double_rate` needs the domain ``sync_2x`` around the unit
    """

    inputs: int = 32
    technology: object = generic
    clocking: Clocking = single_rate

    def __post_init__(self) -> None:
        require(self.inputs >= 1, "inputs must be 1 or more", self.inputs, "choose as many as a word of codes has")
        sum_bits = pair_sum_width(self.inputs)
        require(sum_bits <= ACCUMULATOR_BITS, f"a product must fit {ACCUMULATOR_BITS} bits", sum_bits, "choose fewer inputs")
        self.clocking.check(self.inputs)

    @property
    def stagger(self) -> tuple[int, ...]:
        """Cycles that each weight comes after that of input 0, by its place in its cascade."""
        return self.clocking.stagger(self.inputs)

    @property
    def offsets(self) -> dict[str, int]:
        """The cycle in which each port is sampled; weight k ``stagger[k]`` cycles later."""
        control = self.clocking.latency(self.inputs) - 1
        return {"codes": 0, "weights_0": 0, "weights_1": 0, "first": control, "last": control, "enable": control}

    @property
    def latency(self) -> int:
        return self.clocking.latency(self.inputs) + 1

    def build(self) -> Int8Matmul:
        return Int8Matmul(self)


class Int8Matmul(wiring.Component):
    """o_n = sum over a group of products of the sum of weights_n[k] * codes[k].

    Parameters
    ----------
    config : Int8MatmulConfig

    Members
    -------
    weights_0, weights_1 : In(ArrayLayout(signed 8, inputs)), in [-127, 127], staggered: weight k comes ``config.stagger[k]`` cycles later
    codes : In(ArrayLayout(unsigned 8, inputs)), not staggered
    first : In(1): the product is the first of its group: the sums start with it
    last : In(1): the product is the last of its group: the sums come out
    enable : In(1), 1 if left alone: the product counts; where 0, the cycle is a bubble, within a group or between groups
    o_0, o_1 : Out(stream of signed 27), both valid in the same cycle. The sums must fit (lowering proves it)

    Timing
    ------
    A product per cycle, a group of any length from 1, without a bubble. The sums follow the codes of their group's last product by
    ``latency`` = L + 1 cycles, with L = `rtl.tech.dsp48e2.product_latency` of ``inputs``: 13 for 32. ``OFFSETS`` gives the cycle in which
    each port is sampled: codes and weights 0, controls L - 1. Only ``valid`` is reset.

    Resources, 32 inputs, yosys, before place-and-route: 340 LUT, 160 of them shift registers of the codes, 276 FF, 32 DSP48E2; at most
    2 LUT levels and a carry chain, 1.9 ns in our model.

    Raises
    ------
    InputError : no inputs, or more than 27 bits can add up.

    Source: model/efficientvit/graph.py, Convolution; the zero point of the codes is in the requantizer's bias.
    """

    def __init__(self, config: Int8MatmulConfig):
        self.config, self.OFFSETS, self.latency = config, config.offsets, config.latency
        weights = In(data.ArrayLayout(signed(WEIGHT_BITS), config.inputs))
        total = Out(stream.Signature(signed(ACCUMULATOR_BITS), always_ready=True))
        super().__init__(
            {
                "weights_0": weights,
                "weights_1": weights,
                "codes": In(data.ArrayLayout(unsigned(CODE_BITS), config.inputs)),
                "first": In(1),
                "last": In(1),
                "enable": In(1, init=1),
                "o_0": total,
                "o_1": total,
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.product = product = self.config.clocking.product(self.config.inputs, self.config.technology)
        for k in range(self.config.inputs):
            m.d.comb += [
                product.x0[k].eq(self.weights_0[k]),
                product.x1[k].eq(self.weights_1[k]),
                product.y[k].eq(Cat(self.codes[k], Const(0, 1)).as_signed()),
            ]
        keep, counts, last = Signal(reset_less=True), Signal(), Signal(reset_less=True)
        m.d.sync += [keep.eq(~self.first), counts.eq(self.enable), last.eq(self.last)]
        for total, o in ((product.sum0, self.o_0), (product.sum1, self.o_1)):
            accumulator, valid = Signal(signed(ACCUMULATOR_BITS), reset_less=True), Signal()
            following = self.config.technology.add_gated(m, total, accumulator, keep, ACCUMULATOR_BITS)
            with m.If(counts):
                m.d.sync += accumulator.eq(following)
            m.d.sync += valid.eq(counts & last)
            m.d.comb += [o.payload.eq(accumulator), o.valid.eq(valid)]
        return m
