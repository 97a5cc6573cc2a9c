"""Drives a unit with skewed control and checks every cycle of its output. Runs inside the simulator."""

import random
from collections.abc import Sequence

from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import assert_equal


def arrivals(count: int, gap: float, rng: random.Random) -> list[int]:
    """The cycle of each of ``count`` items, a bubble before it with probability ``gap`` (repeatedly)."""
    cycles, now = [], 0
    for _ in range(count):
        while rng.random() < gap:
            now += 1
        cycles.append(now)
        now += 1
    return cycles


async def check_pipeline(
    dut,
    *,
    stream: str,
    columns: dict[str, tuple[Sequence[int], int]],
    expected: Sequence[int],
    latency: int,
    gap: float,
    rng: random.Random,
    what: str,
) -> None:
    """Item k enters at its arrival; its value of column ``port`` is driven ``offset`` cycles later, and noise
    wherever no item needs the port.

    Asserts in every cycle that stream ``o`` is valid exactly ``latency`` cycles after an arrival, and that its items are ``expected``.
    """
    cycles = arrivals(len(expected), gap, rng)
    plan = {port: {cycle + offset: int(values[k]) for k, cycle in enumerate(cycles)} for port, (values, offset) in columns.items()}
    starts, ends = set(cycles), {cycle + latency for cycle in cycles}
    got = []
    for now in range(cycles[-1] + latency + 3):
        for port, values in plan.items():
            handle = getattr(dut, port)
            width = len(handle)
            handle.value = values[now] & ((1 << width) - 1) if now in values else rng.getrandbits(width)
        getattr(dut, f"{stream}__valid").value = int(now in starts)
        await RisingEdge(dut.clk)
        valid = bool(dut.o__valid.value)
        assert valid == (now in ends), f"{what}: o valid is {valid} in cycle {now}, latency {latency}"
        if valid:
            got.append(int(dut.o__payload.value))
        await FallingEdge(dut.clk)
    assert_equal(got, expected, what)
