"""Horner over planes and sums over K-tiles, against Python integers: random and extreme dot products."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import bench_parameters, bench_random, start

PASSES, CHANNELS = 3, 20
#: The channel's bits in an address.
CHANNEL_BITS = 5


def words(rng, pick) -> list[tuple]:
    """(y, plane_first, address, add, write, expected o or None) in program order: 8-plane channels, then K-tiles over all passes."""
    limit, tiles, planes = (bench_parameters()[name] for name in ("limit", "tiles", "planes"))
    found = []
    for _ in range(30):
        total = 0
        for plane in range(8):
            y = pick(rng, limit)
            total = 2 * total + y
            found.append((y, int(plane == 0), 0, 0, 0, total))
    partial = {}
    for tile in range(tiles):
        for pass_index in range(PASSES):
            for channel in range(CHANNELS):
                total = 0
                for plane in range(planes):
                    y = pick(rng, limit)
                    total = 2 * total + y
                    done, address = plane == planes - 1, channel | pass_index << CHANNEL_BITS
                    total += partial.get((pass_index, channel), 0) if done else 0
                    write = int(done and tile < tiles - 1)
                    found.append((y, int(plane == 0), address, int(tile > 0), write, total if done else None))
                partial[pass_index, channel] = total
    return found


async def check(dut, pick) -> None:
    """Every word's sum, exactly ``latency`` cycles later. An idle word is a first plane that nobody reads: gaps are covered."""
    rng, parameters = bench_random(pick.__name__), bench_parameters()
    limit, latency, offsets = parameters["limit"], parameters["latency"], parameters["offsets"]
    stimulus = words(rng, pick)
    idle: tuple = (0, 1, 0, 0, 0, None)
    for name in ("i", "plane_first", "read", "add", "write"):
        getattr(dut, name).value = 0
    await start(dut)

    def at(cycle: int, column: int):
        return (stimulus[cycle] if 0 <= cycle < len(stimulus) else idle)[column]

    for cycle in range(len(stimulus) + latency):
        y = at(cycle, 0)
        minus = rng.randint(max(0, -y), limit)
        dut.i.value = y + minus | minus << (2 * limit).bit_length()
        dut.plane_first.value = at(cycle - offsets["plane_first"], 1)
        dut.read.value = at(cycle - offsets["read"], 2)
        dut.add.value = at(cycle - offsets["add"], 3)
        dut.write.value = at(cycle - offsets["write"], 4) | at(cycle - offsets["write"], 2) << 1
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        expected = at(cycle - latency + 1, 5)
        got = dut.o.value.to_signed()
        assert expected is None or got == expected, f"word {cycle - latency + 1}: expected {expected}, got {got}"


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
