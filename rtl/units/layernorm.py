"""Integer LayerNorm: statistics of each token while its residuals are written, normalisation while they are read.

`LayerNormStatistics` and `LayerNormNormalize` together are `model.integer.layernorm`.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from model import integer
from rtl.tech.dsp48e2 import MultiplyAdd, generic
from rtl.units.layernorm_statistics import MEAN2_BITS, LayerNormStatistics, LayerNormStatisticsConfig
from rtl.units.protocol import delay, require, saturated

__all__ = ["LayerNormNormalize", "LayerNormNormalizeConfig", "LayerNormStatistics", "LayerNormStatisticsConfig"]

GAMMA_BITS = BETA_BITS = 16
NORMALIZED_BITS = 18
#: 2x - mean2: |2x| <= 2**16, and |mean2| <= 2**16 + 1.
CENTRED_BITS = 18
#: Of centred * rsqrt + half and of normalized * gamma + (beta << 14) + half.
_PRODUCT_BITS, _SCALED_BITS = CENTRED_BITS + integer.RSQRT_BITS, NORMALIZED_BITS + GAMMA_BITS + 1
_FRACTION = integer.NORMALIZED_FRACTION + integer.GAMMA_FRACTION
_BETA_SHIFT = _FRACTION - integer.BETA_FRACTION


@dataclass(frozen=True, kw_only=True)
class LayerNormNormalizeConfig:
    """
    Parameters
    ----------
    bits : activation precision, 1..8
    choices : memories of which one holds the residual
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    """

    bits: int = 8
    choices: int = 3
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")

    def build(self) -> LayerNormNormalize:
        return LayerNormNormalize(self)


class LayerNormNormalize(wiring.Component):
    """Residual -> activation: (2x - mean2) * rsqrt * gamma + beta, in two DSPs.

    Parameters
    ----------
    config : LayerNormNormalizeConfig

    Members
    -------
    i : In(stream of select), cycle 0        residual : In(signed 16).array(choices), cycle 0
    minus_mean2 : In(signed 18), cycle 0
    rsqrt : In(unsigned 26), cycle 1
    gamma : In(signed 16), cycle 7
    beta : In(signed 16), cycle 7
    o : Out(stream of unsigned ``bits``)

    Timing
    ------
    A value per cycle; o follows i by ``latency`` = 13 cycles. ``OFFSETS`` gives the cycle in which each port is sampled;
    minus_mean2 and rsqrt are as `LayerNormStatistics` gives them for a ``pass_index`` presented with i::

        cycle    0          1..5           5, 6       7..11          11, 12     13
                 centre     times rsqrt    saturate   times gamma    saturate   o

    Only ``valid`` is reset.

    Raises
    ------
    InputError : bits out of range.

    Resources, bits = 8, 3 choices, yosys, before place-and-route: 36 LUT, 123 FF, 2 DSP48E2; at most 2 LUT levels, 1.5 ns in our
    model.

    Source: model/integer.py, layernorm.
    """

    OFFSETS = {"minus_mean2": 0, "rsqrt": 1, "gamma": MultiplyAdd.latency + 3, "beta": MultiplyAdd.latency + 3}
    latency = 2 * MultiplyAdd.latency + 5

    def __init__(self, config: LayerNormNormalizeConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(max(1, ceil_log2(config.choices)), always_ready=True)),
                "residual": In(signed(integer.RESIDUAL_BITS)).array(config.choices),
                "minus_mean2": In(signed(MEAN2_BITS)),
                "rsqrt": In(integer.RSQRT_BITS),
                "gamma": In(signed(GAMMA_BITS)),
                "beta": In(signed(BETA_BITS)),
                "o": Out(stream.Signature(unsigned(config.bits), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.normalize = normalize = MultiplyAdd(self.config.technology, c_width=integer.NORMALIZE_SHIFT + 1)
        m.submodules.scale = scale = MultiplyAdd(self.config.technology, c_width=BETA_BITS + 1 + _BETA_SHIFT)
        centred = Signal(signed(CENTRED_BITS), reset_less=True)
        normalized = Signal(signed(NORMALIZED_BITS))
        doubled = [(self.residual[index] << 1).as_signed() for index in range(self.config.choices)]
        m.d.sync += centred.eq(self.config.technology.add_selected(m, self.minus_mean2, doubled, self.i.payload, CENTRED_BITS))

        m.d.comb += [
            normalize.a.eq(self.rsqrt),
            normalize.b.eq(centred),
            normalize.c.eq(1 << (integer.NORMALIZE_SHIFT - 1)),
        ]
        quotient = normalize.p[integer.NORMALIZE_SHIFT : _PRODUCT_BITS]
        m.d.comb += normalized.eq(saturated(m, self.config.technology, quotient, signed(NORMALIZED_BITS), name="normalized"))

        half = 1 << (_FRACTION - 1 - _BETA_SHIFT)
        m.d.comb += [
            scale.a.eq(normalized),
            scale.b.eq(self.gamma),
            scale.c.eq((self.beta + half) << _BETA_SHIFT),
        ]
        scaled = scale.p[_FRACTION:_SCALED_BITS]
        m.d.comb += self.o.payload.eq(saturated(m, self.config.technology, scaled, unsigned(self.config.bits), name="scaled"))
        m.d.comb += self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True))
        return m
