"""`ExactReciprocal` and `ExactQuotient` by Amaranth's simulator: what a row will do with them, against `divide`; and the 8-bit step."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from model.efficientvit.graph import Divisor, Scale
from model.efficientvit.integer import DIVISOR_KINDS, divide
from model.integer import ATTENTION_SHIFT, REQUANTIZE_SHIFTS, choose_multiplier, requantize, saturate, unsigned
from rtl.errors import InputError
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.eight_bit_divisor import EightBitDivisor
from rtl.units.exact_quotient import ExactQuotient, ExactQuotientConfig
from rtl.units.exact_reciprocal import ExactReciprocal, ExactReciprocalConfig
from rtl.units.log2_exponent import Log2Exponent, Log2ExponentConfig

#: Of Q s and Q S: 32 products of codes.
LARGEST = 32 * 127 * 127
ZERO = 128


def run(units: list, bench) -> None:
    top = Module()
    top.submodules += units
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def scale(kind: str, ratio: float, low: int = 0) -> Scale:
    """Quotients are about ``ratio`` x dividend / divisor."""
    nothing = np.zeros(1, dtype=np.int64)
    multiplier, shift = choose_multiplier(255 / LARGEST) if kind in ("log2_8bit", "uniform") else (0, 0)
    ratio *= multiplier / 2.0**shift if multiplier else 1
    output = choose_multiplier(ratio / 2**low) if kind.startswith("log2") else (round(ratio * (1 << ATTENTION_SHIFT)), 0)
    return Scale(
        source="", state_multiplier=nothing, state_shift=nothing, sum_multiplier=nothing, sum_shift=nothing,
        divisor=Divisor(kind=kind, low=low, multiplier=multiplier, shift=shift), output_multiplier=output[0], output_shift=output[1],
    )  # fmt: skip


class Stages:
    """The units of one kind of divisor: a divisor serially to what a row keeps of it, then dividends by that, one per cycle."""

    def __init__(self, rule: Scale):
        self.rule, self.kind = rule, rule.divisor.kind
        self.logarithmic = self.kind.startswith("log2")
        self.eight = EightBitDivisor() if self.kind == "log2_8bit" else None
        self.keep = Log2ExponentConfig().build() if self.logarithmic else ExactReciprocalConfig(kind=self.kind).build()
        self.quotient = CodeRequantizeConfig(quotient="log2").build() if self.logarithmic else ExactQuotientConfig().build()
        self.units = [self.keep, self.quotient] + [self.eight] * (self.eight is not None)
        self.entry = self.eight or self.keep

    def static(self, ctx) -> None:
        """What does not change within a scale; the quotient's zero point and limits."""
        rule, divisor = self.rule, self.rule.divisor
        for unit in self.units:
            for name, value in {
                "low": 0 if unit is self.quotient else divisor.low, "zero": ZERO, "quotient": 1, "multiplier": divisor.multiplier,
                "shift": REQUANTIZE_SHIFTS.index(divisor.shift) if divisor.shift else 0,
            }.items():  # fmt: skip
                if name in unit.signature.members:
                    ctx.set(getattr(unit, name), value)
        if self.logarithmic:
            ctx.set(self.quotient.multiplier, rule.output_multiplier)
            ctx.set(self.quotient.shift, REQUANTIZE_SHIFTS.index(rule.output_shift))
        else:
            ctx.set(self.keep.output_multiplier, rule.output_multiplier)

    async def kept(self, ctx, divisor: int) -> int:
        """What the row keeps of a divisor."""
        ctx.set(self.entry.i.payload, divisor)
        ctx.set(self.entry.i.valid, 1)
        await ctx.tick()
        ctx.set(self.entry.i.valid, 0)
        if self.eight is not None:
            (narrow,) = await ctx.tick().sample(self.eight.o.payload).until(self.eight.o.valid)
            ctx.set(self.keep.i.payload, narrow)
            ctx.set(self.keep.i.valid, 1)
            await ctx.tick()
            ctx.set(self.keep.i.valid, 0)
        (found,) = await ctx.tick().sample(self.keep.o.payload).until(self.keep.o.valid)
        return found

    async def divided(self, ctx, dividends: list[int], kept: list[int]) -> list[int]:
        """Codes of one dividend per cycle, each with what is kept of its divisor."""
        if self.logarithmic:
            ports, offsets = {"exponent": kept}, self.quotient.OFFSETS
            entry = self.quotient.i_accumulator
        else:
            ports = {"reciprocal_low": [k & 0xFFFF for k in kept], "reciprocal_high": [k >> 16 for k in kept]}
            offsets, entry = self.quotient.OFFSETS, self.quotient.i
        found = []
        for cycle in range(len(dividends) + self.quotient.latency):
            ctx.set(entry.valid, cycle < len(dividends))
            if cycle < len(dividends):
                ctx.set(entry.payload, dividends[cycle])
            for name, values in ports.items():
                if 0 <= cycle - offsets[name] < len(values):
                    ctx.set(getattr(self.quotient, name), values[cycle - offsets[name]])
            assert ctx.get(self.quotient.o.valid) == (cycle >= self.quotient.latency)
            if cycle >= self.quotient.latency:
                found.append(ctx.get(self.quotient.o.payload))
            await ctx.tick()
        return found


@pytest.mark.parametrize("ratio", [100.0, 1.3])
@pytest.mark.parametrize("kind", DIVISOR_KINDS)
def test_quotients_of_every_kind(kind: str, ratio: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rule = scale(kind, ratio, low=4 if kind == "log2" else 0)
    ends = [0, 1, 2, 3, 255, 256, LARGEST - 1, LARGEST]
    divisors = np.array([*ends, *(rng.integers(0, LARGEST + 1, 40) >> rng.integers(0, 20, 40))])
    stages = Stages(rule)
    which = rng.integers(0, len(divisors), 1500)
    wide = rng.random(1500) < 0.2  # elsewhere the quotient is a code
    near = divisors[which] * rng.uniform(-150, 150, 1500) / ratio
    dividends = np.where(wide, rng.integers(-LARGEST, LARGEST + 1, 1500), np.clip(near, -LARGEST, LARGEST).astype(np.int64))
    expected = saturate(divide(dividends, divisors[which], rule) + ZERO, unsigned(8))
    assert len(set(expected.tolist())) > 50
    got = []

    async def bench(ctx) -> None:
        stages.static(ctx)
        kept = [await stages.kept(ctx, int(divisor)) for divisor in divisors]
        got.extend(await stages.divided(ctx, dividends.tolist(), [kept[index] for index in which]))

    run(stages.units, bench)
    wrong = np.flatnonzero(np.array(got) != expected)
    assert wrong.size == 0, f"{wrong.size} of {expected.size} differ, first: {dividends[wrong[0]]} / {divisors[which[wrong[0]]]}"


def serial(unit, divisors: list[int], interval: int, ports: dict[str, list[int]]) -> list[int]:
    """What comes of divisors ``interval`` cycles apart; values of a port at its offset, and others in all other cycles."""
    got = []

    async def bench(ctx) -> None:
        for cycle in range((len(divisors) - 1) * interval + unit.latency + 1):
            item, late = divmod(cycle, interval)
            ctx.set(unit.i.valid, late == 0 and item < len(divisors))
            ctx.set(unit.i.payload, divisors[item] if late == 0 and item < len(divisors) else cycle * 77777 % (1 << 26))
            for name, values in ports.items():
                item, late = divmod(cycle - unit.OFFSETS[name], interval)
                port = getattr(unit, name)
                ctx.set(port, values[item] if late == 0 and 0 <= item < len(values) else cycle * 12345 & (1 << len(port)) - 1)
            item, late = divmod(cycle - unit.latency, interval)
            assert ctx.get(unit.o.valid) == (late == 0 and 0 <= item < len(divisors)), f"cycle {cycle}"
            if ctx.get(unit.o.valid):
                got.append(ctx.get(unit.o.payload))
            await ctx.tick()

    run([unit], bench)
    return got


def test_reciprocals_at_their_ends_and_at_full_rate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    divisors = [0, 1, 2, 3, (1 << 26) - 1, 1 << 25, *(int(rng.integers(0, 1 << 26)) >> int(rng.integers(0, 26)) for _ in range(120))]
    outputs = [int(rng.choice([0, 1, (1 << 32) - 1, rng.integers(0, 1 << 32), rng.integers(0, 1 << 20)])) for _ in divisors]
    got = serial(ExactReciprocalConfig().build(), divisors, ExactReciprocal.interval, {"output_multiplier": outputs})
    assert got == [output // max(divisor, 1) for output, divisor in zip(outputs, divisors, strict=True)]


def eight_bits(rng, count: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Divisors, multipliers, indices of shifts, and results: many at the ties and at the limit."""
    shift = rng.integers(0, 4, count)
    target = np.where(rng.random(count) < 0.2, rng.choice([0, 1, 254, 255, 256, 511], count), rng.integers(0, 300, count))
    multiplier = np.where(rng.random(count) < 0.5, 1 << rng.integers(0, 16, count), rng.integers(0, 1 << 16, count))
    exponent = np.array(REQUANTIZE_SHIFTS)[shift]
    divisor = (2 * target + 1 << exponent - 1) // np.maximum(multiplier, 1) + rng.integers(-1, 2, count)
    divisor = np.clip(divisor, 0, (1 << 26) - 1)
    divisor[0], multiplier[0], shift[0] = (1 << 26) - 1, (1 << 16) - 1, 0
    result = requantize(divisor, multiplier, np.array(REQUANTIZE_SHIFTS)[shift], 0, unsigned(8))
    return divisor.tolist(), multiplier.tolist(), shift.tolist(), result.tolist()


def test_eight_bit_step_at_full_rate(seed: int) -> None:
    divisors, multipliers, shifts, expected = eight_bits(np.random.default_rng(seed), 300)
    assert len(set(expected)) > 100
    ports = {"multiplier": multipliers, "shift": shifts}
    assert serial(EightBitDivisor(), divisors, EightBitDivisor.interval, ports) == expected


def test_uniform_reciprocals_at_full_rate(seed: int) -> None:
    divisors, multipliers, shifts, narrow = eight_bits(np.random.default_rng(seed), 100)
    output = 3_000_000_019
    ports = {"multiplier": multipliers, "shift": shifts, "output_multiplier": [output] * len(divisors)}
    got = serial(ExactReciprocalConfig(kind="uniform").build(), divisors, ExactReciprocal.interval, ports)
    assert got == [output // max(divisor, 1) for divisor in narrow]


def test_published_timing() -> None:
    assert ExactReciprocal.interval == 34 and EightBitDivisor.interval == 17 and EightBitDivisor.latency == 20
    exact, uniform = (ExactReciprocalConfig(kind=kind) for kind in ("exact", "uniform"))
    assert (exact.latency, uniform.latency) == (35, 55)
    assert exact.offsets == {"output_multiplier": 2}
    assert uniform.offsets == {"multiplier": 0, "shift": 17, "output_multiplier": 22}
    assert ExactQuotient.latency == 14
    assert ExactQuotient.OFFSETS == {"reciprocal_low": 0, "reciprocal_high": 4, "zero": 11, "low": 13}
    assert Log2Exponent.latency < exact.latency


def test_wrong_values() -> None:
    with pytest.raises(InputError, match="kind must be one of exact, uniform: 'log2' does not; for log2 kinds use Log2Exponent"):
        ExactReciprocalConfig(kind="log2")
    with pytest.raises(InputError, match=r"dividend_bits must be 2\.\.27: 28 does not; choose fewer"):
        ExactQuotientConfig(dividend_bits=28)
    with pytest.raises(InputError, match=r"bits must be 4\.\.8: 3 does not"):
        ExactQuotientConfig(bits=3)
