"""Bench of `Residual` against `model.integer.add_residual`."""

import cocotb
import numpy as np

from model import integer
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.skewed import check_pipeline

EXTREMES = (-32768, -32767, -16384, -1, 0, 1, 16384, 32766, 32767)


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes"], stall=["free", "gaps"])
async def matches_model(dut, data: str, stall: str) -> None:
    rng = bench_random(f"{data} {stall}")
    numbers = np.random.default_rng(rng.getrandbits(64))
    if data == "random":
        residual, update = numbers.integers(-32768, 32768, (2, 1000))
    else:
        residual, update = (axis.ravel() for axis in np.meshgrid(EXTREMES, EXTREMES))
    idle_stream(dut, sources=["i"], sinks=[])
    await start(dut)
    choices, offsets = bench_parameters()["choices"], bench_parameters()["offsets"]
    select, others = numbers.integers(0, choices, residual.size), numbers.integers(0, 1 << 16, residual.size)
    replace, replacement = numbers.random(residual.size) < 0.2, numbers.integers(0, 1 << 16, residual.size)
    replace[0] = True  # its residual would come before the first cycle
    await check_pipeline(
        dut,
        stream="i",
        columns={
            "i__payload": (update & 0xFFFF, 0),
            "select": (select, offsets["select"]),
            **{f"residual__{k}": (np.where(select == k, residual & 0xFFFF, others), offsets["residual"]) for k in range(choices)},
            "replace": (replace.astype(int), offsets["replace"]),
            "replacement": (replacement, offsets["replacement"]),
        },
        expected=[int(value) & 0xFFFF for value in np.where(replace, replacement, integer.add_residual(residual, update))],
        latency=bench_parameters()["latency"],
        gap=0.0 if stall == "free" else 0.5,
        rng=rng,
        what=f"{data}, {stall}",
    )
