"""`RootDivide` by Amaranth's simulator: every radicand of a small one, hard ones of the real one, exact latency."""

import math
import random

import pytest
from amaranth.sim import Simulator

from rtl.errors import InputError
from rtl.units.root_divide import RootDivideConfig

REAL = RootDivideConfig(radicand_bits=42, dividend=14878106470, quotient_bits=26)


def check(config: RootDivideConfig, radicands: list[int]) -> None:
    unit = config.build()
    limit = (1 << config.quotient_bits) - 1

    async def bench(ctx) -> None:
        for radicand in radicands:
            for cycle in range(-1, config.latency):
                ctx.set(unit.step, config.step(cycle))
                ctx.set(unit.radicand, radicand >> (config.radicand_bits - 1 - cycle) & 1 if 0 <= cycle < config.radicand_bits else 0)
                await ctx.tick()
            expected = min(config.dividend // max(math.isqrt(radicand), 1), limit)
            assert ctx.get(unit.quotient) == expected, f"radicand {radicand}"

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("dividend", [64, 100, 1000, 2047])
def test_small_exhaustively(dividend: int) -> None:
    check(RootDivideConfig(radicand_bits=8, dividend=dividend, quotient_bits=6), list(range(256)))


def test_real_at_its_extremes(seed: int) -> None:
    rng = random.Random(seed)
    # Squares and their neighbours turn a digit of the root; 221 and 222 are where the limit begins (dividend / 2**26 = 221.7).
    squares = [root * root + step for root in (1, 2, 221, 222, 1 << 20, (1 << 21) - 1, rng.getrandbits(21)) for step in (-1, 0, 1)]
    check(REAL, [0, (1 << 42) - 1, *squares, *(rng.getrandbits(rng.randint(1, 42)) for _ in range(40))])


def test_latency() -> None:
    assert REAL.latency == 42 + 34 + 2


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"radicand_bits": 41}, "radicand_bits must be even: 41 does not; add one"),
        ({"dividend": (1 << 26) - 1}, "dividend must be at least"),
    ],
)
def test_wrong_sizes(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RootDivideConfig(**wrong)
