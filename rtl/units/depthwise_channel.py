"""One channel of a depthwise convolution: nine taps of two output lines per cycle, summed and requantized."""

from dataclasses import dataclass

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.tech.dsp48e2 import cascade_latency, generic
from rtl.tech.tap_cascade import TapCascade, tap_sum_width
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.depthwise_parameters import CHANNEL_PARAMETERS
from rtl.units.depthwise_window import TAPS
from rtl.units.protocol import delay, require

#: Taps of the two cascades: at most 8 fit the slices' 18-bit lanes, and 5 + 4 wait least for each other.
CASCADES = (5, 4)
#: The place of each slot in its cascade: its weight comes so many cycles late.
PLACES = tuple(place for taps in CASCADES for place in range(taps))
#: 25 taps of at most 128 * 127: |sum| <= 406,400 < 2**19.
SUM_BITS = tap_sum_width(25)
#: Taps of one step.
_STEP_BITS = tap_sum_width(TAPS)


@dataclass(frozen=True, kw_only=True)
class DepthwiseChannelConfig:
    """
    Parameters
    ----------
    bits : activation precision, 4..8
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    """

    bits: int = 8
    technology: object = generic

    def __post_init__(self) -> None:
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")

    @property
    def requantizer(self) -> CodeRequantizeConfig:
        """A slice for the first stage, LUTs for Hardswish's."""
        return CodeRequantizeConfig(bits=self.bits, technology=self.technology, first="dsp", second="lut", shortcut=False)

    def build(self) -> "DepthwiseChannel":
        return DepthwiseChannel(self)


def channel_members(config: DepthwiseChannelConfig) -> dict[str, wiring.Member]:
    """Members of the unit, for whoever instantiates it by name."""
    pixels = In(data.ArrayLayout(signed(config.bits), TAPS))
    return {
        "x0": pixels,
        "x1": pixels,
        "weights": In(data.ArrayLayout(signed(8), TAPS)),
        "more": In(1),
        "parameters": In(CHANNEL_PARAMETERS),
        "hardswish": In(1),
        "fraction": In(3),
        "zero": In(8),
        "low": In(1),
        "sums": Out(data.ArrayLayout(signed(SUM_BITS), 2)),
        "codes": Out(data.ArrayLayout(config.bits, 2)),
    }


class DepthwiseChannel(wiring.Component):
    """Two sums of weight * pixel, and their codes.

    Parameters
    ----------
    config : DepthwiseChannelConfig

    Members
    -------
    x0, x1 : In(9 x signed bits), cycle 0: pixels of output lines 0 and 1        weights : In(9 x signed 8); slot t's in cycle PLACES[t]
    more : In(1), cycle ``SUMS`` - 1: the slots' sum is added to the last one, else to 0
    parameters : In(CHANNEL_PARAMETERS), each field in cycle ``SUMS`` + the requantizer's offset
    hardswish, fraction, zero, low : static
    sums : Out(2 x signed 20), cycle ``SUMS``        codes : Out(2 x bits), cycle ``latency``

    Timing
    ------
    A step per cycle. ``SUMS`` = 10: cascade of five, their sum, accumulator. ``latency`` = 10 + CodeRequantize's. Nothing is reset.

    Resources, bits = 8, yosys, before place-and-route: 972 LUT, 1,715 FF, 11 DSP48E2, 9 of them for taps; at most 2 LUT levels and a carry.
    """

    SUMS = cascade_latency(CASCADES[0]) + 2

    def __init__(self, config: DepthwiseChannelConfig):
        self.config = config
        super().__init__(channel_members(config))

    @property
    def latency(self) -> int:
        return self.SUMS + self.config.requantizer.latency

    def elaborate(self, platform):
        m = Module()
        technology, terms, first = self.config.technology, ([], []), 0
        for taps in CASCADES:
            m.submodules[f"taps_{first}"] = cascade = TapCascade(taps, technology)
            for k in range(taps):
                operands = (cascade.x0[k], self.x0), (cascade.x1[k], self.x1), (cascade.w[k], self.weights)
                m.d.comb += [port.eq(values[first + k]) for port, values in operands]
            for line, total in enumerate((cascade.sum0, cascade.sum1)):
                terms[line].append((delay(m, total, CASCADES[0] - taps, name=f"cascade_{first}_{line}"), line == 0))
            first += taps
        for line in range(2):
            step = Signal(signed(_STEP_BITS), name=f"step_{line}", reset_less=True)
            total = Signal(signed(SUM_BITS), name=f"total_{line}", reset_less=True)
            m.d.sync += [
                step.eq(technology.add_signed(m, terms[line], _STEP_BITS)),
                total.eq(technology.add_gated(m, step, total, self.more, SUM_BITS)),
            ]
            m.d.comb += self.sums[line].eq(total)
            self._requantize(m, line)
        return m

    def _requantize(self, m, line):
        """``valid`` is the caller's to delay."""
        m.submodules[f"requantize_{line}"] = unit = self.config.requantizer.build()
        m.d.comb += [
            unit.i_accumulator.payload.eq(self.sums[line]),
            *(getattr(unit, name).eq(self.parameters[name]) for name, _ in CHANNEL_PARAMETERS),
            *(getattr(unit, name).eq(getattr(self, name)) for name in ("hardswish", "fraction", "zero", "low")),
            self.codes[line].eq(unit.o.payload),
        ]


def channel_cost(bits: int) -> Cost:
    """Of a `DepthwiseChannel`: nine slices for the taps and two for the requantizers."""
    return Cost(dsp=TAPS + 2, priced_lut={"constant": 1, "bits": bits}, priced_ff={"constant": 1, "bits": bits})
