"""Unpacking: items of every width, whole and left-over beats, exact cycles, clear."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.bus.unpack import UnpackConfig
from sim_tests.bus.axi_models import Cycles, Stable
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, collect_stream, drive_stream, idle_stream, start

STALLS = {"free": (0, 0, 0), "requests": (0.9, 0, 0), "beats": (0, 0.6, 0), "output": (0, 0, 0.6), "all": (0.5, 0.4, 0.4)}


def configuration() -> UnpackConfig:
    return UnpackConfig(widths=tuple(bench_parameters()["widths"]))


def pack(config: UnpackConfig, width: int, items: int) -> int:
    return config.code(width) | items << config.code_bits


def reference(config: UnpackConfig, requests: list[tuple[int, int]], rng) -> tuple[list[int], list[int]]:
    """Beats, and the items they hold."""
    beats, items = [], []
    for width, count in requests:
        chunk = [rng.getrandbits(128) for _ in range(config.beats(width, count))]
        bits = sum(beat << 128 * index for index, beat in enumerate(chunk))
        for index in range(count):
            value = bits >> width * index & (1 << width) - 1
            items.append(value | index << config.item_bits | (index == count - 1) << config.item_bits + 24)
        beats += [beat | rng.getrandbits(1) << 128 for beat in chunk]  # last means nothing here
    return beats, items


async def begin(dut) -> tuple[UnpackConfig, Cycles]:
    idle_stream(dut, sources=("i_request", "i"), sinks=("o",))
    dut.clear.value = 0
    cycles = Cycles(dut)
    Stable(dut, "o__valid", "o__ready", ("o__payload",), allow=lambda: bool(dut.clear.value))
    await start(dut)
    return configuration(), cycles


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def matches_model(dut, case: str) -> None:
    config, _ = await begin(dut)
    rng = bench_random(case)
    requests = [(rng.choice(config.widths), rng.choice([0, 1, 2, 3, 15, 16, 17, rng.randrange(1, 60)])) for _ in range(40)]
    requests += [(width, count) for width in config.widths for count in (1, 16, 33)]
    beats, items = reference(config, requests, rng)
    stall_requests, stall_beats, stall_output = STALLS[case]
    source = cocotb.start_soon(drive_stream(dut, "i", beats, stall=stall_beats))
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(config, *request) for request in requests], stall=stall_requests))
    assert_equal(await collect_stream(dut, "o", len(items), stall=stall_output), items, "items")
    assert source.done(), "not all beats were taken"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def cycles(dut) -> None:
    """Every item on its own cycle; one cycle without an item between two requests of narrow items."""
    config, counter = await begin(dut)
    counts = {width: 50 if width <= 128 else 7 for width in config.widths}
    requests = [(width, counts[width]) for width in config.widths] + [(config.widths[0], 5)]
    beats, items = reference(config, requests, bench_random("cycles"))
    taken, moved = [], []

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            if int(dut.i_request__valid.value) and int(dut.i_request__ready.value):
                taken.append(counter.now)
            if int(dut.o__valid.value) and int(dut.o__ready.value):
                moved.append(counter.now)

    cocotb.start_soon(watch())
    cocotb.start_soon(drive_stream(dut, "i", beats))
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(config, *request) for request in requests]))
    assert_equal(await collect_stream(dut, "o", len(items)), items, "items")
    expected, now = [], taken[0]
    for index, (width, count) in enumerate(requests):
        assert taken[index] == now, f"request {index}"
        interval = max(1, width // 128)
        expected += [now + 1 + interval * (item + 1) for item in range(count)]
        now = expected[-1]
    assert moved == expected


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def clear_at_any_time(dut) -> None:
    config, _ = await begin(dut)
    rng = bench_random("clear")
    for _ in range(30):
        width = rng.choice(config.widths)
        beats, _ = reference(config, [(width, 40)], rng)
        tasks = [
            cocotb.start_soon(drive_stream(dut, "i", beats)),
            cocotb.start_soon(drive_stream(dut, "i_request", [pack(config, width, 40)])),
        ]
        for _ in range(rng.randrange(1, 40)):
            dut.o__ready.value = rng.random() < 0.7
            await FallingEdge(dut.clk)
        for task in tasks:
            task.cancel()
        dut.i__valid.value = 0
        dut.i_request__valid.value = 0
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
        assert not int(dut.o__valid.value)
        requests = [(rng.choice(config.widths), 9), (config.widths[0], 3)]
        beats, items = reference(config, requests, rng)
        cocotb.start_soon(drive_stream(dut, "i", beats))
        cocotb.start_soon(drive_stream(dut, "i_request", [pack(config, *request) for request in requests]))
        assert_equal(await collect_stream(dut, "o", len(items)), items, "items after clear")
