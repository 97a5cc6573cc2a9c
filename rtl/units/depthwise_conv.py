"""Depthwise convolution of 16 channels: nine taps of two output lines per cycle, then codes."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.tech.dsp48e2 import generic
from rtl.units.depthwise_channel import PLACES, SUM_BITS, DepthwiseChannel, DepthwiseChannelConfig
from rtl.units.depthwise_parameters import QUARTERS, ParameterBank, parameter_word
from rtl.units.depthwise_window import LINES, STEPS, TAPS, WINDOW_CONTROL, DepthwiseWindow
from rtl.units.protocol import delay, require

__all__ = ["PLACES", "DepthwiseConv", "DepthwiseConvConfig"]


@dataclass(frozen=True, kw_only=True)
class DepthwiseConvConfig:
    """
    Parameters
    ----------
    bits : activation precision, 4..8
    channels : side by side, a multiple of 4
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    build_channel : makes the channels out of their configuration, which may then be a module of its own, see `rtl.separate`
    """

    bits: int = 8
    channels: int = 16
    technology: object = generic
    build_channel: Callable[[DepthwiseChannelConfig], wiring.Component] = DepthwiseChannel

    def __post_init__(self) -> None:
        require(self.channels > 0 and self.channels % QUARTERS == 0, "channels must be a multiple of 4", self.channels, "use 16")
        assert self.channel.bits == self.bits  # checked there

    @property
    def channel(self) -> DepthwiseChannelConfig:
        return DepthwiseChannelConfig(bits=self.bits, technology=self.technology)

    @property
    def latency(self) -> int:
        """Cycles of the unit."""
        return DepthwiseConv.SUMS + self.channel.requantizer.latency

    def build(self) -> "DepthwiseConv":
        return DepthwiseConv(self)


class DepthwiseConv(wiring.Component):
    """codes = requantize_code(sum of weight * (code - 2 ** (bits - 1))), 16 channels of output lines y and y + 1 at once.

    Parameters
    ----------
    config : DepthwiseConvConfig

    Members
    -------
    kernel_5, stride_2, pad, hardswish, fraction, zero, low : static while results are on their way. ``pad`` : the source's zero point,
        the code of every pixel outside; ``zero``, ``low`` : the target's; ``fraction`` : Hardswish's, less 6
    shift, lines, control : see `DepthwiseWindow`. ``control.valid`` : of a step. Kernel 3 has one step per result; kernel 5 has three,
        0, 1, 2 in consecutive cycles, and ``shift`` comes with the first at most
    weights : In(9 x channels signed 8), in [-127, 127]; those of slot t in cycle 3 + PLACES[t]. Which tap: `tap_place`
    parameters : In(parameter_word(channels)): a sweep's four words; to serve the results of the steps from cycle c on, in c + 9 ... c + 12
    sums : Out({valid, 2 x channels signed 20}), cycle 13: before requantization
    o : Out({valid, codes: 2 x channels}), codes[line][channel]

    Timing
    ------
    A step per cycle, without a bubble where a sweep ends; parameters may change every 4 cycles. Of a result's last step, o follows
    ``control`` by ``latency`` = 13 + CodeRequantize's cycles. ``OFFSETS`` says when each port is sampled, counted from ``control``; of
    ``parameters`` the first word. Only ``valid`` bits are reset.

    Resources: 176 DSP48E2 for 16 channels: 144 for taps, 32 for requantizers.

    Source: model/efficientvit/interpreter.py, accumulators; model/efficientvit/integer.py, requantize_code.
    """

    SUMS = DepthwiseWindow.latency + DepthwiseChannel.SUMS
    OFFSETS = {"control": 0, "shift": 1, "lines": 1, "weights": DepthwiseWindow.latency, "parameters": SUMS - QUARTERS}

    def __init__(self, config: DepthwiseConvConfig):
        self.config, self.latency = config, config.latency
        bits, channels = config.bits, config.channels
        super().__init__(
            {
                **{name: In(1) for name in ("kernel_5", "stride_2", "hardswish", "low", "shift")},
                "fraction": In(3),
                "pad": In(bits),
                "zero": In(bits),
                "lines": In(data.ArrayLayout(data.ArrayLayout(bits, channels), LINES)),
                "control": In(WINDOW_CONTROL),
                "weights": In(data.ArrayLayout(data.ArrayLayout(signed(8), channels), TAPS)),
                "parameters": In(parameter_word(channels)),
                "sums": Out(data.StructLayout({"valid": 1, "sums": _pairs(signed(SUM_BITS), channels)})),
                "o": Out(data.StructLayout({"valid": 1, "codes": _pairs(bits, channels)})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.window = window = DepthwiseWindow(config.bits, config.channels)
        m.submodules.bank = bank = ParameterBank(config.channels, config.channel.requantizer.offsets)
        m.d.comb += bank.i.eq(self.parameters)
        for name in ("kernel_5", "stride_2", "pad", "shift", "lines", "control"):
            m.d.comb += getattr(window, name).eq(getattr(self, name))
        step = self.control.step
        last = self.control.valid & (~self.kernel_5 | (step == STEPS - 1))
        more = delay(m, self.kernel_5 & (step != 0), self.SUMS - 1, name="more")
        m.d.comb += self.sums.valid.eq(delay(m, last, self.SUMS, name="last", reset=True))
        m.d.comb += self.o.valid.eq(delay(m, self.sums.valid, self.latency - self.SUMS, name="valid", reset=True))
        for index in range(config.channels):
            m.submodules[f"channel_{index}"] = channel = config.build_channel(config.channel)
            m.d.comb += channel.more.eq(more)
            self._connect(m, index, channel, window, bank)
        return m

    def _connect(self, m, index, channel, window, bank):
        """As plain vectors, which is what a separate module has."""

        def bits(values):
            return Cat(Value.cast(value) for value in values)

        m.d.comb += [
            Value.cast(channel.x0).eq(Value.cast(window.x0[index])),
            Value.cast(channel.x1).eq(Value.cast(window.x1[index])),
            Value.cast(channel.weights).eq(bits(slot[index] for slot in self.weights)),
            Value.cast(channel.parameters).eq(Value.cast(bank.o[index])),
            *(getattr(channel, name).eq(getattr(self, name)) for name in ("hardswish", "fraction", "zero", "low")),
            bits(line[index] for line in self.sums.sums).eq(Value.cast(channel.sums)),
            bits(line[index] for line in self.o.codes).eq(Value.cast(channel.codes)),
        ]


def _pairs(shape, channels: int) -> data.ArrayLayout:
    """[output line][channel]"""
    return data.ArrayLayout(data.ArrayLayout(shape, channels), 2)
