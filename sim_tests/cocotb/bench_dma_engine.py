"""The DMA engine with its loader, behind a model of the load bus: what every row would write, posts, stores, windows."""

from __future__ import annotations

import random

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.dma_engine import DmaError
from rtl.program.isa import PAYLOAD, LoadTarget, Opcode
from rtl.row_bus import LANES, LoadBus, LoadKind
from sim_tests.cocotb.helpers import bench_random, drive_stream, idle_stream, start
from sim_tests.cocotb.load_bus import STALLS, Geometry, Rows, instruction, same
from sim_tests.cocotb.request_memory import RequestMemory, content_bytes

WEIGHTS, IMAGE, RESULT = WINDOWS = (0x10_0000_0000, 1 << 24), (0x20_0000_0100, 1 << 20), (0x30_0000_0010, 1 << 16)
ITEM_BYTES = {LoadTarget.PARAMETER: 8, LoadTarget.NORM: 4, LoadTarget.TABLE: 1, LoadTarget.POSITION: 16}


def expected_positions(geometry: Geometry, address: int, channels: int, first: int, image: int) -> dict[tuple[int, ...], int]:
    """As `isa.LoadTarget` says: channel, pass, group, parity; rows of a parity in bytes l and l + 1 of a beat."""
    beats = np.frombuffer(content_bytes(address, 16 * geometry.positions(channels)), np.uint8)
    beats = beats.reshape(channels, geometry.passes, geometry.groups, 2, 16).astype(int)
    expected = {}
    for row in range(geometry.rows):
        lane = row % LANES
        beat = beats[:, :, row // LANES, lane % 2]
        values = beat[..., lane] | beat[..., (lane + 1) % 16] << 8
        for (channel, pass_index), value in np.ndenumerate(values):
            expected[LoadKind.POSITION.value, row, image, pass_index, first + channel] = int(value)
    return expected


class Bench:
    """Drives instructions, watches everything.

    Attributes
    ----------
    rows : `Rows`        parameters, norms : writes        posts : (cycle, counter)        stored : address -> byte
    """

    def __init__(self, dut, *, latency: int = 1, stall: float = 0.0, hold: float = 0.0) -> None:
        self.dut, self.hold = dut, hold
        self.geometry = Geometry()
        self.memory = RequestMemory(dut, "o_read", "i_beats", latency=latency, stall=stall)
        self.rng, self.stall = bench_random("bench"), stall
        self.rows = Rows(self.geometry.rows)
        self.parameters: list[tuple[int, int]] = []
        self.norms: list[tuple[int, int]] = []
        self.posts: list[tuple[int, int]] = []
        self.stored: dict[int, int] = {}
        self.stores: list[tuple[int, int]] = []
        self.ended = self.cycle = 0
        self._answer: int | None = None
        self._held = self._due = 0

    async def run(self, instructions: list[int], posts: int, limit: int) -> None:
        """Until that many posts came."""
        driver = cocotb.start_soon(drive_stream(self.dut, "i", instructions, stall=self.stall))
        begin = self.cycle
        while len(self.posts) < posts:
            assert self.cycle - begin < limit, f"{len(self.posts)} of {posts} posts after {limit} cycles"
            await self.step()
        for _ in range(3):
            await self.step()
        assert driver.done() and not self.memory.left

    async def step(self) -> None:
        dut, rng = self.dut, self.rng
        hold, pixels = int(rng.random() < self.hold), self._pixels()
        dut.hold_position.value, dut.pixels.value = hold, pixels
        ready = [int(rng.random() >= self.stall) for _ in range(2)]
        dut.o_write__ready.value, dut.o_beats__ready.value = ready
        dut.write_done.value = int(self._answer == self.cycle)
        await RisingEdge(dut.clk)
        beat, image = int(dut.logit_address.value) & 511, int(dut.logit_address.value) >> 9
        logits = sum(logit_at(8 * beat + k | image << 12) << 16 * k for k in range(8))
        self._watch_store(ready)
        for name, writes in (("write_parameter", self.parameters), ("write_norm", self.norms)):
            word = int(getattr(dut, name).value)
            if word & 1:
                writes.append((word >> 1 & 0xFFFF, word >> 17))
        load = int(dut.load.value)
        if self._due:
            assert load == self._due, "a beat of pixels enters the bus in the next cycle"
        elif load & 1:
            assert self.rows.take(load, self.cycle) != LoadKind.POSITION or not self._held, "a position in spite of hold"
        post = int(dut.post.value)
        if post & 1:
            self.posts.append((self.cycle, post >> 1))
        self.ended += int(dut.done.value)
        self._held, self._due = hold, pixels
        self.cycle += 1
        await FallingEdge(dut.clk)
        dut.logits.value = logits

    def _pixels(self) -> int:
        """A beat of pixels, or none: as often as ``hold``."""
        word = self.rng.getrandbits(LoadBus.size) | 1
        kind = LoadBus["kind"].offset
        return (word & ~(3 << kind) | LoadKind.PIXEL.value << kind) if self.rng.random() < self.hold else 0

    def _watch_store(self, ready: list[int]) -> None:
        dut = self.dut
        if ready[0] and int(dut.o_write__valid.value):
            word = int(dut.o_write__payload.value)
            self.stores.append((word & (1 << 40) - 1, word >> 40))
            self._left = list(range(self.stores[-1][0], self.stores[-1][0] + 16 * self.stores[-1][1], 16))
        if ready[1] and int(dut.o_beats__valid.value):
            word, address = int(dut.o_beats__payload.value), self._left.pop(0)
            for byte in range(16):
                if word >> 128 + byte & 1:
                    self.stored[address + byte] = word >> 8 * byte & 0xFF
            if not self._left:
                self._answer = self.cycle + 7


def logit_at(address: int) -> int:
    return (address * 40503 + 77) % 65521


async def begin(dut, **stalls) -> Bench:
    idle_stream(dut, sources=("i", "i_beats"), sinks=("o_read", "o_write", "o_beats"))
    for name in ("clear", "write_done", "hold_position", "pixels", "logits"):
        getattr(dut, name).value = 0
    dut.windows.value = sum((base | size << 40) << 72 * index for index, (base, size) in enumerate(WINDOWS))
    bench = Bench(dut, **stalls)
    await start(dut)
    return bench


def load(target: int, items: int, *, offset: int, address: int = 0, image: int = 0, post: int | None = 1) -> int:
    return instruction(Opcode.LOAD, post, target=target, offset=offset, items=items, address=address, image=image)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def positions_reach_their_rows(dut, case: str) -> None:
    bench = await begin(dut, **STALLS[case])
    geometry, expected, program = bench.geometry, {}, []
    for image, first, channels, offset in ((0, 0, 5, 0x100), (1, 3, 4, 0x20000), (0, 5, 1, 0x9000)):
        program.append(load(LoadTarget.POSITION, geometry.positions(channels), offset=offset, address=first, image=image))
        expected |= expected_positions(geometry, WEIGHTS[0] + offset, channels, first, image)
    await bench.run(program, 3, 50_000)
    same(bench.rows.written, expected, "positions")


def random_load(rng: random.Random, geometry: Geometry) -> dict[str, int]:
    target = rng.choice([LoadTarget.PARAMETER, LoadTarget.NORM, LoadTarget.TABLE])
    items = rng.choice([1, 2, 3, 4, 5, 15, 16, 17, rng.randrange(1, 80)])
    address = rng.randrange(256 - items) + 256 * rng.randrange(2) if target == LoadTarget.TABLE else rng.randrange(60_000)
    return {"target": target, "items": items, "offset": 16 * rng.randrange(5000), "address": address}


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS))
async def items_reach_their_memories(dut, case: str) -> None:
    """PARAMETER, NORM and TABLE, back to back; posts in order."""
    bench = await begin(dut, **STALLS[case])
    rng = bench_random(case)
    loads = [random_load(rng, bench.geometry) for _ in range(60)]
    found: dict[LoadTarget, list[tuple[int, int]]] = {target: [] for target in LoadTarget}
    for fields in loads:
        size = ITEM_BYTES[fields["target"]]
        source = content_bytes(WEIGHTS[0] + fields["offset"], size * fields["items"])
        for index in range(fields["items"]):
            value = int.from_bytes(source[size * index : size * (index + 1)], "little")
            found[fields["target"]].append((fields["address"] + index, value))
    tables: list[tuple[int, int]] = []
    bench.rows._write = lambda place, value: tables.append((place, value))  # tables are written many times
    await bench.run([load(**fields, post=index % 16) for index, fields in enumerate(loads)], len(loads), 50_000)
    assert [counter for _, counter in bench.posts] == [index % 16 for index in range(len(loads))]
    assert bench.parameters == [(address, value & (1 << 45) - 1) for address, value in found[LoadTarget.PARAMETER]]
    assert bench.norms == found[LoadTarget.NORM]
    kind = LoadKind.TABLE.value
    rows = range(bench.geometry.rows)
    assert tables == [((kind, row, 0, 0, address), value) for address, value in found[LoadTarget.TABLE] for row in rows]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def small_loads_hide_latency(dut) -> None:
    bench = await begin(dut, latency=80)
    program = [load(LoadTarget.PARAMETER, 60, offset=1024 * index, address=60 * index) for index in range(10)]
    await bench.run(program, 10, 20_000)
    assert bench.posts[-1][0] <= 600 + 80 + 10 * 9 + bench.geometry.rows + 30, bench.posts


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(case=list(STALLS), items=[1, 8, 10, 37], image=[0, 1])
async def stores_after_loads(dut, case: str, items: int, image: int) -> None:
    """Logits of the image go out, only those; the store waits for the LOAD before it, END for the store."""
    bench = await begin(dut, **STALLS[case])
    program = [load(LoadTarget.NORM, 50, offset=0), instruction(Opcode.STORE, 5, offset=0x30, items=items, image=image)]
    program += [load(LoadTarget.NORM, 3, offset=0, post=6), instruction(Opcode.END, status=0)]
    watch = cocotb.start_soon(_store_begins_late(dut, bench))
    await bench.run(program, 3, 5000)
    for _ in range(60):
        await bench.step()
    assert [counter for _, counter in bench.posts] == [1, 5, 6] and bench.ended == 1 and watch.done()
    base = RESULT[0] + 0x30
    assert bench.stores == [(base, -(-items // 8))]
    expected = b"".join(logit_at(index | image << 12).to_bytes(2, "little") for index in range(items))
    same(bench.stored, {base + at: byte for at, byte in enumerate(expected)}, "logits")


async def _store_begins_late(dut, bench: Bench) -> None:
    while not int(dut.o_write__valid.value):
        await RisingEdge(dut.clk)
    assert len(bench.norms) == 50, f"the store began when {len(bench.norms)} of 50 items had been written"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def windows_are_exact(dut) -> None:
    bench = await begin(dut)
    size = WEIGHTS[1]
    await bench.run([load(LoadTarget.NORM, 5, offset=size - 32)], 1, 1000)
    result = RESULT[1]
    overrun, bad = DmaError.WINDOW_OVERRUN, DmaError.BAD_INSTRUCTION
    wrong = [
        (load(LoadTarget.NORM, 9, offset=size - 32), overrun),
        (load(LoadTarget.POSITION, 3, offset=size - 32), overrun),
        (load(LoadTarget.PARAMETER, 0, offset=0), overrun),
        (load(LoadTarget.PARAMETER, 1, offset=4), overrun),
        (load(LoadTarget.TABLE, 1, offset=(1 << 32) - 16), overrun),
        (load(LoadTarget.TABLE, (1 << 24) - 1, offset=(1 << 32) - 16), overrun),
        (load(4, 1, offset=0), bad),
        (instruction(Opcode.STORE, offset=result - 16, items=9, image=0), overrun),
        (instruction(Opcode.STORE, offset=0, items=0, image=0), overrun),
        (7, bad),
        (instruction(Opcode.TILE, **{name: 0 for name, _ in PAYLOAD[Opcode.TILE]}), bad),
    ]
    for word, error in wrong:
        before = (len(bench.memory.requests), len(bench.stores), len(bench.norms), bench.ended)
        driver = cocotb.start_soon(drive_stream(dut, "i", [word, load(LoadTarget.NORM, 1, offset=0)]))
        for _ in range(40 + bench.geometry.rows):
            await bench.step()
        assert int(dut.error.value) == error, f"{int(dut.error.value)} instead of {error!r} for {word:#x}"
        assert before == (len(bench.memory.requests), len(bench.stores), len(bench.norms), bench.ended) and len(bench.posts) == 1
        driver.cancel()
        dut.i__valid.value = 0
        dut.clear.value = 1
        await bench.step()
        dut.clear.value = 0
        await bench.run([load(LoadTarget.NORM, 5, offset=0)], 2, 1000)
        bench.posts.pop()
