"""The reader against memories that stall, wait and fail: data, order, bursts, exact cycles, errors and clear."""

import hashlib

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from sim_tests.bus.axi_models import Cycles, ReadMemory, Stable
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, collect_stream, drive_stream, idle_stream, start

STALLS = {
    "free": {},
    "address": {"address": 0.8},
    "data": {"data": 0.6},
    "output": {"output": 0.7},
    "requests": {"requests": 0.95},
    "all": {"address": 0.5, "data": 0.3, "output": 0.3, "requests": 0.5},
}


FIRST_BEAT = 9  # cycles from a request to its first beat, besides the memory's latency


def content(address: int) -> int:
    return int.from_bytes(hashlib.md5(address.to_bytes(8, "little")).digest(), "little")


def pack(address: int, beats: int) -> int:
    return address | beats << 40


def expected(requests: list[tuple[int, int]]) -> list[int]:
    words = []
    for address, beats in requests:
        words += [content(address + 16 * beat) | (beat == beats - 1) << 128 for beat in range(beats)]
    return words


def random_requests(rng, count: int) -> list[tuple[int, int]]:
    """Lengths 1..200, many of them short, starting anywhere; half of them near a 4 KiB boundary."""
    requests = []
    for _ in range(count):
        base = rng.randrange(1 << 28) * 4096
        offset = rng.randrange(4096 // 16) if rng.random() < 0.5 else rng.randrange(256 - 20, 256)
        requests.append((base + 16 * offset, rng.randrange(1, 201) if rng.random() < 0.5 else rng.randrange(1, 20)))
    return requests


async def begin(dut, **memory) -> tuple[Cycles, ReadMemory]:
    idle_stream(dut, sources=("i_request",), sinks=("o",))
    dut.clear.value = 0
    cycles = Cycles(dut)
    memory.setdefault("rng", bench_random("memory"))
    model = ReadMemory(dut, cycles, "m_axi", content, **memory)
    Stable(dut, "o__valid", "o__ready", ("o__payload",), allow=lambda: bool(dut.clear.value))
    cocotb.start_soon(watch_credit(dut, model))
    await start(dut)
    return cycles, model


async def watch_credit(dut, model: ReadMemory) -> None:
    """Never more beats asked for and not yet delivered than there is room for."""
    depth, delivered = bench_parameters()["depth"], 0
    while True:
        await RisingEdge(dut.clk)
        if dut.clear.value or dut.error.value:
            return
        held = sum(beats for _, _, beats in model.bursts) - delivered
        assert held <= depth, f"{held} beats outstanding or stored, more than {depth}"
        delivered += int(dut.o__valid.value) & int(dut.o__ready.value)


async def wait_idle(dut, limit: int = 2000) -> None:
    for _ in range(limit):
        await RisingEdge(dut.clk)
        if int(dut.idle.value):
            await FallingEdge(dut.clk)
            return
    raise AssertionError(f"not idle after {limit} cycles")


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS), latency=[1, 30])
async def reads_in_order(dut, case: str, latency: int) -> None:
    stall = STALLS[case]
    _, memory = await begin(dut, latency=latency, stall_address=stall.get("address", 0), stall_data=stall.get("data", 0))
    requests = random_requests(bench_random(case), 25)
    requests[3] = (requests[3][0], 0)  # does nothing
    words = expected(requests)
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests], stall=stall.get("requests", 0)))
    got = await collect_stream(dut, "o", len(words), stall=stall.get("output", 0))
    assert_equal(got, words, "beats")
    await wait_idle(dut)
    assert not memory.pending and memory.beats == len(words) and not dut.error.value


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def every_length(dut) -> None:
    await begin(dut)
    requests = [(4096 * 77 + 16 * (length * 7 % 256), length) for length in range(1, 201)]
    words = expected(requests)
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests]))
    assert_equal(await collect_stream(dut, "o", len(words)), words, "beats")


async def taken_at(dut, cycles: Cycles, name: str, count: int) -> list[int]:
    """Cycles in which the words of a stream moved."""
    moved = []
    while len(moved) < count:
        await RisingEdge(dut.clk)
        if int(getattr(dut, f"{name}__valid").value) and int(getattr(dut, f"{name}__ready").value):
            moved.append(cycles.now)
    return moved


def latency_limit() -> int:
    """The longest latency with full throughput: the store is used again, and a burst's place in the queue."""
    parameters = bench_parameters()
    return min(parameters["depth"] - 24, 16 * parameters["bursts"] - 19)


async def measure(dut, requests: list[tuple[int, int]], latency: int) -> tuple[list[int], list[int]]:
    cycles, _ = await begin(dut, latency=latency)
    beats = sum(length for _, length in requests)
    asked = cocotb.start_soon(taken_at(dut, cycles, "i_request", len(requests)))
    moved = cocotb.start_soon(taken_at(dut, cycles, "o", beats))
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests]))
    assert_equal(await collect_stream(dut, "o", beats), expected(requests), "beats")
    return await asked, await moved


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(beats=[1, 2, 16, 17, 200, 1000])
async def cycles_of_one_request(dut, beats: int) -> None:
    latency = latency_limit()
    asked, moved = await measure(dut, [(0x1000, beats)], latency)
    assert moved == [asked[0] + FIRST_BEAT + latency + beat for beat in range(beats)]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def latency_limit_is_sharp(dut) -> None:
    _, moved = await measure(dut, [(0x1000, 500)], latency_limit() + 1)
    assert moved[-1] - moved[0] > 499


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def cycles_across_requests(dut) -> None:
    """One beat per cycle through requests of whole bursts."""
    requests = [(0x10000 * index, 16 * (1 + index % 4)) for index in range(30)]
    asked, moved = await measure(dut, requests, 1)
    assert moved[0] == asked[0] + FIRST_BEAT + 1
    if bench_parameters()["bursts"] >= 4:
        assert moved == list(range(moved[0], moved[0] + sum(length for _, length in requests)))


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def cycles_of_single_beats(dut) -> None:
    """Requests of one beat each: one in five cycles."""
    requests = [(0x10000 + 16 * index, 1) for index in range(100)]
    _, moved = await measure(dut, requests, 1)
    if bench_parameters()["bursts"] >= 4:
        assert moved == list(range(moved[0], moved[0] + 500, 5))


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=["free", "output", "all"], failing_beat=[0, 37, 199])
async def error_stops(dut, case: str, failing_beat: int) -> None:
    stall = STALLS[case]
    requests = [(0x7F00, 200), (0x20000, 150)]
    failing = frozenset([requests[0][0] + 16 * failing_beat])
    cycles, memory = await begin(dut, latency=20, stall_address=stall.get("address", 0), stall_data=stall.get("data", 0), failing=failing)
    words = expected(requests)
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests]))
    got = []
    rng = bench_random(case)
    failed_at = None
    for _ in range(1200):
        dut.o__ready.value = rng.random() >= stall.get("output", 0)
        await RisingEdge(dut.clk)
        if int(dut.o__valid.value) and int(dut.o__ready.value):
            got.append(int(dut.o__payload.value))
        if int(dut.error.value) and failed_at is None:
            failed_at, issued, offered = cycles.now, len(memory.bursts), int(dut.m_axi_arvalid.value)
            at_error = len(got)
        await FallingEdge(dut.clk)
    assert failed_at is not None and int(dut.error.value)
    assert got == words[: len(got)] and len(got) <= failing_beat
    assert len(got) <= at_error + 1, "output went on after the error"
    assert len(memory.bursts) <= issued + offered, "a burst was issued after the error"
    assert not memory.pending and int(dut.idle.value) and not int(dut.i_request__ready.value)
    assert memory.beats == sum(beats for _, _, beats in memory.bursts)
    await recover(dut, memory)


async def recover(dut, memory: ReadMemory, gap: int = 0) -> None:
    """After clear the reader works as new."""
    memory.failing = frozenset()
    dut.o__ready.value = 0
    dut.i_request__valid.value = 0
    dut.clear.value = 1
    await FallingEdge(dut.clk)
    dut.clear.value = 0
    assert not dut.error.value and not dut.o__valid.value
    for _ in range(gap):
        await FallingEdge(dut.clk)
    requests = [(0x5550, 90), (0x8880, 3)]
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests]))
    assert_equal(await collect_stream(dut, "o", 93), expected(requests), "beats after clear")
    await wait_idle(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def clear_at_any_time(dut, case: str) -> None:
    stall = STALLS[case]
    rng = bench_random(case)
    _, memory = await begin(dut, latency=25, stall_address=stall.get("address", 0), stall_data=stall.get("data", 0))
    for _ in range(12):
        driver = cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in random_requests(rng, 20)]))
        for _ in range(rng.randrange(1, 120)):
            dut.o__ready.value = rng.random() >= stall.get("output", 0)
            await FallingEdge(dut.clk)
        driver.cancel()
        await recover(dut, memory)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.5])
async def reads_from_cocotbext_ram(dut, pause: float) -> None:
    """The same against a memory that is not ours."""
    rng = bench_random("ram")
    idle_stream(dut, sources=("i_request",), sinks=("o",))
    dut.clear.value = 0
    dut.rst.value = 1
    memory = AxiRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
    await start(dut)
    for channel in (memory.ar_channel, memory.r_channel):
        channel.set_pause_generator(iter(lambda: rng.random() < pause, None))
    requests = [(address % (1 << 19), beats) for address, beats in random_requests(rng, 15)]
    for address, beats in requests:
        for beat in range(beats):
            memory.write(address + 16 * beat, content(address + 16 * beat).to_bytes(16, "little"))
    words = expected(requests)
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(*request) for request in requests]))
    assert_equal(await collect_stream(dut, "o", len(words), stall=pause), words, "beats")
