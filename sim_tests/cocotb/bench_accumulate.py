"""Horner over planes and sums over K-tiles, against Python integers: random and extreme dot products."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import bench_parameters, bench_random, start

LATENCY, PASSES, CHANNELS = 2, 3, 20
ADD, WRITE = 1 << 16, 1 << 17


def words(rng, pick) -> list[tuple[int, int, int, int]]:
    """(y, plane_first, control, expected o or None) in program order: 8-plane channels, then K-tiles over all passes."""
    limit, tiles, planes = (bench_parameters()[name] for name in ("limit", "tiles", "planes"))
    found = []
    for _ in range(30):
        total = 0
        for plane in range(8):
            y = pick(rng, limit)
            total = 2 * total + y
            found.append((y, int(plane == 0), 0, total))
    partial = {}
    for tile in range(tiles):
        for pass_index in range(PASSES):
            for channel in range(CHANNELS):
                total = 0
                for plane in range(planes):
                    y = pick(rng, limit)
                    total = 2 * total + y
                    control = pass_index | channel << 4 | (ADD if tile else 0)
                    if plane == planes - 1:
                        total += partial.get((pass_index, channel), 0)
                        found.append((y, int(plane == 0), control | (WRITE if tile < tiles - 1 else 0), total))
                    else:
                        found.append((y, int(plane == 0), control, None))
                partial[pass_index, channel] = total
    return found


async def check(dut, pick) -> None:
    """Every word's sum, exactly LATENCY cycles later. An idle word is a first plane that nobody reads: gaps are covered."""
    mask = (1 << bench_parameters()["width"]) - 1
    for name in ("i", "plane_first", "control"):
        getattr(dut, name).value = 0
    await start(dut)
    stimulus = words(bench_random(pick.__name__), pick)
    for index in range(len(stimulus) + LATENCY - 1):
        y, first, control, _ = stimulus[index] if index < len(stimulus) else (0, 1, 0, None)
        dut.i.value, dut.plane_first.value, dut.control.value = y & mask, first, control
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        if index >= LATENCY - 1:
            expected = stimulus[index - LATENCY + 1][3]
            got = dut.o.value.to_signed()
            assert expected is None or got == expected, f"word {index - LATENCY + 1}: expected {expected}, got {got}"


def random_sum(rng, limit: int) -> int:
    return rng.randint(-limit, limit)


def extreme_sum(rng, limit: int) -> int:
    return rng.choice((-limit, limit))


@cocotb.test()
async def random_values(dut) -> None:
    await check(dut, random_sum)


@cocotb.test()
async def extremes(dut) -> None:
    await check(dut, extreme_sum)
