"""Bench of the worked example: {free, stalled in, stalled out} against the model ``value + 2``."""

import cocotb

from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, collect_stream, drive_stream, idle_stream, start

STALLS = {"free": (0.0, 0.0), "stalled in": (0.6, 0.0), "stalled out": (0.0, 0.6)}


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def matches_model(dut, case: str) -> None:
    width = bench_parameters()["width"]
    stall_in, stall_out = STALLS[case]
    rng = bench_random(case)
    values = [rng.getrandbits(width) for _ in range(200)]
    idle_stream(dut)
    await start(dut)
    cocotb.start_soon(drive_stream(dut, "i", values, stall=stall_in))
    got = await collect_stream(dut, "o", len(values), stall=stall_out)
    assert_equal(got, [(value + 2) % (1 << width) for value in values], "words")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def expects_nonsense(dut) -> None:
    idle_stream(dut)
    await start(dut)
    cocotb.start_soon(drive_stream(dut, "i", [5, 6, 7, 8]))
    assert_equal(await collect_stream(dut, "o", 4), [0, 0, 0, 0], "words")
