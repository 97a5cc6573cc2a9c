"""Bench of `Requantize` against its model: every shift and range, random, extreme and tied operands, with bubbles or without."""

import cocotb
import numpy as np

from model import integer
from rtl.units.requantize import Limits, saturation
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.skewed import check_pipeline

COUNT = 2000
HIGH = (1 << (integer.ACCUMULATOR_BITS - 1)) - 1
EXTREMES = (-HIGH - 1, -HIGH, -1, 0, 1, HIGH)


def operands(data: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """``edges``: products next to the limits and to the rounding ties, which random ones seldom meet."""
    shift, limits = rng.integers(0, 4, COUNT), rng.integers(0, 4, COUNT)
    exponent = np.array(integer.REQUANTIZE_SHIFTS)[shift]
    if data == "random":
        total = rng.integers(-HIGH - 1, HIGH + 1, COUNT) >> rng.integers(0, integer.ACCUMULATOR_BITS, COUNT)
        multiplier = rng.integers(0, 1 << 16, COUNT) >> rng.integers(0, 16, COUNT)
    elif data == "extremes":
        total = rng.choice(EXTREMES, COUNT)
        multiplier = rng.choice((0, 1, 2, 0x7FFF, 0x8000, 0xFFFF), COUNT)
    else:
        # total * 2**12 / 2**shift: whole halves exactly
        result = rng.choice((-32769, -32768, -129, -128, -127, -2, -1, 0, 1, 2, 127, 128, 255, 256, 32767, 32768), COUNT)
        total = (result << (exponent - 12)) + (rng.integers(-1, 2, COUNT) << (exponent - 12)) // 2
        total = np.clip(total, -HIGH - 1, HIGH)
        multiplier = np.full(COUNT, 1 << 12)
    low, high = np.maximum(total - HIGH, -HIGH - 1), np.minimum(total + HIGH + 1, HIGH)
    bias = np.where(rng.random(COUNT) < 0.2, 0, rng.integers(low, high + 1))
    return {"accumulator": total - bias, "bias": bias, "multiplier": multiplier, "shift": shift, "limits": limits}


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes", "edges"], stall=["free", "gaps"])
async def matches_model(dut, data: str, stall: str) -> None:
    parameters = bench_parameters()
    rng = bench_random(f"{data} {stall}")
    values = operands(data, np.random.default_rng(rng.getrandbits(64)))
    assert all(-HIGH - 1 <= v <= HIGH for v in (*values["accumulator"], *values["bias"]))
    shift = np.array(integer.REQUANTIZE_SHIFTS)[values["shift"]]
    ranges = [saturation(Limits(code), parameters["bits"]) for code in values["limits"]]
    expected = [
        int(integer.requantize(*row, limits)) & 0xFFFF
        for *row, limits in zip(values["accumulator"], values["multiplier"], shift, values["bias"], ranges, strict=True)
    ]
    idle_stream(dut, sources=["i_accumulator"], sinks=[])
    await start(dut)
    offsets = parameters["offsets"]
    columns = {port: (values[port], offsets[port]) for port in ("bias", "multiplier", "shift", "limits")}
    columns["i_accumulator__payload"] = (values["accumulator"], 0)
    zero = [rng.random() < 0.1 for _ in expected]
    columns["zero"] = (zero, offsets["zero"])
    expected = [0 if masked else value for masked, value in zip(zero, expected, strict=True)]
    await check_pipeline(
        dut,
        stream="i_accumulator",
        columns=columns,
        expected=expected,
        latency=parameters["latency"],
        gap=0.0 if stall == "free" else 0.5,
        rng=rng,
        what=f"{data}, {stall}",
    )
