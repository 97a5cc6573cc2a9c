"""The INPUT engine behind a model of the load bus: what every row would write, posts, cycles, windows."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.program.isa import Opcode
from rtl.row_bus import LANES, LoadKind
from rtl.transfer import DmaError
from sim_tests.cocotb.helpers import bench_parameters, bench_random, drive_stream, idle_stream, start
from sim_tests.cocotb.load_bus import STALLS, Geometry, Rows, instruction, same
from sim_tests.cocotb.request_memory import RequestMemory, content_bytes

BASE, SIZE = 0x20_0000_0100, 1 << 20
SETTLE = 8  # cycles after hold has risen until the last beat that was on its way is out


def expected_pixels(geometry: Geometry, address: int, image: int) -> dict[tuple[int, ...], int]:
    shape = geometry.shape
    size, patch, grid = shape.image_size, shape.patch_size, shape.grid
    pixels = np.frombuffer(content_bytes(address, geometry.image_bytes()), np.uint8).reshape(grid, patch, grid, patch * shape.channels)
    tokens = pixels.transpose(0, 2, 1, 3).reshape(grid * grid, shape.patch_dim)
    assert tokens.size == size * size * shape.channels
    expected = {}
    for (token, channel), value in np.ndenumerate(tokens):
        pass_index, row = divmod(token + shape.first_patch, geometry.rows)
        expected[LoadKind.PIXEL.value, row, image, pass_index, channel] = int(value)
    return expected


class Bench:
    """Drives instructions, watches the load bus and the posts.

    Attributes
    ----------
    rows : `Rows`        posts : (cycle, counter)
    """

    def __init__(self, dut, *, latency: int = 1, stall: float = 0.0, hold: float = 0.0) -> None:
        self.dut, self.hold, self.stall = dut, hold, stall
        self.geometry = Geometry()
        self.memory = RequestMemory(dut, "o_read", "i_beats", latency=latency, stall=stall)
        self.rng, self.rows = bench_random("bench"), Rows(self.geometry.rows)
        self.posts: list[tuple[int, int]] = []
        self.cycle = self.held = 0

    async def run(self, instructions: list[int], posts: int, limit: int) -> None:
        """Until that many posts came."""
        driver = cocotb.start_soon(drive_stream(self.dut, "i", instructions, stall=self.stall))
        begin = self.cycle
        while len(self.posts) < posts:
            assert self.cycle - begin < limit, f"{len(self.posts)} of {posts} posts after {limit} cycles"
            await self.step()
        assert driver.done() and not self.memory.left

    async def step(self) -> None:
        """One cycle. Hold changes at random, and stays for some cycles."""
        if self.rng.random() < 0.1:
            self.dut.hold.value = int(self.rng.random() < self.hold)
        await RisingEdge(self.dut.clk)
        self.held = self.held + 1 if int(self.dut.hold.value) else 0
        load, post = int(self.dut.o.value), int(self.dut.post.value)
        if load & 1:
            assert self.held <= SETTLE, "a beat in spite of hold"
            assert self.rows.take(load, self.cycle) == LoadKind.PIXEL
        if post & 1:
            self.posts.append((self.cycle, post >> 1))
        self.cycle += 1
        await FallingEdge(self.dut.clk)


async def begin(dut, **stalls) -> Bench:
    idle_stream(dut, sources=("i", "i_beats"), sinks=("o_read",))
    dut.clear.value = dut.hold.value = 0
    dut.window.value = BASE | SIZE << 40
    bench = Bench(dut, **stalls)
    await start(dut)
    return bench


def image_at(offset: int, items: int, *, image: int = 0, post: int | None = 5) -> int:
    return instruction(Opcode.INPUT, post, offset=offset, items=items, image=image)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS), image=[0, 1])
async def pixels_reach_their_rows(dut, case: str, image: int) -> None:
    """Twice, so that the second image finds everything as it was."""
    bench = await begin(dut, **STALLS[case])
    geometry = bench.geometry
    for count in (1, 2):
        offset = 0x40 * count
        await bench.run([image_at(offset, geometry.image_bytes(), image=image)], count, 200_000)
        same(bench.rows.written, expected_pixels(geometry, BASE + offset, image), "pixels")
        assert bench.posts[-1] == (bench.rows.last + geometry.rows + 4, 5), "the post comes when the last row has its beat"
        bench.rows.written.clear()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def images_follow_each_other(dut) -> None:
    """Into both slots; the second waits in front of the engine."""
    bench = await begin(dut, latency=30)
    size = bench.geometry.image_bytes()
    await bench.run([image_at(0, size, image=0), image_at(0x80, size, image=1, post=9)], 2, 400_000)
    same(bench.rows.written, expected_pixels(bench.geometry, BASE, 0) | expected_pixels(bench.geometry, BASE + 0x80, 1), "pixels")
    assert [counter for _, counter in bench.posts] == [5, 9]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def image_cycles(dut) -> None:
    """A beat per cycle, limited by what comes in or by what goes out."""
    bench = await begin(dut)
    geometry = bench.geometry
    await bench.run([image_at(0, geometry.image_bytes())], 1, 200_000)
    incoming = geometry.image_bytes() // (LANES if bench_parameters()["turns"] else 1)
    cycles = bench.posts[-1][0]
    dut._log.info(f"image in {cycles} cycles, {bench.rows.beats} beats out")
    line = -(-geometry.image_bytes() // geometry.shape.image_size // LANES) * bench_parameters()["turns"]
    assert cycles <= max(incoming, bench.rows.beats) + line + geometry.rows + 60


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def windows_are_exact(dut) -> None:
    """Whole images inside the window, and nothing else; after clear everything is as new, also in the middle of an image."""
    bench = await begin(dut)
    size = bench.geometry.image_bytes()
    last = SIZE - -(-size // 16) * 16
    await bench.run([image_at(last, size)], 1, 200_000)
    bench.rows.written.clear()
    overrun, bad = DmaError.WINDOW_OVERRUN, DmaError.BAD_INSTRUCTION
    wrong = [
        (image_at(last + 16, size), overrun),
        (image_at(4, size), overrun),
        (image_at((1 << 32) - 16, size), overrun),
        (image_at(0, size - 1), bad),
        (image_at(0, 0), bad),
        (instruction(Opcode.STORE, offset=0, items=8, image=0), bad),
    ]
    for word, error in wrong:
        before = (len(bench.memory.requests), bench.rows.beats, len(bench.posts))
        driver = cocotb.start_soon(drive_stream(dut, "i", [word, image_at(0, size)]))
        for _ in range(40 + bench.geometry.rows):
            await bench.step()
        assert int(dut.error.value) == error, f"{int(dut.error.value)} instead of {error!r} for {word:#x}"
        assert before == (len(bench.memory.requests), bench.rows.beats, len(bench.posts))
        await _clear(dut, bench, driver)
    driver = cocotb.start_soon(drive_stream(dut, "i", [image_at(0, size)]))
    for _ in range(30):
        await bench.step()
    bench.memory.left.clear()
    await _clear(dut, bench, driver)
    bench.rows.written.clear()
    await bench.run([image_at(0x20, size)], 2, 200_000)
    same(bench.rows.written, expected_pixels(bench.geometry, BASE + 0x20, 0), "pixels")


async def _clear(dut, bench: Bench, driver) -> None:
    driver.cancel()
    dut.i__valid.value = 0
    dut.clear.value = 1
    await bench.step()
    dut.clear.value = 0
