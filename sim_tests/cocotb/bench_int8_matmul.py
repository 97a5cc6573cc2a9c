"""Bench of `Int8Matmul` against exact sums: groups of every length, random and extreme, with bubbles or without."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, signed, start
from sim_tests.cocotb.skewed import arrivals

PRODUCTS = 600
PORTS = ("weights_0", "weights_1", "codes")


def draw(data: str, inputs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(PRODUCTS, inputs) of each port. ``extremes``: every input alike for the largest sums of either sign, one lane against the other."""
    shape = (PRODUCTS, inputs)
    if data == "random":
        weights = [rng.integers(-127, 128, shape) for _ in range(2)]
        return dict(zip(PORTS, [*weights, rng.integers(0, 256, shape)], strict=True))
    rows = [rng.choice((-127, 127, 0), (PRODUCTS, 1)) for _ in range(2)] + [rng.choice((0, 255), (PRODUCTS, 1))]
    return dict(zip(PORTS, (np.broadcast_to(row, shape) for row in rows), strict=True))


def timeline(values: np.ndarray, cycles: list[int], stagger, count: int, rng: np.random.Generator) -> list[int]:
    """The word of a port in every cycle: item n's lane k in cycle ``cycles[n] + stagger[k]``, and noise elsewhere."""
    lanes = rng.integers(0, 256, (count, values.shape[1]))
    for lane, late in enumerate(stagger):
        lanes[np.array(cycles) + late, lane] = values[:, lane] & 255
    return [int.from_bytes(bytes(word), "little") for word in lanes.astype(np.uint8)]


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes"], stall=["free", "gaps"])
async def matches_exact_sums(dut, data: str, stall: str) -> None:
    parameters, rng = bench_parameters(), bench_random(f"{data} {stall}")
    inputs, offsets, latency = (parameters[name] for name in ("inputs", "offsets", "latency"))
    numbers = np.random.default_rng(rng.getrandbits(64))
    values = draw(data, inputs, numbers)
    first = numbers.random(PRODUCTS) < numbers.choice((0.05, 0.5, 1.0), 6).repeat(PRODUCTS // 6)
    first[0] = True
    last = np.append(first[1:], True)

    cycles = arrivals(PRODUCTS, 0.0 if stall == "free" else 0.5, rng)
    count = cycles[-1] + latency + 3
    plan = {port: timeline(values[port], cycles, parameters["stagger"][port], count, numbers) for port in PORTS}
    for port, flags in (("first", first), ("last", last), ("enable", np.ones(PRODUCTS, dtype=bool))):
        column = numbers.integers(0, 2, count) * (port != "enable")
        column[np.array(cycles) + offsets[port]] = flags
        plan[port] = column.tolist()

    for port in plan:
        getattr(dut, port).value = 0
    await start(dut, cycles=12)  # at twice the clock the phase needs ten of them to reach the last slice
    ends, got = {cycles[n] + latency for n in np.flatnonzero(last)}, ([], [])
    for now in range(count):
        for port, column in plan.items():
            getattr(dut, port).value = int(column[now])
        await RisingEdge(dut.clk)
        for lane, found in enumerate(got):
            valid = bool(getattr(dut, f"o_{lane}__valid").value)
            assert valid == (now in ends), f"{data}, {stall}: o_{lane} valid is {valid} in cycle {now}, latency {latency}"
            if valid:
                found.append(signed(int(getattr(dut, f"o_{lane}__payload").value), 27))
        await FallingEdge(dut.clk)
    for lane, found in enumerate(got):
        sums = (values[f"weights_{lane}"].astype(np.int64) * values["codes"]).sum(1)
        assert_equal(found, np.add.reduceat(sums, np.flatnonzero(first)).tolist(), f"{data}, {stall}: o_{lane}")
