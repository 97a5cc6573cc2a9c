"""Bench of `PoolSums`: words whose groups interleave, as the collector's do and as closely as the law allows."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from rtl.efficientvit.collector import CONTEXTS
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, start
from sim_tests.cocotb.pool_groups import BITS, POOL_GROUP, as_collected, as_dense, group_bits, passes_of, play

SETTLE, LATENCY = (bench_parameters()[name] for name in ("settle", "latency"))
SUM_BITS, LANES, CHANNELS = BITS + 9, 4, 32
TOP = (1 << BITS) - 1


async def read(dut, words: range) -> list[int]:
    """Sums of all channels of some words, an address per cycle."""
    addresses, got = [word << 3 | step for word in words for step in range(CHANNELS // LANES)], []
    for cycle in range(len(addresses) + LATENCY):
        if cycle >= LATENCY:
            sums = int(dut.sums.value)
            got += [sums >> SUM_BITS * lane & (1 << SUM_BITS) - 1 for lane in range(LANES)]
        dut.address.value = addresses[cycle] if cycle < len(addresses) else 0
        await FallingEdge(dut.clk)
    return got


CASES = [(16, 49, 4), (49, 49, 7), (81, 49, 3), (324, 49, 1), (16, 16, 2), (81, 64, 5), (10, 5, 1), (400, 64, 128)]


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(schedule=["collected", "dense"], values=["random", "most"])
async def sums_of_images(dut, schedule: str, values: str) -> None:
    """Images of other sizes, one after the other: nothing of the last one stays. Words are read ``settle`` cycles after the last group."""
    rng = bench_random(f"{schedule} {values}")
    numbers = np.random.default_rng(rng.getrandbits(64))
    dut.group.value, dut.address.value = 0, 0
    await start(dut)
    for pixels, rows, words in CASES if values == "random" else CASES[:5]:
        codes = numbers.integers(0, TOP + 1, (pixels, words, CHANNELS)) if values == "random" else np.full((pixels, words, CHANNELS), TOP)
        passes = passes_of(codes, rows)
        if schedule == "collected" and rows < 10:
            continue
        await play(dut, "group", as_collected(passes) if schedule == "collected" else as_dense(passes, rng))
        for _ in range(SETTLE - 1):  # the last group came a cycle ago
            await FallingEdge(dut.clk)
        last = codes.shape[1] - 1
        order = [*range(last, last + 1), *range(last)]  # the one that was finished last comes first
        got = [value for word in order for value in await read(dut, range(word, word + 1))]
        expected = codes.sum(0)[order].reshape(-1)
        assert_equal(got, expected.tolist(), f"{schedule}, {values}: {pixels} pixels, {rows} rows, {words} words")


@cocotb.test()
async def groups_without_pixels_are_none(dut) -> None:
    """What comes between, and after, the groups of a pass, with whatever in its other fields but ``last``."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, TOP + 1, (22, 2, CHANNELS))
    dut.group.value, dut.address.value = 0, 0
    await start(dut)
    schedule = as_collected(passes_of(codes, 16))
    for cycle in range(max(schedule) + 20):
        noise = {name: int(rng.integers(1 << POOL_GROUP[name].width)) for name in ("first", "context", "word", "begin")}
        schedule.setdefault(cycle, group_bits(codes[:0, 0], **{**noise, "context": min(noise["context"], CONTEXTS - 1), "last": 0}))
    await play(dut, "group", schedule)
    assert_equal(await read(dut, range(2)), codes.sum(0).reshape(-1).tolist(), "22 pixels of 16 rows")
