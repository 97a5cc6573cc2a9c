"""Bench of `Log2Exponent` against its model: every power of two and 1.5 times it, and what lies beside them."""

import cocotb
import numpy as np

from model.efficientvit.integer import EXPONENTS, rounded_log2
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.skewed import check_pipeline


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "edges"], stall=["free", "gaps"])
async def matches_model(dut, data: str, stall: str) -> None:
    parameters, rng = bench_parameters(), bench_random(f"{data} {stall}")
    numbers, bits = np.random.default_rng(rng.getrandbits(64)), parameters["divisor_bits"]
    if data == "random":
        divisor = numbers.integers(0, 1 << (bits - 1), 1000) >> numbers.integers(0, bits, 1000)
    else:
        steps = [half * (1 << k) // 2 + beside for k in range(bits) for half in (2, 3) for beside in (-1, 0, 1)]
        divisor = numbers.permutation([value for value in steps if 0 <= value < 1 << (bits - 1)] * 4)
    low = numbers.integers(0, 32, divisor.size)
    # most of them where the exponent is not limited
    low = np.where(numbers.random(divisor.size) < 0.7, np.clip(rounded_log2(divisor) - numbers.integers(0, 17, divisor.size), 0, 31), low)
    idle_stream(dut, sources=["i"], sinks=[])
    await start(dut)
    await check_pipeline(
        dut,
        stream="i",
        columns={"i__payload": (divisor, 0), "low": (low, parameters["offsets"]["low"])},
        expected=(np.clip(rounded_log2(divisor), low, low + EXPONENTS - 1) - low).tolist(),
        latency=parameters["latency"],
        gap=0.0 if stall == "free" else 0.5,
        rng=rng,
        what=f"{data}, {stall}",
    )
