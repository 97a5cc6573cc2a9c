"""What benches share: parameters, clock and reset, and the two ends of a stream. Runs inside the simulator."""

import json
import os
import random
from collections.abc import Iterable

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer


def bench_parameters() -> dict:
    """The ``parameters`` that the pytest side gave to ``run_bench``."""
    return json.loads(os.environ["POPVIT_BENCH"])


def bench_random(salt: object = "") -> random.Random:
    """A generator that depends on ``--seed`` and ``salt`` only. (numpy: ``default_rng(bench_random("x").getrandbits(64))``.)"""
    return random.Random(f"{os.environ['POPVIT_SEED']}:{salt}")


async def start(dut, cycles: int = 3) -> None:
    """Starts clock ``clk``, with ``clk_2x`` if there is one, and holds ``rst`` from time 0 for some cycles. Set the other inputs before:
    unknown inputs confuse Icarus.

    On return the next rising edge is the first that the design sees out of reset. Drive inputs at falling edges (as the helpers do).
    """
    dut.rst.value = 1
    if hasattr(dut, "clk_2x"):
        cocotb.start_soon(_aligned_clocks(dut))
    else:
        Clock(dut.clk, 10, "ns", impl="gpi").start()
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


async def _aligned_clocks(dut) -> None:
    """An edge of ``clk_2x`` at each of ``clk``, in one write: two clocks of their own would not come at once."""
    while True:
        for slow, fast in ((1, 1), (1, 0), (0, 1), (0, 0)):
            dut.clk.value, dut.clk_2x.value = slow, fast
            await Timer(2.5, "ns")


def idle_stream(dut, *, sources: Iterable[str] = ("i",), sinks: Iterable[str] = ("o",)) -> None:
    """Puts stream ports at rest: call it before :func:`start`."""
    for name in sources:
        getattr(dut, f"{name}__valid").value = 0
        getattr(dut, f"{name}__payload").value = 0
    for name in sinks:
        getattr(dut, f"{name}__ready").value = 0


async def drive_stream(dut, name: str, values: Iterable[int], *, stall: float = 0.0, rng: random.Random | None = None) -> None:
    """Sends ``values`` (unsigned patterns) into stream port ``name``, idle with probability ``stall`` in each cycle between words."""
    rng = rng or bench_random(f"drive {name}")
    valid, payload, ready = (_port(dut, name, part) for part in ("valid", "payload", "ready"))
    for value in values:
        while rng.random() < stall:
            await FallingEdge(dut.clk)
        valid.value = 1
        payload.value = value
        while True:
            await RisingEdge(dut.clk)
            taken = ready is None or bool(ready.value)
            await FallingEdge(dut.clk)
            if taken:
                break
        valid.value = 0


async def collect_stream(
    dut, name: str, count: int, *, stall: float = 0.0, rng: random.Random | None = None, limit: int = 100_000
) -> list[int]:
    """Takes ``count`` words (unsigned patterns) from stream port ``name``, not ready with probability ``stall`` in each cycle.

    Raises
    ------
    AssertionError : after ``limit`` cycles without the last word; the message says how many came.
    """
    rng = rng or bench_random(f"collect {name}")
    valid, payload, ready = (_port(dut, name, part) for part in ("valid", "payload", "ready"))
    values: list[int] = []
    for _ in range(limit):
        if len(values) == count:
            break
        willing = rng.random() >= stall
        if ready is not None:
            ready.value = int(willing)
        await RisingEdge(dut.clk)
        if (willing or ready is None) and bool(valid.value):
            values.append(int(payload.value))
        await FallingEdge(dut.clk)
    if ready is not None:
        ready.value = 0
    assert len(values) == count, f"stream {name}: expected {count} words, got {len(values)} in {limit} cycles"
    return values


def _port(dut, name: str, part: str):
    """The port's handle, or None where Amaranth left it out (``always_ready``)."""
    return getattr(dut, f"{name}__{part}", None)


def signed(value: int, bits: int) -> int:
    """The two's complement reading of a pattern."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def assert_equal(got: Iterable[int], expected: Iterable[int], what: str) -> None:
    """Fails on the first difference, naming its index, got and expected."""
    got, expected = list(got), list(expected)
    assert len(got) == len(expected), f"{what}: expected {len(expected)} values, got {len(got)}"
    wrong = [index for index, (left, right) in enumerate(zip(got, expected, strict=True)) if left != right]
    if wrong:
        index = wrong[0]
        raise AssertionError(
            f"{what}: {len(wrong)} of {len(got)} differ, first at index {index}: got {got[index]}, expected {expected[index]}"
        )
