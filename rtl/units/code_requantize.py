"""Accumulator -> activation code: `model.efficientvit.integer.requantize_code`, a value per cycle."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from model.efficientvit.integer import RESULT_FRACTION, SHORTCUT_FRACTION
from rtl.tech.dsp48e2 import MultiplyAdd, generic
from rtl.tech.lut_arithmetic import MULTIPLIERS, LutMultiplyAdd
from rtl.units import code_quotient
from rtl.units.code_output import ZERO_BITS, CodeOutput, field
from rtl.units.hardswish import FRACTION_BITS, Hardswish, HardswishConfig
from rtl.units.protocol import delay, require

SHIFTS = integer.REQUANTIZE_SHIFTS
STAGE_BITS = integer.RESIDUAL_BITS
#: hardswish + bias; a shortcut's code less its zero point.
SUM_BITS, SHORTCUT_BITS = STAGE_BITS + 1, 9
#: Without Hardswish the result passes in units of 2**-12, the least shift: multiplied by this, or added.
PASS = SHIFTS[0]
#: A shortcut's product, of 12 fraction bits, in units of a result (6) and that shift.
SHORTCUT_PLACES = RESULT_FRACTION + PASS - SHORTCUT_FRACTION
LUT_ACCUMULATOR_BITS = 22


def product_bits(sum_bits: int) -> int:
    """Signed sum times unsigned multiplier, plus half of the largest shift."""
    return ((1 << (sum_bits - 1)) * ((1 << integer.MULTIPLIER_BITS) - 1) + (1 << (SHIFTS[-1] - 1))).bit_length() + 1


def multiplier(kind: str, technology: object, *, sum_bits: int, c_bits: int) -> wiring.Component:
    """(a + d) * b + c of a signed sum and an unsigned multiplier."""
    if kind == "dsp":
        return MultiplyAdd(technology, c_width=c_bits)
    return LutMultiplyAdd(technology, sum_bits=sum_bits, b_bits=integer.MULTIPLIER_BITS, c_bits=c_bits)


@dataclass(frozen=True, kw_only=True)
class CodeRequantizeConfig:
    """
    Parameters
    ----------
    bits : of a code, 4..8
    technology : see `rtl.tech.dsp48e2`
    first, second : what the multipliers are made of, "dsp" or "lut"
    shortcut : whether a shortcut can be added
    quotient : None; or "log2": dividends can be divided by a power of two
    accumulator_bits : of the accumulator and of accumulator + bias; at most 22 for a first multiplier of LUTs
    """

    bits: int = 8
    technology: object = generic
    first: str = "dsp"
    second: str = "dsp"
    shortcut: bool = True
    quotient: str | None = None
    accumulator_bits: int = integer.ACCUMULATOR_BITS

    def __post_init__(self) -> None:
        most = integer.ACCUMULATOR_BITS if self.first == "dsp" else LUT_ACCUMULATOR_BITS
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")
        for kind in (self.first, self.second):
            require(kind in MULTIPLIERS, f"a multiplier must be one of {', '.join(MULTIPLIERS)}", repr(kind), "choose one of them")
        require(self.quotient in (None, "log2"), "quotient must be None or 'log2'", repr(self.quotient), "others are not done yet")
        require(
            self.quotient is None or (self.first, self.second) == ("dsp", "dsp"),
            "a quotient needs two multipliers of kind dsp",
            f"{self.first}, {self.second}",
            "choose dsp for both",
        )
        require(2 <= self.accumulator_bits <= most, f"accumulator_bits must be 2..{most}", self.accumulator_bits, "choose fewer")

    @property
    def second_cycle(self) -> int:
        """The cycle of the second multiplier's parameters."""
        return self.multiplier_latency(self.first) + 2 + Hardswish.latency

    @property
    def output_cycle(self) -> int:
        """The cycle in which the second product is there."""
        return self.second_cycle + 1 + self.multiplier_latency(self.second)

    @staticmethod
    def multiplier_latency(kind: str) -> int:
        return MultiplyAdd.latency if kind == "dsp" else LutMultiplyAdd.latency_of(integer.MULTIPLIER_BITS)

    @property
    def offsets(self) -> dict[str, int]:
        """The cycle in which each port is sampled."""
        hardswish, second, output = self.second_cycle - Hardswish.latency, self.second_cycle, self.output_cycle
        found = {"bias": 0, "multiplier": 0, "shift": 0, "hardswish": hardswish, "fraction": hardswish}
        found |= {"second_bias": second, "second_multiplier": second, "second_shift": second}
        if self.shortcut:
            found |= {"shortcut_enable": second, "shortcut": second}
        if self.quotient:
            found |= {"quotient": 0, "exponent": second}
        return found | {name: output + CodeOutput.OFFSETS[name] for name in ("zero", "low")}

    @property
    def latency(self) -> int:
        return self.output_cycle + CodeOutput.latency

    def build(self) -> CodeRequantize:
        return CodeRequantize(self)


class CodeRequantize(wiring.Component):
    """Rescaling, Hardswish with its own rescaling or a shortcut, zero point, saturation; or a quotient. No codes of 16 bits.

    p = saturate16(round_shift((accumulator + bias) * multiplier, shift))
    hardswish: p = saturate16(round_shift((hardswish(p) + second_bias) * second_multiplier, second_shift))
    code = saturate(round_shift((p << 6) + shortcut * second_multiplier, 12) + zero)
    quotient: code = saturate(round_shift(accumulator * multiplier, shift + exponent) + zero)

    Parameters
    ----------
    config : CodeRequantizeConfig

    Members
    -------
    i_accumulator : In(stream of signed accumulator_bits)
    bias : In(signed accumulator_bits); 0 for a quotient. accumulator + bias must fit as well (lowering proves it)
    multiplier : In(unsigned 16)
    shift : In(2): index into `model.integer.REQUANTIZE_SHIFTS`
    hardswish, fraction : In(1), In(3): whether, and K - 6. Not with shortcut_enable, nor with quotient
    second_bias, second_multiplier, second_shift : In(signed 16), In(unsigned 16), In(2): of Hardswish, ignored without
    shortcut_enable, shortcut : In(1), In(signed 9): code less zero point; second_multiplier has 12 fraction bits. Not with quotient
    quotient, exponent : In(1), In(4): the accumulator is a dividend
    zero : In(unsigned 8)
    low : In(1): the lower limit; the upper one is 2**bits - 1
    o : Out(stream of unsigned ``bits``)

    Ports that the configuration has no use for are missing: shortcut*, quotient, exponent.

    Timing
    ------
    A value per cycle; o follows i_accumulator by ``latency`` cycles. ``OFFSETS`` gives the cycle in which each port is sampled. With M = 4
    for a multiplier of kind dsp, 10 for one of LUTs (M1 the first, M2 the second)::

        0          M1      M1+1       M1+2        M1+8      M1+9      M1+9+M2                     M1+M2+13
        operands   shift   saturate   hardswish   operands  multiply  shift, zero, range, select  o

    latency = M1 + M2 + 13: 21 with two slices. Only ``valid`` is reset.

    Resources, bits = 8, yosys, before place-and-route: 236 LUT, 391 FF, 2 DSP48E2; with quotients 308 LUT; with multipliers of LUTs, 22
    bits and no shortcut, 704 LUT, 1401 FF. At most 2 LUT levels and a carry chain, 1.7 ns in our model.

    How two kinds of result share the second multiplier: Hardswish's is (h + bias) * multiplier + half; else shortcut * multiplier + p,
    both scaled so that the least shift suits them. A quotient is rounded once: the product above ``shift``, floor, times 2**(16 -
    exponent), and the bit below, which counts where the exponent is 0.

    Raises
    ------
    InputError : see `CodeRequantizeConfig`

    Source: model/efficientvit/integer.py, requantize_code and divide.
    """

    def __init__(self, config: CodeRequantizeConfig):
        self.config, self.OFFSETS, self.latency = config, config.offsets, config.latency
        sum_shape = signed(config.accumulator_bits)
        shapes = {"bias": sum_shape, "multiplier": integer.MULTIPLIER_BITS, "shift": 2, "hardswish": 1, "fraction": FRACTION_BITS}
        shapes |= {"second_bias": signed(STAGE_BITS), "second_multiplier": integer.MULTIPLIER_BITS, "second_shift": 2}
        shapes |= {"shortcut_enable": 1, "shortcut": signed(SHORTCUT_BITS), "quotient": 1, "exponent": code_quotient.EXPONENT_BITS}
        shapes |= {"zero": ZERO_BITS, "low": 1}
        super().__init__(
            {
                "i_accumulator": In(stream.Signature(sum_shape, always_ready=True)),
                **{name: In(shapes[name]) for name in self.OFFSETS},
                "o": Out(stream.Signature(config.bits, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, technology = self.config, self.config.technology
        m.submodules.first = first = multiplier(config.first, technology, sum_bits=config.accumulator_bits, c_bits=SHIFTS[-1] + 1)
        m.submodules.hardswish = curve = HardswishConfig(technology=technology).build()
        dividing = self.quotient if config.quotient else Const(0, 1)
        m.d.comb += [
            first.a.eq(self.i_accumulator.payload),
            first.d.eq(self.bias),
            first.b.eq(self.multiplier),
            # a quotient is rounded at its end
            *(first.c[shift - 1].eq((self.shift == code) & ~dividing) for code, shift in enumerate(SHIFTS)),
        ]
        product = field(first.p, 0, product_bits(config.accumulator_bits)).as_signed()
        code, divided = delay(m, self.shift, first.latency, name="shift"), delay(m, dividing, first.latency, name="dividing")
        m.d.comb += [
            curve.i.payload.eq(self._saturated(m, product, code, divided)),
            curve.enable.eq(self.hardswish),
            curve.fraction.eq(self.fraction),
        ]

        curved = delay(m, self.hardswish, curve.latency - 1, name="curved")
        divided = delay(m, divided, 1 + curve.latency, name="divided")
        kept = Signal(reset_less=True)  # its own register: it clears many
        m.d.sync += kept.eq(curved | divided)
        curved, divided = delay(m, curved, 1, name="last_curved"), delay(m, divided, 1, name="last_divided")
        shift = Signal(2, name="second_code", reset_less=True)
        m.d.sync += shift.eq(Mux(curved, self.second_shift, 0))
        terms = self._terms(m, curve.o.payload, curved, divided, kept, shift)
        if config.quotient:
            upper, half = code_quotient.above(m, product, code, 1 + curve.latency)
            terms |= code_quotient.terms(m, terms, upper, half, divided, self.exponent)
        m.submodules.second = second = multiplier(config.second, technology, sum_bits=SUM_BITS, c_bits=len(terms["c"]))
        m.d.comb += [getattr(second, port).eq(value) for port, value in terms.items()]
        self._output(m, second, delay(m, shift, second.latency, name="second_shift"), divided)
        return m

    def _saturated(self, m, product, code, divided):
        """The product above the shift in 16 bits, two cycles later; saturated, unless it is a quotient's."""
        sign, edges = product[-1], [shift + STAGE_BITS - 1 for shift in SHIFTS]
        shifted, same = Signal(STAGE_BITS, reset_less=True), Signal(len(SHIFTS), reset_less=True)
        for index, (low, high) in enumerate(zip(edges, [*edges[1:], len(product)], strict=True)):
            group = field(product, low, max(high - low, 1))
            m.d.sync += same[index].eq((group == sign.replicate(len(group))) | divided)
        m.d.sync += shifted.eq(Array(field(product, shift, STAGE_BITS) for shift in SHIFTS)[code])
        code, sign = delay(m, code, 1, name="saturated_code"), delay(m, sign, 1, name="saturated_sign")
        fits, p = Array(same[index:].all() for index in range(len(SHIFTS)))[code], Signal(signed(STAGE_BITS), reset_less=True)
        m.d.sync += p.eq(Mux(fits, shifted, Cat((~sign).replicate(STAGE_BITS - 1), sign)))
        return p

    def _terms(self, m, h, curved, divided, kept, shift):
        """Operands of the second multiplier, a cycle later; without Hardswish h is p."""
        bias, a, used = Signal(signed(STAGE_BITS), reset_less=True), Signal(signed(STAGE_BITS), reset_less=True), Signal(reset_less=True)
        b = Signal(integer.MULTIPLIER_BITS, reset_less=True)
        m.d.sync += [used.eq(curved), bias.eq(Mux(curved, self.second_bias, 0))]
        halves = [used & (shift == SHIFTS.index(place + 1)) if place + 1 in SHIFTS else Const(0, 1) for place in range(SHIFTS[-1])]
        halves = Cat(*halves, Const(0, 1)).as_signed()
        if not self.config.shortcut:
            m.d.sync += [a.eq(h), b.eq(Mux(curved, self.second_multiplier, Mux(divided, 0, 1 << PASS)))]
            return {"a": a, "d": bias, "b": b, "c": halves}
        shortcut, passed = Signal(signed(SHORTCUT_BITS), reset_less=True), Signal(signed(STAGE_BITS), reset_less=True)
        m.d.sync += [
            a.eq(Mux(kept, h, 0)),
            passed.eq(Mux(kept, 0, h)),
            shortcut.eq(Mux(self.shortcut_enable, self.shortcut, 0)),
            b.eq(Mux(divided, 0, self.second_multiplier)),
        ]
        # of each pair at least one is 0
        return {"a": a, "d": bias | (shortcut << SHORTCUT_PLACES), "b": b, "c": (passed << PASS) | halves}

    def _output(self, m, second, shift, divided):
        config = self.config
        bits = product_bits(SUM_BITS)
        if config.quotient:
            bits = max(bits, code_quotient.PRODUCT_BITS)
        m.submodules.output = output = CodeOutput(config.bits, config.technology, product_bits=bits, quotient=config.quotient is not None)
        m.d.comb += [
            output.product.eq(field(second.p, 0, bits).as_signed()),
            output.shift.eq(shift),
            output.quotient.eq(delay(m, divided, second.latency + 1 + output.OFFSETS["quotient"], name="output_divided")),
            output.zero.eq(self.zero),
            output.low.eq(self.low),
            self.o.payload.eq(output.o),
            self.o.valid.eq(delay(m, self.i_accumulator.valid, self.latency, name="valid", reset=True)),
        ]
