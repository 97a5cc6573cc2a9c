"""The window former: every window of images against numpy, in the row and at the address where it belongs, at every precision."""

from __future__ import annotations

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.bus.axi import BEAT_BYTES
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.row_bus import WINDOW_CODES
from rtl.efficientvit.window_former import WindowFormer

SHAPES = {"28x28x1": (28, 1), "32x32x3": (32, 3)}
#: Output lines of each WINDOW; 0: all that are left.
SPLITS = {"whole": [0], "fours": [4, 4, 0], "ones": [1, 1, 2, 1, 0]}
PADS = (17, 0, 200)
LIMIT = 10_000


def windows(image: np.ndarray, bits: int = 8) -> np.ndarray:
    """(output pixel, code): 3 x 3 windows, two pixels apart, one pixel of padding."""
    size, _, channels = image.shape
    padded = np.broadcast_to(np.array(PADS[:channels], np.uint8), (size + 2, size + 2, channels)).copy()
    padded[1:-1, 1:-1] = image
    padded >>= 8 - bits
    found = [padded[y : y + 3, x : x + 3].ravel() for y in range(0, size, 2) for x in range(0, size, 2)]
    return np.array(found)


def jobs(size: int, rows: int, split: list[int], region: tuple[int, int], address: int, bits: int = 8) -> list[dict]:
    """WINDOWs of one image from ``address`` on, one after the other through the region."""
    done, found, width = 0, [], size // 2
    count = region[1] - region[0] + 1
    for lines in split:
        lines = lines or width - done
        passes, row = divmod(done * width, rows)
        place = region[0] + (address - region[0] + passes) % count
        found.append({"first": done == 0, "lines": lines, "row": row, "address": place, "region": region[0], "region_end": region[1],
                      "pads": [pad >> 8 - bits for pad in PADS]})  # fmt: skip
        done += lines
    assert done == width
    return found


class Bench:
    """``lanes`` : (cycle, row, address, codes) of every window; ``lines`` : cycles from one line's first window to the next one's"""

    def __init__(self, size: int, channels: int, rows: int, bits: int = 8):
        self.bits, self.dut = bits, WindowFormer(EfficientVitMachine(image_size=size, channels=channels, rows=rows, bits=bits))
        self.lanes: list[tuple] = []

    def run(self, images: list[np.ndarray], work: list[dict], stall: float, seed: str) -> None:
        dut, rng = self.dut, random.Random(seed)
        begun = 0

        async def feed(ctx):
            """An image's beats come after its first WINDOW, as its request does."""
            for number, image in enumerate(images):
                while begun <= number:
                    await ctx.tick()
                beats = image.tobytes()
                for at in range(0, len(beats), BEAT_BYTES):
                    while rng.random() < stall:
                        await ctx.tick()
                    ctx.set(dut.i_beats.payload.data, int.from_bytes(beats[at : at + BEAT_BYTES], "little"))
                    ctx.set(dut.i_beats.valid, 1)
                    await ctx.tick().until(dut.i_beats.ready)
                    ctx.set(dut.i_beats.valid, 0)

        async def drive(ctx):
            nonlocal begun
            for job in work:
                ctx.set(dut.job, job)
                ctx.set(dut.start, 1)
                await ctx.tick()
                ctx.set(dut.start, 0)
                begun += job["first"]
                for _ in range(LIMIT):
                    if ctx.get(dut.idle):
                        break
                    await ctx.tick()
                assert ctx.get(dut.idle), f"not idle after {LIMIT} cycles"
                assert not ctx.get(dut.o.valid), "idle, and a window on its way"
            for _ in range(20):
                await ctx.tick()

        async def watch(ctx):
            cycle = 0
            async for _, _, o in ctx.tick().sample(dut.o):
                if o.valid:
                    codes = [o.data >> self.bits * place & (1 << self.bits) - 1 for place in range(WINDOW_CODES)]
                    self.lanes.append((cycle, o.row, o.address, codes))
                cycle += 1

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(feed, background=True)
        simulator.add_testbench(watch, background=True)
        simulator.add_testbench(drive)
        simulator.run()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows, region, stall, bits", [(16, (5, 8), 0.0, 8), (49, (0, 511), 0.3, 8), (16, (5, 8), 0.3, 5)])
def test_windows_of_two_images(shape: str, split: str, rows: int, region: tuple[int, int], stall: float, bits: int) -> None:
    size, channels = SHAPES[shape]
    images = list(np.random.default_rng(size + rows).integers(0, 256, (2, size, size, channels), np.uint8))
    bench = Bench(size, channels, rows, bits)
    starts = [region[0], region[1]]  # the second image begins at the region's end
    work = [job for start in starts for job in jobs(size, rows, SPLITS[split], region, start, bits)]
    bench.run(images, work, stall, f"{shape} {split}")
    count, at = region[1] - region[0] + 1, 0
    for number, (image, start) in enumerate(zip(images, starts, strict=True)):
        for pixel, expected in enumerate(windows(image, bits)):
            cycle, row, address, got = bench.lanes[at]
            at += 1
            passes, expected_row = divmod(pixel, rows)
            what = f"image {number}, pixel {pixel}, cycle {cycle}"
            assert (row, address) == (expected_row, region[0] + (start - region[0] + passes) % count), what
            assert got[: len(expected)] == expected.tolist(), what
            assert not any(got[len(expected) :]), what
    assert at == len(bench.lanes)


def test_a_window_per_cycle() -> None:
    """A line's windows come without a gap; an image takes as long as its bytes do, at 4 columns per cycle and a beat per cycle."""
    size, rows = 32, 16
    image = np.zeros((size, size, 3), np.uint8)
    bench = Bench(size, 3, rows)
    bench.run([image], jobs(size, rows, [0], (0, 511), 0), 0.0, "rate")
    cycles = [cycle for cycle, *_ in bench.lanes]
    width = size // 2
    for line in range(width):
        some = cycles[line * width : (line + 1) * width]
        assert some == list(range(some[0], some[0] + width))
    assert cycles[-1] - cycles[0] <= width * (width + 3)


def test_clear_abandons_an_image() -> None:
    size, rows = 28, 16
    images = list(np.random.default_rng(1).integers(0, 256, (2, size, size, 1), np.uint8))
    dut, found = WindowFormer(EfficientVitMachine(image_size=size, channels=1, rows=rows)), []
    job = jobs(size, rows, [0], (0, 511), 0)[0]

    async def image(ctx, number: int, lines: int | None):
        ctx.set(dut.job, job)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        data = images[number].tobytes()
        for at in range(0, len(data) if lines is None else lines * size // BEAT_BYTES * BEAT_BYTES, BEAT_BYTES):
            ctx.set(dut.i_beats.payload.data, int.from_bytes(data[at : at + BEAT_BYTES], "little"))
            ctx.set(dut.i_beats.valid, 1)
            await ctx.tick().until(dut.i_beats.ready)
        ctx.set(dut.i_beats.valid, 0)

    async def drive(ctx):
        await image(ctx, 0, 9)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.idle)
        found.clear()
        await image(ctx, 1, None)
        await ctx.tick().until(dut.idle)

    async def watch(ctx):
        async for _, _, o in ctx.tick().sample(dut.o):
            if o.valid:
                found.append(o.data)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch, background=True)
    simulator.add_testbench(drive)
    simulator.run()
    expected = [int.from_bytes(window.tobytes(), "little") for window in windows(images[1])]
    assert found == expected
