"""Bench of `DepthEngine` with `ExpansionRing`: every result at its place, in order and to the cycle."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.efficientvit.expansion_ring import WORD_CHANNELS
from rtl.efficientvit.program.pack_depthwise import pack_parameters, pack_weights
from sim_tests.cocotb.depth_layers import Case, Layer
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, start

PARAMETERS = bench_parameters()
BITS, ROWS = PARAMETERS["bits"], PARAMETERS["rows"]


class Monitor:
    """Results of both lanes with their cycles, and cycles of reads and strobes, until stopped."""

    def __init__(self, dut) -> None:
        self.dut, self.cycle = dut, 0
        self.lanes, self.times, self.reads, self.done, self.taken = ([], []), ([], []), [], [], []
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            for index, port in enumerate((dut.lane_0, dut.lane_1)):
                value = int(port.value)
                if value & 1:
                    codes = tuple(value >> 18 + BITS * channel & (1 << BITS) - 1 for channel in range(16))
                    self.lanes[index].append((value >> 1 & 63, value >> 7 & 1023, value >> 17 & 1, codes))
                    self.times[index].append(self.cycle)
            if int(dut.i__valid.value) and int(dut.i__ready.value):
                self.taken.append(self.cycle)
            if int(dut.reads.value):
                self.reads.append(self.cycle)
            if int(dut.done.value):
                self.done.append(self.cycle)
            self.cycle += 1


async def load(dut, port: str, first: int, beats: bytes) -> None:
    for index in range(len(beats) // 16):
        data = int.from_bytes(beats[16 * index : 16 * index + 16], "little")
        getattr(dut, port).value = 1 | first + index << 1 | data << 17
        await FallingEdge(dut.clk)
    getattr(dut, port).value = 0


async def load_layer(dut, layer: Layer) -> None:
    await load(dut, "load_weights", 16 * layer.case.weights, pack_weights(layer.weight))
    packed = pack_parameters(layer.requantizer, layer.weight, layer.pad, BITS)
    await load(dut, "load_parameters", 4 * layer.case.parameters, packed)


async def fill(dut, layer: Layer, lines: range) -> None:
    """Lines of a layer's input, four pixels at a time as rows make them."""
    case, size = layer.case, 1 + 3 + 10 + WORD_CHANNELS * BITS
    pixels = [(x, y) for y in lines for x in range(case.width)]
    for word in range(case.words):
        for first in range(0, len(pixels), 4):
            value = 0
            for port, (x, y) in enumerate(pixels[first : first + 4]):
                bank, address = layer.place(x, y, word)
                codes = layer.codes[y, x, WORD_CHANNELS * word : WORD_CHANNELS * (word + 1)]
                packed = sum(int(code) << BITS * channel for channel, code in enumerate(codes))
                value |= (1 | bank << 1 | address << 4 | packed << 14) << size * port
            dut.write.value = value
            await FallingEdge(dut.clk)
    dut.write.value = 0


async def send(dut, command: int) -> None:
    dut.i__valid.value, dut.i__payload.value = 1, command
    taken = False
    while not taken:
        await RisingEdge(dut.clk)
        taken = bool(dut.i__ready.value)
        await FallingEdge(dut.clk)
    dut.i__valid.value = 0


async def begin(dut) -> Monitor:
    for port in (dut.i__valid, dut.i__payload, dut.load_weights, dut.load_parameters, dut.write):
        port.value = 0
    await start(dut)
    return Monitor(dut)


async def settle(dut, monitor: Monitor, done: int) -> None:
    for _ in range(100_000):
        if len(monitor.done) >= done:
            break
        await FallingEdge(dut.clk)
    for _ in range(3):
        await FallingEdge(dut.clk)
    assert len(monitor.done) == done, f"{len(monitor.done)} strobes of done for {done} commands"


def cases() -> list[Case]:
    return [Case(**case) for case in PARAMETERS["cases"]]


def check(monitor: Monitor, layer: Layer, what: str) -> None:
    for lane in range(2):
        assert_equal(monitor.lanes[lane], layer.expected(lane), f"lane {lane} of {what}")


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def matches_model(dut) -> None:
    """Layer after layer; of each, all line pairs without a bubble, at the published latency."""
    monitor = await begin(dut)
    for index, case in enumerate(cases()):
        rng = np.random.default_rng(bench_random(f"{index}").getrandbits(64))
        layer = Layer(case, BITS, ROWS, rng)
        await load_layer(dut, layer)
        await fill(dut, layer, range(case.height))
        for record in (*monitor.lanes, *monitor.times, monitor.reads, monitor.done, monitor.taken):
            record.clear()
        commands = [layer.layer_command(), *layer.pair_commands()]
        for command in commands:
            await send(dut, command)
        await settle(dut, monitor, len(commands))
        assert not int(dut.conflict.value)
        check(monitor, layer, str(case))
        check_cycles(monitor, case)


def check_cycles(monitor: Monitor, case: Case) -> None:
    steps, times = 3 if case.kernel == 5 else 1, monitor.times[0]
    first = monitor.reads[0] + PARAMETERS["latency"][str(case.kernel)] + steps - 1
    assert monitor.reads[0] - monitor.taken[1] in ((2, 3, 4) if case.kernel == 5 else (2,))
    assert monitor.done[0] == monitor.taken[0] + 1
    pairs, sweeps = -(-case.out_size[0] // 2), case.channels // 16
    total = pairs * sweeps * case.width * steps
    starts = range(first, first + total, case.width * steps)
    centres = range(0, case.width, case.stride)
    assert_equal(times, [start + steps * x for start in starts for x in centres], f"cycles of {case}")
    assert_equal(monitor.reads, [monitor.reads[0] + steps * index for index in range(total // steps)], f"reads of {case}")
    # a pair is done a cycle after its last result
    each = sweeps * case.width * steps
    ends = [first + each * (pair + 1) - steps * (case.width - centres[-1]) + 1 for pair in range(pairs)]
    assert_equal(monitor.done[1:], ends, f"done of {case}")


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def survives_stalls(dut) -> None:
    """Commands with gaps, a ring of fewer lines than the image, the next layer's constants loaded while this one runs."""
    monitor = await begin(dut)
    rng, done = bench_random("stalls"), 0
    listed = [Case(**case) for case in PARAMETERS["stalled"]]
    layers = [Layer(case, BITS, ROWS, np.random.default_rng(index + 1)) for index, case in enumerate(listed)]
    await load_layer(dut, layers[0])
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        case, written = layer.case, 0
        loading = cocotb.start_soon(load_layer(dut, after)) if after else None
        await send(dut, layer.layer_command())
        done += 1
        for pair, command in enumerate(layer.pair_commands()):
            need = 1 + max(line for line in case.input_lines(2 * pair) if line is not None)
            while written < need:
                if written >= case.ring_lines:  # the line it replaces must have been read
                    await settle(dut, monitor, done)
                await fill(dut, layer, range(written, written + 1))
                written += 1
            while rng.random() < 0.9:
                await FallingEdge(dut.clk)
            await send(dut, command)
            done += 1
        if loading is not None:
            await loading
        await settle(dut, monitor, done)
        check(monitor, layer, str(case))
        for record in (*monitor.lanes, *monitor.times):
            record.clear()
    assert not int(dut.conflict.value)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def layer_waits(dut) -> None:
    """Its registers serve all that is on its way: commands of three layers in a row."""
    monitor, commands, firsts = await begin(dut), [], []
    layers = [Layer(Case(**case), BITS, ROWS, np.random.default_rng(index + 1)) for index, case in enumerate(PARAMETERS["queued"])]
    for index, layer in enumerate(layers):
        layer.base = 100 * index
        await load_layer(dut, layer)
        await fill(dut, layer, range(layer.case.height))
        firsts.append(len(commands))
        commands += [layer.layer_command(), *layer.pair_commands()]
    for command in commands:
        await send(dut, command)
    await settle(dut, monitor, len(commands))
    for lane in range(2):
        assert_equal(monitor.lanes[lane], [item for layer in layers for item in layer.expected(lane)], f"lane {lane}")
    for first in firsts[1:]:
        assert monitor.taken[first] == monitor.done[first - 1] + 2, f"layer taken in {monitor.taken[first]}, done {monitor.done[first - 1]}"
        assert monitor.done[first] == monitor.taken[first] + 1


@cocotb.test()
async def reports_conflict(dut) -> None:
    """Two writers of one bank; four of four banks before do not count."""
    await begin(dut)
    size = 1 + 3 + 10 + WORD_CHANNELS * BITS
    for banks in ((0, 1, 2, 3), (4, 5, 6, 4)):
        assert not int(dut.conflict.value)
        dut.write.value = sum((1 | bank << 1) << size * port for port, bank in enumerate(banks))
        await FallingEdge(dut.clk)
        dut.write.value = 0
        for _ in range(6):
            await FallingEdge(dut.clk)
    assert int(dut.conflict.value)
