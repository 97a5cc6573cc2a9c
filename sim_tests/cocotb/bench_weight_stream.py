"""The weight stream against memories that wait and stall: every word of every slice, posts in order, hidden latency, window checks."""

import random

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.program.isa import PAYLOAD, Opcode, weight_item_bits
from rtl.transfer import DmaError
from sim_tests.cocotb.helpers import bench_parameters, bench_random, drive_stream, idle_stream, start
from sim_tests.cocotb.request_memory import RequestMemory, content_bytes

BASE, BYTES = 0x12_3456_7000, 1 << 20


def instruction(post: int | None = None, opcode: int = Opcode.STREAM, **fields: int) -> int:
    word, at = 0, 0
    for name, width in PAYLOAD[Opcode.STREAM]:
        word |= fields[name] << at
        at += width
    return opcode | word << 4 | (0 if post is None else 1 | post << 1) << 180


class Port(RequestMemory):
    """One port's memory, and what is written from it."""

    def __init__(self, dut, port: int, **stalls) -> None:
        super().__init__(dut, f"o_read_{port}", f"i_beats_{port}", **stalls)
        self.port = port
        self.writes: list[tuple[int, int]] = []
        cocotb.start_soon(self._watch(dut, getattr(dut, f"write_{port}")))

    async def _watch(self, dut, write) -> None:
        while True:
            await RisingEdge(dut.clk)
            if int(write.value) & 1:
                self.writes.append((int(write.value) >> 1 & 0xFFFF, int(write.value) >> 17))


def expected(fields: dict[str, int], port: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The request of one port, and its writes."""
    inputs = bench_parameters()["inputs"]
    width = weight_item_bits(inputs)
    address = BASE + fields["offset"] + port * fields["stride"]
    beats = -(-fields["items"] * width // 128)
    bits = content_bytes(address, 16 * beats)
    words = (int.from_bytes(bits[index * width // 8 : (index + 1) * width // 8], "little") for index in range(fields["items"]))
    return (address, beats), [(fields["address"] + index, word & (1 << inputs) - 1) for index, word in enumerate(words)]


def random_runs(rng: random.Random, count: int, longest: int) -> list[dict[str, int]]:
    runs = []
    for _ in range(count):
        items = rng.choice([1, 2, 3, rng.randrange(1, longest + 1), longest])
        offset, stride = 16 * rng.randrange(8000), 16 * rng.randrange(8000)
        runs.append({"offset": offset, "stride": stride, "items": items, "address": rng.randrange(30_000)})
    return runs


async def begin(dut, latency: int = 1, stall: float = 0.0) -> list[Port]:
    ports = range(bench_parameters()["ports"])
    idle_stream(dut, sources=("i", *(f"i_beats_{port}" for port in ports)), sinks=[f"o_read_{port}" for port in ports])
    dut.clear.value = 0
    dut.weights.value = BASE | BYTES << 40
    memories = [Port(dut, port, latency=latency, stall=stall) for port in ports]
    await start(dut)
    return memories


async def run(dut, memories: list[Port], runs: list[dict[str, int]], limit: int) -> int:
    """Feeds the runs; checks every write and that post k comes after the last write of run k in every port. Returns the cycles taken."""
    posts, needed, totals = 0, [], [0] * len(memories)
    for fields in runs:
        totals = [total + fields["items"] for total in totals]
        needed.append(list(totals))
    cocotb.start_soon(drive_stream(dut, "i", [instruction(post=index % 16, **fields) for index, fields in enumerate(runs)]))
    cycles = 0
    while posts < len(runs) and cycles < limit:
        await FallingEdge(dut.clk)
        post = int(dut.post.value)
        if post & 1:
            assert post >> 1 == posts % 16, f"post {posts} names counter {post >> 1}"
            for memory, need in zip(memories, needed[posts], strict=True):
                assert len(memory.writes) >= need, f"post {posts} came when port {memory.port} had written {len(memory.writes)} of {need}"
            posts += 1
        cycles += 1
    assert posts == len(runs), f"{posts} of {len(runs)} posts after {limit} cycles"
    for memory in memories:
        wanted = [expected(fields, memory.port) for fields in runs]
        assert memory.requests == [request for request, _ in wanted]
        assert memory.writes == [write for _, writes in wanted for write in writes], f"port {memory.port} wrote something else"
        assert not memory.left
    assert not int(dut.error.value)
    return cycles


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(latency=[1, 60], stall=[0.0, 0.5])
async def writes_every_word(dut, latency: int, stall: float) -> None:
    memories = await begin(dut, latency, stall)
    await run(dut, memories, random_runs(bench_random(f"{latency} {stall}"), 25, 40), 40_000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def hides_latency(dut) -> None:
    """Runs of 150 words at latency 100: only the first one waits."""
    memories = await begin(dut, 100)
    runs = [{"offset": 4096 * index, "stride": 1 << 17, "items": 150, "address": 200 * index} for index in range(8)]
    width = weight_item_bits(bench_parameters()["inputs"])
    cycles = await run(dut, memories, runs, 20_000)
    moving = 8 * 150 * max(1, width // 128) + (8 if width < 128 else 0)
    assert cycles <= moving + 100 + 40, f"{cycles} cycles for {moving} of transfer"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def window_is_exact(dut) -> None:
    """The last byte of the last slice may be the window's last, but no more; nothing of a bad instruction moves, and clear recovers."""
    memories = await begin(dut)
    ports, width = len(memories), weight_item_bits(bench_parameters()["inputs"])
    items = max(1, 128 // width) * 3
    size = items * width // 8
    stride = 1 << 12
    fits = BYTES - size - (ports - 1) * stride
    await run(dut, memories, [{"offset": fits, "stride": stride, "items": items, "address": 5}], 1000)
    good = {"offset": 0, "stride": 16, "items": items, "address": 0}
    bad = [{**good, "offset": fits + 16, "stride": stride}, {**good, "offset": 8}, {**good, "items": 0}, {**good, "offset": (1 << 32) - 16}]
    if ports > 1:
        bad += [{**good, "stride": 8}, {**good, "stride": (1 << 32) - 16, "offset": 16 * ports}]
    wrong = [(instruction(**fields), DmaError.WINDOW_OVERRUN) for fields in bad]
    wrong.append((instruction(opcode=Opcode.TILE, **good), DmaError.BAD_INSTRUCTION))
    for word, error in wrong:
        before = [(len(memory.requests), len(memory.writes)) for memory in memories]
        driver = cocotb.start_soon(drive_stream(dut, "i", [word, instruction(**good)]))
        for _ in range(40):
            await FallingEdge(dut.clk)
            assert not int(dut.post.value) & 1
        assert int(dut.error.value) == error, f"{int(dut.error.value)} instead of {error!r} for {word:#x}"
        assert before == [(len(memory.requests), len(memory.writes)) for memory in memories]
        driver.cancel()
        dut.i__valid.value = 0
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
        for memory in memories:
            memory.requests.clear()
            memory.writes.clear()
        await run(dut, memories, [good, good], 1000)
        for memory in memories:
            memory.requests.clear()
            memory.writes.clear()
