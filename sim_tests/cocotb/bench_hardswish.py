"""Bench of `Hardswish` against its model: every p at a fraction."""

import cocotb
import numpy as np

from model.efficientvit.integer import HARDSWISH_FRACTIONS, hardswish
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.skewed import check_pipeline


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(fraction=list(HARDSWISH_FRACTIONS))
async def every_value(dut, fraction: int) -> None:
    """Its range in order; then some, mixed with other fractions, with values that pass unchanged and with bubbles."""
    parameters, rng = bench_parameters(), bench_random(fraction)
    least, most = parameters["values"]
    await _check(dut, np.arange(least, most), fraction, 1, gap=0.0, rng=rng)
    numbers = np.random.default_rng(rng.getrandbits(64))
    p = numbers.integers(-32768, 32768, 500) >> numbers.integers(0, 10, 500)
    await _check(dut, p, numbers.choice(HARDSWISH_FRACTIONS, p.size), numbers.integers(0, 2, p.size), gap=0.5, rng=rng)


async def _check(dut, p, fraction, enable, *, gap, rng) -> None:
    offsets = bench_parameters()["offsets"]
    fraction, enable = (np.broadcast_to(value, p.shape) for value in (fraction, enable))
    expected = [int(hardswish(value, k) if used else value) & 0xFFFF for value, k, used in zip(p, fraction, enable, strict=True)]
    idle_stream(dut, sources=["i"], sinks=[])
    await start(dut)
    await check_pipeline(
        dut,
        stream="i",
        columns={
            "i__payload": (p, 0),
            "fraction": (fraction - HARDSWISH_FRACTIONS[0], offsets["fraction"]),
            "enable": (enable, offsets["enable"]),
        },
        expected=expected,
        latency=bench_parameters()["latency"],
        gap=gap,
        rng=rng,
        what=f"fraction {fraction[0]}, gap {gap}",
    )
