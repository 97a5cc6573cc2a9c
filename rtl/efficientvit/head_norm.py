"""LayerNorm of up to 4,096 values, one per cycle: sum, sum of squares about the mean, then normalised values."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.efficientvit.head_command import BETA_BITS, CHANNEL_BITS, DIVIDEND_BITS, INVERSE_BITS, VALUE_BITS
from rtl.tech.dsp48e2 import MultiplyAdd
from rtl.units.code_output import field
from rtl.units.protocol import delay, saturated
from rtl.units.root_divide import RootDivideConfig

#: Of 4,096 values: their sum; twice their mean; 2 * value - that; the sum of its squares, which is below 4096 * 2**32.
_SUM_BITS, _MEAN_BITS, _CENTRED_BITS = VALUE_BITS + CHANNEL_BITS, 18, 18
_ENERGY_BITS = CHANNEL_BITS + 2 * VALUE_BITS
_NORMALIZED = signed(18)
_PRODUCT_BITS = _CENTRED_BITS + integer.RSQRT_BITS
#: normalized * gamma + beta
_SCALED_BITS = 35
#: Its least shift, and how far 4 bits of fraction reach beyond.
_LEAST = integer.NORMALIZED_FRACTION
_ROOT = RootDivideConfig(radicand_bits=_ENERGY_BITS, dividend=1 << (DIVIDEND_BITS - 1), quotient_bits=integer.RSQRT_BITS)
#: Entries of the table of steps, the quotient included; a cycle for the table, one for the quotient.
_ROOT_STEPS = _ROOT.latency + 2
ROOT_CYCLES = _ROOT_STEPS + 2
_TABLE = 1 << _ROOT_STEPS.bit_length()

#: What is being done. ``mean_last`` : its last cycle.
NORM_PHASE = data.StructLayout({"sum": 1, "mean": 1, "mean_last": 1, "square": 1, "root": 1})


class HeadNorm(wiring.Component):
    """Statistics of a layer, and p = saturate16((normalized * gamma + beta) >> (fraction + 11)), Hardswish's argument.

    Parameters
    ----------
    technology : of the multipliers and adders, see `rtl.tech.dsp48e2`

    Members
    -------
    x : In(signed 16)        phase : In(NORM_PHASE)
    clear : In(1): the sum is 0
    inverse, dividend : In, of the command: stable from before ``mean`` until ``root`` is over
    fraction : In(4), stable
    gamma : In(signed 16), cycle 7        beta : In(signed 33), cycle 7: the graph's, and half of what is shifted out
    p : Out(signed 16), ``latency`` = 15 cycles after x

    Timing
    ------
    The phases follow each other; in between the pipeline drains::

        sum      a value per cycle                          sum1
        mean     inverse_shift cycles, 20 .. 27             mean2, a bit of ``inverse`` per cycle
        square   a value per cycle                          energy, complete ``squared`` = 6 cycles after its last one
        root     ROOT_CYCLES = 86                           rsqrt

    then values in, p out, as long as mean2 and rsqrt hold. ``energy`` is the graph's 4*sum2 - mean2 * (4*sum1 - channels*mean2): the sum
    of (2x - mean2)**2, which needs no products of long numbers, but the values once more.
    ``OFFSETS``: the cycle in which gamma and beta are sampled::

        cycle    0        1..5               5, 6        7..11          11, 12   13, 14     15
                 centre   times rsqrt        saturate    times gamma    shift    saturate   p

    Resources: 2 DSP48E2.

    Source: model/efficientvit/integer.py, layernorm_hardswish; model/integer.py, layernorm_statistics.
    """

    OFFSETS = {"gamma": MultiplyAdd.latency + 3, "beta": MultiplyAdd.latency + 3}
    latency = 2 * MultiplyAdd.latency + 7
    squared = MultiplyAdd.latency + 2

    def __init__(self, technology):
        self.technology = technology
        super().__init__(
            {
                "x": In(signed(VALUE_BITS)),
                "phase": In(NORM_PHASE),
                "clear": In(1),
                "inverse": In(INVERSE_BITS),
                "dividend": In(DIVIDEND_BITS),
                "fraction": In(4),
                "gamma": In(signed(16)),
                "beta": In(signed(BETA_BITS)),
                "p": Out(signed(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        mean, rsqrt = self._mean(m), Signal(integer.RSQRT_BITS, reset_less=True)
        centred = Signal(signed(_CENTRED_BITS), reset_less=True)
        m.d.sync += centred.eq((2 * self.x - mean)[:_CENTRED_BITS])  # the mean lies among the values
        squaring = delay(m, self.phase.square, 1, name="squaring", reset=True)
        m.submodules.product = product = MultiplyAdd(self.technology, c_width=integer.NORMALIZE_SHIFT + 1)
        m.d.comb += [
            product.a.eq(Mux(squaring, centred, rsqrt)),
            product.b.eq(centred),
            product.c.eq(Mux(squaring, 0, 1 << (integer.NORMALIZE_SHIFT - 1))),
        ]
        self._rsqrt(m, product.p, delay(m, squaring, product.latency, name="squared", reset=True), rsqrt)
        normalized = product.p[integer.NORMALIZE_SHIFT : _PRODUCT_BITS].as_signed()
        self._scale(m, saturated(m, self.technology, normalized, _NORMALIZED, name="normalized"))
        return m

    def _mean(self, m):
        """mean2: the product of sum and inverse, shifted by a place per cycle, rounded in the last one, when no bit of inverse is left."""
        total, inverse = Signal(signed(_SUM_BITS), reset_less=True), Signal(INVERSE_BITS, reset_less=True)
        product, phase = Signal(signed(_SUM_BITS), reset_less=True), self.phase
        with m.If(phase.sum):
            m.d.sync += total.eq((total + self.x)[:_SUM_BITS])  # of 4,096 values
        with m.If(self.clear):
            m.d.sync += total.eq(0)
        operand = Mux(phase.mean_last, Const(1, signed(_SUM_BITS)), total & inverse[0].replicate(_SUM_BITS).as_signed())
        m.d.sync += inverse.eq(self.inverse)
        with m.If(phase.mean):
            # no more than the sum: the mean of itself and a value not above it
            m.d.sync += [inverse.eq(inverse >> 1), product.eq(((product + operand) >> 1)[:_SUM_BITS])]
        with m.If(phase.sum):
            m.d.sync += product.eq(0)
        return product[:_MEAN_BITS].as_signed()  # |mean2| <= 2**16 + 1

    def _rsqrt(self, m, square, squared, rsqrt):
        energy, dividend = Signal(_ENERGY_BITS, reset_less=True), Signal(DIVIDEND_BITS, reset_less=True)
        count = Signal(range(_TABLE))
        m.submodules.root = root = _ROOT.build()
        steps = [_ROOT.step(cycle) for cycle in range(-1, _ROOT.latency)]
        tables = {name: [step[name] for step in steps] for name in ("start", "clear", "shift", "add", "divide", "head")}
        tables["take"] = [0 <= cycle < _ENERGY_BITS for cycle in range(-1, _ROOT.latency)]
        tables["keep"] = [0] * len(steps) + [1]
        flags = {name: Signal(name=f"root_{name}", reset_less=True) for name in tables}
        for name, table in tables.items():
            bits = Const(sum(int(bit) << index for index, bit in enumerate(table)), _TABLE)
            m.d.sync += flags[name].eq(bits.bit_select(count, 1))
        m.d.sync += [count.eq(Mux(self.phase.root, count + 1, 0)), dividend.eq(self.dividend)]
        m.d.comb += [getattr(root.step, name).eq(flags[name]) for name in ("start", "clear", "shift", "add", "divide", "head")]
        m.d.comb += [root.step.bit.eq(flags["divide"] & dividend[-1]), root.radicand.eq(energy[-1])]
        with m.If(flags["divide"]):
            m.d.sync += dividend.eq(dividend << 1)
        with m.If(flags["keep"]):
            m.d.sync += rsqrt.eq(root.quotient)
        with m.If(flags["take"]):
            m.d.sync += energy.eq(energy << 1)
        with m.If(squared):
            m.d.sync += energy.eq((energy + square[: 2 * _CENTRED_BITS])[:_ENERGY_BITS])
        with m.If(self.phase.mean):
            m.d.sync += energy.eq(0)

    def _scale(self, m, normalized):
        """Times gamma, plus beta, shifted by fours and then by ones."""
        m.submodules.scale = scale = MultiplyAdd(self.technology, c_width=BETA_BITS)
        m.d.comb += [scale.a.eq(normalized), scale.b.eq(self.gamma), scale.c.eq(self.beta)]
        product = scale.p[:_SCALED_BITS].as_signed()
        width = _SCALED_BITS - _LEAST
        fours, ones = Signal(signed(width), reset_less=True), Signal(signed(width), reset_less=True)
        m.d.sync += [
            fours.eq(Array(field(product, _LEAST + 4 * places, width) for places in range(4))[self.fraction[2:]]),
            ones.eq(Array(field(fours, places, width) for places in range(4))[self.fraction[:2]]),
        ]
        m.d.comb += self.p.eq(saturated(m, self.technology, ones, signed(VALUE_BITS), name="saturated"))
