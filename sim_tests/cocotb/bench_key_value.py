"""Bench of `KeyValueMemory`: what rows emit, in the accelerator's order and with gaps, and every word of both kinds."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, start

KEY, VALUE = 0, 1


class Emitter:
    """Row r emits what row 0 emitted r cycles ago. ``put`` takes one cycle."""

    def __init__(self, dut, sizes, rng):
        self.dut, self.sizes, self.rng = dut, sizes, rng
        self.recent = np.zeros((sizes["rows"], sizes["rows"]), dtype=np.int8)  # [age, row]
        self.widths = (1, 1, bits(sizes["passes"]), bits(sizes["key_value_heads"]), bits(sizes["head_dim"]))

    async def put(self, fields, column):
        self.recent = np.roll(self.recent, 1, axis=0)
        self.recent[0] = column
        self.dut.i.value = concat(fields, self.widths)
        self.dut.values.value = int.from_bytes(self.recent.diagonal().tobytes(), "little")
        await FallingEdge(self.dut.clk)

    async def idle(self):
        noise = [int(self.rng.integers(1 << width)) for width in self.widths[1:]]
        await self.put((0, *noise), self.rng.integers(-127, 128, self.sizes["rows"]))


def bits(count):
    return max(1, (count - 1).bit_length())


def concat(fields, widths):
    word = position = 0
    for value, width in zip(fields, widths, strict=True):
        word, position = word | int(value) << position, position + width
    return word


async def read_words(dut, requests, widths):
    """A request per cycle; words 3 cycles later."""
    words = []
    for cycle in range(len(requests) + 3):
        dut.read.value = concat(requests[min(cycle, len(requests) - 1)], widths)
        await RisingEdge(dut.clk)
        if cycle >= 3:
            words.append(int(dut.word.value))
        await FallingEdge(dut.clk)
    return words


def expected_words(tensors, sizes, chunks):
    """All (request, word): tensors[kind] has shape (places, passes, rows, head_dim); None marks a byte that q multiplies by 0."""
    lanes, head_dim = sizes["lanes"], sizes["head_dim"]
    for head in range(sizes["key_value_heads"]):
        for index in range(sizes["passes"]):
            for group in range(-(-sizes["rows"] // lanes)):
                key, value = (tensors[kind][head, index, group * lanes : (group + 1) * lanes] for kind in (KEY, VALUE))
                base = head * sizes["passes"] + index
                absent = [0] * (lanes - len(key))
                for pair in range(len(key) // 2):
                    first = 0
                    for chunk, size in enumerate(chunks):
                        halves = [[None] * (lanes - size) + list(row[first : first + size]) for row in key[2 * pair : 2 * pair + 2]]
                        yield (KEY, group, (base * lanes // 2 + pair) * len(chunks) + chunk), halves[0] + halves[1]
                        first += size
                for dim in range(0, head_dim, 2):
                    yield (
                        (VALUE, group, base * head_dim // 2 + dim // 2),
                        [*absent, *value[:, dim], *absent, *value[:, dim + 1]],
                    )


@cocotb.test()
async def collects(dut) -> None:
    parameters = bench_parameters()
    sizes = parameters["sizes"]
    rng = np.random.default_rng(bench_random("key_value").getrandbits(64))
    read_widths = (1, bits(-(-sizes["rows"] // sizes["lanes"])), parameters["address_bits"])
    emitter = Emitter(dut, sizes, rng)
    dut.i.value = dut.values.value = dut.read.value = 0
    await start(dut)
    for gap in (0.0, 0.2, 0.7):
        shape = (sizes["key_value_heads"], sizes["passes"], sizes["rows"], sizes["head_dim"])
        tensors = [rng.integers(-127, 128, shape) for _ in range(2)]
        for first in range(0, sizes["key_value_heads"], 2):  # tiles of two heads: [k, k, v, v] of every pass
            for index in range(sizes["passes"]):
                for kind, tensor in enumerate(tensors):
                    for head in range(first, min(first + 2, sizes["key_value_heads"])):
                        for dim in range(sizes["head_dim"]):
                            while rng.random() < gap:
                                await emitter.idle()
                            await emitter.put((1, kind, index, head, dim), tensor[head, index, :, dim])
        for _ in range(parameters["settle"] - 1):
            await emitter.idle()
        pairs = list(expected_words(tensors, sizes, parameters["chunks"]))[::-1]  # the last written is read first
        words = await read_words(dut, [request for request, _ in pairs], read_widths)
        for (request, want), word in zip(pairs, words, strict=True):
            got = np.frombuffer(word.to_bytes(2 * sizes["lanes"], "little"), dtype=np.int8)
            assert_equal([g for g, w in zip(got, want, strict=True) if w is not None], [w for w in want if w is not None], f"{request}")
        assert not int(dut.conflict.value)


@cocotb.test()
async def reports_conflict(dut) -> None:
    """Two chunk ends less than D - 1 cycles apart, which no legal stream has."""
    parameters = bench_parameters()
    sizes, chunks = parameters["sizes"], parameters["chunks"]
    rng = np.random.default_rng(1)
    emitter = Emitter(dut, sizes, rng)
    dut.i.value = dut.values.value = dut.read.value = 0
    await start(dut)
    column = np.zeros(sizes["rows"])
    for apart in (sizes["lanes"] - 1, sizes["lanes"] - 2):
        assert not int(dut.conflict.value)
        await emitter.put((1, KEY, 0, 0, chunks[0] - 1), column)
        for _ in range(apart - 1):
            await emitter.idle()
        await emitter.put((1, KEY, 0, 0, chunks[0] + chunks[1] - 1), column)
        for _ in range(2 * sizes["lanes"]):
            await emitter.idle()
    assert int(dut.conflict.value)
