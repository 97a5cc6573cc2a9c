"""The writer against memories that stall, wait and fail: bytes, bursts, done, exact cycles, errors and clear."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiRamWrite, AxiWriteBus

from sim_tests.bus.axi_models import Cycles, WriteMemory
from sim_tests.cocotb.helpers import bench_parameters, bench_random, drive_stream, idle_stream, start

STALLS = {
    "free": {},
    "address": {"address": 0.8},
    "data": {"data": 0.6},
    "response": {"response": 0.8},
    "input": {"input": 0.6},
    "all": {"address": 0.5, "data": 0.3, "response": 0.5, "input": 0.3},
}


def pack(address: int, beats: int) -> int:
    return address | beats << 40


def random_beats(rng, count: int) -> list[int]:
    """Data with the strobes above; most strobes are full."""
    return [rng.getrandbits(128) | (0xFFFF if rng.random() < 0.7 else rng.getrandbits(16)) << 128 for _ in range(count)]


def stored(address: int, beats: list[int]) -> dict[int, int]:
    """The bytes that such beats write."""
    found = {}
    for index, beat in enumerate(beats):
        for byte in range(16):
            if beat >> 128 + byte & 1:
                found[address + 16 * index + byte] = beat >> 8 * byte & 0xFF
    return found


def memory_stalls(case: str) -> dict:
    return {f"stall_{channel}": STALLS[case].get(channel, 0.0) for channel in ("address", "data", "response")}


async def begin(dut, **memory) -> tuple[Cycles, WriteMemory]:
    idle_stream(dut, sources=("i_request", "i"), sinks=())
    dut.clear.value = 0
    cycles = Cycles(dut)
    memory.setdefault("rng", bench_random("memory"))
    model = WriteMemory(dut, cycles, "m_axi", **memory)
    cocotb.start_soon(watch_outstanding(dut, model))
    await start(dut)
    return cycles, model


async def watch_outstanding(dut, model: WriteMemory) -> None:
    while True:
        await FallingEdge(dut.clk)
        assert len(model.bursts) - model.responses <= bench_parameters()["bursts"]


async def until_done(dut, limit: int = 5000) -> int:
    """Cycles until done, which is a pulse of one cycle."""
    for cycle in range(limit):
        await RisingEdge(dut.clk)
        if int(dut.done.value):
            await RisingEdge(dut.clk)
            assert not int(dut.done.value)
            await FallingEdge(dut.clk)
            return cycle
    raise AssertionError(f"not done after {limit} cycles")


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS), latency=[1, 20])
async def writes_bytes(dut, case: str, latency: int) -> None:
    rng = bench_random(case)
    _, memory = await begin(dut, latency=latency, **memory_stalls(case))
    expected = {}
    for index in range(12):
        offset = rng.randrange(256) if rng.random() < 0.5 else rng.randrange(240, 256)
        address = (rng.randrange(1 << 20) * 4096 + 16 * offset) if index else (1 << 40) - 512
        beats = random_beats(rng, rng.choice([1, 2, 15, 16, 17, rng.randrange(1, 201)]) if index else 32)
        expected |= stored(address, beats)
        source = cocotb.start_soon(drive_stream(dut, "i", beats, stall=STALLS[case].get("input", 0)))
        cocotb.start_soon(drive_stream(dut, "i_request", [pack(address, len(beats))]))
        await until_done(dut)
        assert memory.quiet and source.done() and int(dut.idle.value) and not int(dut.error.value)
    assert memory.bytes == expected
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(0x1000, 0)]))
    await until_done(dut)
    assert memory.bytes == expected


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(beats=[1, 2, 16, 17, 120, 200])
async def cycles_of_one_request(dut, beats: int) -> None:
    """Taken in t: first beat on the bus in t + 7, one per cycle, last response after the memory's latency, done two cycles after."""
    latency = 8
    cycles, _ = await begin(dut, latency=latency)
    cocotb.start_soon(drive_stream(dut, "i", random_beats(bench_random("data"), beats)))
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.i_request__payload.value = pack(0x1000, beats)
    dut.i_request__valid.value = 1
    await RisingEdge(dut.clk)
    assert int(dut.i_request__ready.value)
    taken, moved = cycles.now, []
    await FallingEdge(dut.clk)
    dut.i_request__valid.value = 0
    while True:
        await RisingEdge(dut.clk)
        if int(dut.m_axi_wvalid.value) and int(dut.m_axi_wready.value):
            moved.append(cycles.now)
        if int(dut.done.value):
            break
    assert moved == [taken + 7 + beat for beat in range(beats)]
    assert cycles.now == taken + 6 + beats + latency + 2
    await RisingEdge(dut.clk)
    assert int(dut.i_request__ready.value)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS), failing_beat=[0, 40, 199])
async def error_stops(dut, case: str, failing_beat: int) -> None:
    rng = bench_random(case)
    address, beats = 0x7F00, random_beats(rng, 200)
    failing = frozenset([address + 16 * failing_beat])
    _, memory = await begin(dut, latency=10, failing=failing, **memory_stalls(case))
    source = cocotb.start_soon(drive_stream(dut, "i", beats + beats, stall=STALLS[case].get("input", 0)))
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(address, 200)]))
    while not int(dut.error.value):
        await RisingEdge(dut.clk)
        assert not int(dut.done.value)
    issued = len(memory.bursts) + int(dut.m_axi_awvalid.value)
    for _ in range(400):
        await RisingEdge(dut.clk)
        assert not int(dut.done.value) and not int(dut.i__ready.value) and int(dut.error.value)
        assert not int(dut.i_request__ready.value)
    assert int(dut.idle.value) and memory.quiet and memory.responses == len(memory.bursts) <= issued
    expected = stored(address, beats)
    assert all(expected[place] == value for place, value in memory.bytes.items()), "a byte was written that should not be"
    source.cancel()
    await FallingEdge(dut.clk)
    memory.failing = frozenset()
    await recover(dut, memory)


async def recover(dut, memory: WriteMemory) -> None:
    """After clear the writer works as new."""
    dut.i__valid.value = 0
    dut.i_request__valid.value = 0
    dut.clear.value = 1
    await FallingEdge(dut.clk)
    dut.clear.value = 0
    assert not int(dut.error.value)
    address, beats = 0x55550, random_beats(bench_random("recover"), 70)
    cocotb.start_soon(drive_stream(dut, "i_request", [pack(address, len(beats))]))
    while not int(dut.i_request__ready.value):
        await FallingEdge(dut.clk)
    memory.bytes.clear()
    cocotb.start_soon(drive_stream(dut, "i", beats))
    await until_done(dut)
    assert memory.bytes == stored(address, beats)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def clear_at_any_time(dut, case: str) -> None:
    rng = bench_random(case)
    _, memory = await begin(dut, latency=15, **memory_stalls(case))
    for _ in range(10):
        memory.bytes.clear()
        beats = random_beats(rng, 150)
        request = cocotb.start_soon(drive_stream(dut, "i_request", [pack(0x20080, 150)]))
        source = cocotb.start_soon(drive_stream(dut, "i", beats, stall=STALLS[case].get("input", 0)))
        for _ in range(rng.randrange(1, 90)):
            await FallingEdge(dut.clk)
        request.cancel()
        source.cancel()
        expected = stored(0x20080, beats)
        assert all(expected[place] == value for place, value in memory.bytes.items())
        await recover(dut, memory)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.5])
async def writes_to_cocotbext_ram(dut, pause: float) -> None:
    """The same against a memory that is not ours."""
    rng = bench_random("ram")
    idle_stream(dut, sources=("i_request", "i"), sinks=())
    dut.clear.value = 0
    dut.rst.value = 1
    memory = AxiRamWrite(AxiWriteBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
    await start(dut)
    for channel in (memory.aw_channel, memory.w_channel, memory.b_channel):
        channel.set_pause_generator(iter(lambda: rng.random() < pause, None))
    for _ in range(8):
        address, beats = rng.randrange(1 << 15) * 16, random_beats(rng, rng.randrange(1, 150))
        memory.write(address, bytes(16 * len(beats)))
        cocotb.start_soon(drive_stream(dut, "i", beats, stall=pause))
        cocotb.start_soon(drive_stream(dut, "i_request", [pack(address, len(beats))]))
        await until_done(dut)
        image = stored(address, beats)
        assert memory.read(address, 16 * len(beats)) == bytes(image.get(address + index, 0) for index in range(16 * len(beats)))
