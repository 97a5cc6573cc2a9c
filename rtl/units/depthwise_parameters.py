"""The requantizers' constants of the 16 channels of a sweep, changed between two results without a bubble."""

from amaranth.hdl import Const, Module, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.units.protocol import delay

#: One channel's: bias, multiplier and shift of the first stage, then of Hardswish's.
CHANNEL_PARAMETERS = data.StructLayout(
    {
        "bias": Shape.cast(range(-(1 << integer.BIAS_BITS - 1), 1 << integer.BIAS_BITS - 1)),
        "multiplier": integer.MULTIPLIER_BITS,
        "shift": 2,
        "second_bias": Shape.cast(range(-(1 << 15), 1 << 15)),
        "second_multiplier": integer.MULTIPLIER_BITS,
        "second_shift": 2,
    }
)
#: Words that make up a sweep's parameters, each of a quarter of the channels. No sweep takes fewer cycles: a line has 4 pixels or more.
QUARTERS = 4


def parameter_word(channels: int) -> data.StructLayout:
    """Channels quarter * channels / 4 + k, of word[k]."""
    return data.StructLayout({"valid": 1, "quarter": 2, "word": data.ArrayLayout(CHANNEL_PARAMETERS, channels // QUARTERS)})


class ParameterBank(wiring.Component):
    """Takes four words in consecutive cycles, then shows all channels' parameters until the next four are complete.

    Parameters
    ----------
    channels : a multiple of 4
    offsets : field of CHANNEL_PARAMETERS -> the cycle, counted from that of the accumulator, in which the requantizer samples it

    Members
    -------
    i : In(parameter_word(channels)), in cycle ``quarter``
    o : Out(channels x CHANNEL_PARAMETERS): field f holds the new values from cycle ``latency`` + offsets[f] on

    Timing
    ------
    New parameters every 4 cycles or more; each field follows by ``latency`` = 4 cycles and its offset. Only ``valid`` is reset.
    """

    latency = QUARTERS

    def __init__(self, channels: int, offsets: dict[str, int]):
        self.offsets = {name: offsets[name] for name, _ in CHANNEL_PARAMETERS}
        super().__init__({"i": In(parameter_word(channels)), "o": Out(data.ArrayLayout(CHANNEL_PARAMETERS, channels))})

    def elaborate(self, platform):
        m = Module()
        valid, quarter, now = self.i.valid, self.i.quarter, 0
        for offset in sorted(set(self.offsets.values())):
            valid = delay(m, valid, offset - now, name=f"valid_{now}", reset=True)
            quarter = delay(m, quarter, offset - now, name=f"quarter_{now}")
            now = offset
            for name in (name for name, cycles in self.offsets.items() if cycles == offset):
                self._hold(m, name, valid, quarter, offset)
        return m

    def _hold(self, m, name, valid, quarter, offset):
        """The first three words wait for the fourth, and all channels change in the same cycle."""
        word = [delay(m, part[name], offset, name=f"{name}_{index}") for index, part in enumerate(self.i.word)]
        waiting = [Signal.like(part, name=f"{name}_waiting", reset_less=True) for part in word * (QUARTERS - 1)]
        shown = [Signal.like(part, name=f"{name}_shown", reset_less=True) for part in word * QUARTERS]
        for index in range(QUARTERS - 1):
            with m.If(valid & (quarter == Const(index, 2))):
                m.d.sync += [held.eq(part) for held, part in zip(waiting[index * len(word) :], word, strict=False)]
        with m.If(valid & (quarter == QUARTERS - 1)):
            m.d.sync += [new.eq(old) for new, old in zip(shown, [*waiting, *word], strict=True)]
        m.d.comb += [channel[name].eq(held) for channel, held in zip(self.o, shown, strict=True)]
