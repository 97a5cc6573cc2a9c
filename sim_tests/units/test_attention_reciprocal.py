"""`Reciprocal` in Amaranth's simulator: exact division, and a held result."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.units.reciprocal import Reciprocal


def divide_all(divisor_bits: int, pairs: list[tuple[int, int]]) -> list[int]:
    unit = Reciprocal(divisor_bits)
    quotients = []

    async def testbench(ctx):
        for dividend, divisor in pairs:
            held = ctx.get(unit.o)
            ctx.set(unit.divisor, divisor)
            ctx.set(unit.i_step, {"valid": 0, "first": 1, "bit": 1})
            await ctx.tick()
            for step in range(unit.cycles):
                bit = dividend >> (unit.cycles - 1 - step) & 1
                ctx.set(unit.i_step, {"valid": 1, "first": 0, "bit": bit})
                await ctx.tick()
                assert ctx.get(unit.o) == held
            ctx.set(unit.i_step, {"valid": 0, "first": 0, "bit": 1})
            ctx.set(unit.i_load, 1)
            await ctx.tick()
            ctx.set(unit.i_load, 0)
            quotients.append(ctx.get(unit.o))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return quotients


@pytest.mark.parametrize("divisor_bits", [10, 13, 16])
def test_divides(divisor_bits: int, seed: int) -> None:
    rng = random.Random(f"{seed}:{divisor_bits}")
    limit = (1 << divisor_bits) - 1
    pairs = [(rng.getrandbits(32), rng.randint(255, limit)) for _ in range(60)]
    pairs += [(dividend, divisor) for dividend in (0, 1, 254, 255, 256, 2**31, 2**32 - 1) for divisor in (255, 256, limit - 1, limit)]
    assert divide_all(divisor_bits, pairs) == [dividend // divisor for dividend, divisor in pairs]
