"""The packed pair of DSP48E2 slices for operands that may be -128: `TapCascade`, the sibling of `rtl.tech.dsp48e2.PairCascade`.

Two pixels share a weight. The pre-adder forms x0 + 2^18 x1, 27 bits even where both are -128, so that the multiplier gives
w x0 + 2^18 w x1, and a cascade adds such words. The first slice adds 2^17 through its C port: the low lane then is never
negative, nothing is borrowed from the high one, and the low sum is bit 17 inverted above bits 16..0.
"""

from amaranth.hdl import Cat, Const, Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.tech.dsp48e2 import SLICE_LATENCY, cascade_latency, delay, generic
from rtl.tech.dsp_slice import MULTIPLY_PLUS_C, MULTIPLY_PLUS_PCIN, extend, multiplier

LANE_BITS = 18
#: Taps of one cascade: 8 * 128 * 127 = 130,048 still fits the low lane, 2^17 = 131,072.
TAP_LIMIT = 8


def tap_sum_width(taps):
    """Bits of a signed sum of `taps` products of [-128, 127] by [-127, 127]."""
    return (taps * 128 * 127).bit_length() + 1


class TapCascade(wiring.Component):
    """sum0 = sum of x0[k] w[k] with its sign bit inverted, sum1 = sum of x1[k] w[k]: one slice per tap.

    Parameters
    ----------
    taps : int, 1 to 8
    technology : `generic` or `ultrascale`

    Members
    -------
    x0, x1 : In(ArrayLayout(signed(8), taps))
    w : In(ArrayLayout(signed(8), taps)), values in [-127, 127]; w[k] comes k cycles after x0 and x1
    sum0, sum1 : Out(signed(18)); sum0 as the slice leaves it, for an adder that puts the sign right (`add_signed`)

    Timing
    ------
    Sums follow `latency` = taps + 3 cycles after x0 and x1. A word every cycle; it never stalls.

    Raises
    ------
    ValueError : more taps than the low lane can add.
    """

    def __init__(self, taps, technology=generic):
        if not 1 <= taps <= TAP_LIMIT:
            raise ValueError(f"a cascade adds 1 to {TAP_LIMIT} taps: got {taps}; add several in fabric")
        self.taps, self.technology = taps, technology
        operand, total = In(data.ArrayLayout(signed(8), taps)), Out(signed(LANE_BITS))
        super().__init__({"x0": operand, "x1": operand, "w": operand, "sum0": total, "sum1": total})

    @property
    def latency(self):
        return cascade_latency(self.taps)

    def elaborate(self, platform):
        m = Module()
        (self._slices if self.technology.name == "ultrascale" else self._plain)(m)
        return m

    def _plain(self, m):
        """Adds as the slices do, tap k in cycle k; the pipeline of the last slice is a delay of the result."""
        for x, total, flip in ((self.x0, self.sum0, -1 << LANE_BITS - 1), (self.x1, self.sum1, 0)):
            exact = Const(0, signed(1))
            for k in range(self.taps):
                exact = extend(m, delay(m, exact, 1) + delay(m, x[k], k) * self.w[k], len(total))
            m.d.comb += total.eq((delay(m, exact, SLICE_LATENCY) ^ flip)[:LANE_BITS])

    def _slices(self, m):
        """Tap k works k cycles late: its pixels wait in shift registers, one cycle of x0's in the slice (A1)."""
        p = pcin = Const(0, 48)
        for k in range(self.taps):
            in_slice = min(k, 1)
            first = {"opmode": MULTIPLY_PLUS_C, "c": Const(1 << (LANE_BITS - 1), signed(48))}
            p, pcin = multiplier(
                m,
                f"dsp{k}",
                a=delay(m, self.x0[k], k - in_slice),
                a_registers=1 + in_slice,
                d=Cat(Const(0, LANE_BITS), delay(m, self.x1[k], k)).as_signed(),
                b=self.w[k],
                **(first if k == 0 else {"opmode": MULTIPLY_PLUS_PCIN, "pcin": pcin}),
            )
        m.d.comb += [self.sum0.eq(p[:LANE_BITS].as_signed()), self.sum1.eq(p[LANE_BITS : 2 * LANE_BITS].as_signed())]
