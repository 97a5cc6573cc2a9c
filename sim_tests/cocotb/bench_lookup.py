"""Bench of `Lookup`: one set is written while the other is read, then they change places."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, idle_stream, start

ENTRIES = 256


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes"], stall=["free", "gaps"])
async def matches_table(dut, data: str, stall: str) -> None:
    latency = bench_parameters()["latency"]
    rng = bench_random(f"{data} {stall}")
    gap = 0.0 if stall == "free" else 0.4
    idle_stream(dut, sources=["i", "i_write"], sinks=[])
    await start(dut)
    tables = [[0] * ENTRIES, [0] * ENTRIES]
    expected: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []
    now = 0
    for phase in range(5):
        loading, reading = phase & 1, ~phase & 1
        order = rng.sample(range(ENTRIES), ENTRIES)
        for address in order:
            while True:
                bubble = rng.random() < gap
                value = rng.getrandbits(8) if data == "random" else rng.choice((0, 255))
                dut.i_write__valid.value = int(not bubble)
                dut.i_write__payload.value = address | loading << 8 | value << 9
                if not bubble:
                    tables[loading][address] = value
                index = rng.randrange(ENTRIES) if data == "random" else rng.choice((0, 255, address))
                reads = phase > 0 and rng.random() >= gap
                dut.i__valid.value = int(reads)
                dut.i__payload.value = index | reading << 8
                if reads:
                    expected.append((now + latency, tables[reading][index]))
                await RisingEdge(dut.clk)
                if dut.o__valid.value:
                    got.append((now, int(dut.o__payload.value)))
                await FallingEdge(dut.clk)
                now += 1
                if not bubble:
                    break
    expected = [word for word in expected if word[0] < now]
    assert len(expected) > 900 * (1 - gap)
    assert_equal([cycle for cycle, _ in got], [cycle for cycle, _ in expected], "cycles")
    assert_equal([value for _, value in got], [value for _, value in expected], "values")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_an_entry_the_cycle_after_its_write(dut) -> None:
    latency = bench_parameters()["latency"]
    idle_stream(dut, sources=["i", "i_write"], sinks=[])
    await start(dut)
    for value in (0x5A, 0xA5):
        dut.i_write__valid.value, dut.i_write__payload.value = 1, 77 | 1 << 8 | value << 9
        await FallingEdge(dut.clk)
        dut.i_write__valid.value = 0
        dut.i__valid.value, dut.i__payload.value = 1, 77 | 1 << 8
        for _ in range(latency):
            await FallingEdge(dut.clk)
        assert int(dut.o__payload.value) == value
