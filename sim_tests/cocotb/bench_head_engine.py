"""Bench of `HeadEngine`: whole heads against the model, image after image; every kind alone at its extremes; and to the cycle."""

import cocotb
import numpy as np

from model.efficientvit import integer
from model.efficientvit.graph import Requantizer
from rtl.efficientvit.head_command import HeadKind
from rtl.efficientvit.program.pack_head import pack_linear, pack_norm, pack_pool
from sim_tests.cocotb.head_machine import BITS, TOP, Linear, Machine, Norm, Pooled
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random

PARAMETERS = bench_parameters()


def numbers(salt: object) -> np.random.Generator:
    return np.random.default_rng(bench_random(salt).getrandbits(64))


async def begin(dut) -> Machine:
    machine = Machine(dut)
    await machine.reset()
    return machine


async def put_values(machine: Machine, values: np.ndarray) -> None:
    """Values as they are: outputs whose weights are 0 are their biases."""
    one = np.ones(len(values), dtype=np.int64)
    layer = Linear(np.random.default_rng(0), np.zeros(32, dtype=np.int64), 0, len(values))
    layer.weight = np.zeros_like(layer.weight)
    layer.requantizer = Requantizer(bias=values, multiplier=one << 12, shift=12 * one)
    await layer.run(machine, 100, norm_vector=0, logits=0, image=0)
    await machine.until()


async def vector(machine: Machine, norm_vector: int, codes: int, image: int = 1) -> list[int]:
    """A vector, read through logits: each code times one."""
    layer = Linear(np.random.default_rng(0), np.zeros(codes, dtype=np.int64), 0, codes)
    layer.weight, one = np.eye(codes, dtype=np.int64), np.ones(codes, dtype=np.int64)
    layer.requantizer = Requantizer(bias=0 * one, multiplier=one << 12, shift=12 * one)
    await layer.run(machine, max(1, 500 // layer.words), norm_vector=norm_vector, logits=1, image=image)
    await machine.until()
    return await machine.logits(codes, image)


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def whole_heads(dut) -> None:
    """Pool, fully connected, LayerNorm with Hardswish, fully connected, as the network has them; images of both slots."""
    machine = await begin(dut)
    for index, case in enumerate(PARAMETERS["heads"]):
        channels, hidden, classes, pixels, rows = (case[name] for name in ("channels", "hidden", "classes", "pixels", "rows"))
        what, rng, image = str(case), numbers(f"head {index}"), index & 1
        codes = rng.integers(0, TOP + 1, (pixels, channels))
        pooled = Pooled(rng, codes.sum(0), pixels)
        first = Linear(rng, pooled.codes, pooled.target_zero, hidden)
        norm = Norm(rng, first.values, fraction=case["fraction"], hardswish=case["hardswish"])
        last = Linear(rng, norm.codes, norm.zero, classes)
        await machine.pool(codes, rows)
        await pooled.run(machine, case["piece"])
        await first.run(machine, max(1, 512 // first.words), norm_vector=0, logits=0, image=0)
        await norm.run(machine, case["piece"])
        await last.run(machine, max(1, 512 // last.words), norm_vector=1, logits=1, image=image)
        await machine.until()
        assert len(machine.done) == machine.sent
        assert_equal(await machine.logits(classes, image), last.values.tolist(), f"logits of {what}")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def pools_of_any_size(dut) -> None:
    machine = await begin(dut)
    for index, (pixels, rows, channels, piece) in enumerate(((16, 49, 96, 96), (49, 49, 32, 32), (81, 49, 64, 32), (324, 49, 32, 32))):
        rng = numbers(f"pool {index}")
        codes = rng.integers(0, TOP + 1, (pixels, channels)) if index else np.full((pixels, channels), TOP)
        pooled = Pooled(rng, codes.sum(0), pixels)
        await machine.pool(codes, rows)
        await pooled.run(machine, piece)
        await machine.until()
        assert_equal(await vector(machine, 0, channels), pooled.codes.tolist(), f"{pixels} pixels, {channels} channels")


def norm_inputs(kind: str, channels: int, rng) -> np.ndarray:
    if kind == "random":
        return rng.integers(-(1 << 15), 1 << 15, channels) >> int(rng.integers(0, 14))
    if kind == "constant":
        return np.full(channels, int(rng.choice((-(1 << 15), -1, 0, 7, (1 << 15) - 1))))
    values = np.full(channels, -(1 << 15))
    if kind == "halves":
        values[::2] = (1 << 15) - 1
    else:
        values[int(rng.integers(channels))] = (1 << 15) - 1
    return values


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def norms_of_any_values(dut) -> None:
    """Extremes of the statistics and of every shift."""
    machine = await begin(dut)
    for index, (kind, channels, piece) in enumerate(PARAMETERS["norms"]):
        rng = numbers(f"norm {index}")
        values = norm_inputs(kind, channels, rng)
        norm = Norm(rng, values, fraction=index % 16, hardswish=6 + index % 7)
        await put_values(machine, values)
        await norm.run(machine, piece)
        await machine.until()
        assert_equal(await vector(machine, 1, min(channels, 512)), norm.codes[:512].tolist(), f"{kind}, {channels} channels, norm {index}")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def largest_sums(dut) -> None:
    """Codes and weights of one sign: the accumulator's ends, of as many inputs as there can be."""
    machine = await begin(dut)
    for value, zero in ((0, 0), (TOP, TOP)):
        pooled = Pooled(np.random.default_rng(1), np.zeros(4096, dtype=np.int64), 1)
        ones = np.ones(4096, dtype=np.int64)
        pooled.zero, pooled.target_zero, pooled.low = 0, value, 0
        pooled.requantizer = Requantizer(bias=0 * ones, multiplier=ones, shift=12 * ones)
        await machine.pool(np.zeros((1, 4096), dtype=np.int64), 16)
        await pooled.run(machine, 256)
        for sign in (-127, 127):
            layer = Linear(np.random.default_rng(2), np.full(4096, value), zero, 2)
            layer.weight = np.full((2, 4096), sign)
            layer.zero = middle = 1 << (BITS - 1)  # nothing to fold
            bias = np.array([0, 3])
            layer.requantizer = Requantizer(bias=bias, multiplier=np.full(2, 8000), shift=np.full(2, 24))
            sums = layer.weight @ np.full(4096, value - middle)
            await layer.run(machine, 1, norm_vector=0, logits=1, image=0)
            await machine.until()
            expected = integer.requantize_code(sums, layer.requantizer, 0, integer.WIDE)
            assert_equal(await machine.logits(2), expected.tolist(), f"codes {value}, weights {sign}")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def back_to_back(dut) -> None:
    """LINEARs that wait follow each other without a bubble, whatever their sizes; each kind takes the cycles that it publishes."""
    machine, rng = await begin(dut), numbers("back to back")
    codes = rng.integers(0, TOP + 1, (16, 96))
    pooled = Pooled(rng, codes.sum(0), 16)
    await machine.pool(codes, 16)
    await pooled.run(machine, 96)
    await machine.until()
    assert machine.done[0] - machine.taken[0] == 1 + PARAMETERS["cycles"]["pool"], (machine.taken, machine.done)
    sizes = [(1, 1), (1, 1), (3, 2), (1, 7), (2, 1), (1, 1), (3, 20), (2, 5), (3, 1), (3, 1), *[(1, 1)] * 40, (1, 3)]
    layers = [Linear(rng, pooled.codes[: 32 * words], pooled.target_zero, 2 * pairs) for words, pairs in sizes]
    commands, weight, parameter, pair = [], 1000, 0, 0
    for (words, pairs), layer in zip(sizes, layers, strict=True):
        await machine.weights(weight, layer.parts(0, pairs)[0])
        await machine.parameters(parameter, pack_linear(layer.requantizer, layer.weight, layer.zero, BITS))
        commands.append(dict(words=words, pairs=pairs, first=pair, weights=weight, parameters=parameter, norm_vector=0, logits=1, image=1))
        weight, parameter, pair = (weight + words * pairs) % 1024, parameter + pairs, pair + pairs
    await machine.wait(3)
    before = len(machine.done)
    for command in commands:
        await machine.send(HeadKind.LINEAR, **command)
    await machine.until()
    done, taken = machine.done[before:], machine.taken[before:]
    work = [words * pairs for words, pairs in sizes]
    ends = [taken[0] + 1 + sum(work[: index + 1]) + PARAMETERS["linear_latency"] for index in range(len(work))]
    assert_equal(done, ends, "cycles of done")
    assert_equal(await machine.logits(2 * pair, 1), [v for layer in layers for v in layer.values.tolist()], "logits")

    values = rng.integers(-3000, 3000, 96)
    await put_values(machine, values)
    before = len(machine.done)
    norm = Norm(rng, values, 5, 10)
    await norm.run(machine, 64)
    await machine.until()
    assert machine.done[before] - machine.taken[before] == 1 + PARAMETERS["cycles"]["norm"]
    assert machine.done[before + 1] - max(machine.taken[before + 1], machine.done[before]) == 1 + PARAMETERS["cycles"]["codes"]
    assert_equal(await vector(machine, 1, 96), norm.codes.tolist(), "norm")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def commands_wait_for_each_other(dut) -> None:
    """All of a head's commands at once: each begins when what it reads is written. Twice, for the second time nothing is what it was."""
    machine = await begin(dut)
    for index in range(2):
        rng = numbers(f"waiting {index}")
        codes = rng.integers(0, TOP + 1, (16, 64))
        pooled = Pooled(rng, codes.sum(0), 16)
        first = Linear(rng, pooled.codes, pooled.target_zero, 96)
        norm = Norm(rng, first.values, 5, 10)
        last = Linear(rng, norm.codes, norm.zero, 32)
        await machine.until()
        await machine.parameters(0, pack_pool(pooled.requantizer, 16, pooled.zero))
        await machine.parameters(100, first.parts(0, 48)[1])
        await machine.parameters(200, pack_norm(norm.norm))
        await machine.parameters(300, last.parts(0, 16)[1])
        await machine.weights(0, first.parts(0, 48)[0])
        await machine.weights(500, last.parts(0, 16)[0])
        await machine.pool(codes, 16)
        fields = {"norm_vector": 0, "logits": 0, "image": 0, "words": 2}
        await machine.send(HeadKind.POOL, **pooled.fields(), words=2, first=0, parameters=0)
        await machine.send(HeadKind.LINEAR, **fields, pairs=40, first=0, weights=0, parameters=100)
        await machine.send(HeadKind.LINEAR, **fields, pairs=8, first=40, weights=80, parameters=140)
        await machine.send(HeadKind.NORM, **norm.fields(), statistics=1, words=1, first=0, parameters=200)
        await machine.send(HeadKind.NORM, **norm.fields(), statistics=0, words=2, first=1, parameters=232)
        await machine.send(HeadKind.LINEAR, words=3, norm_vector=1, logits=1, image=0, pairs=16, first=0, weights=500, parameters=300)
        await machine.until()
        assert_equal(await machine.logits(32), last.values.tolist(), f"head {index}")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def both_images_stay(dut) -> None:
    """Logits of one slot are not touched by the other's, nor by values."""
    machine, rng = await begin(dut), numbers("images")
    codes = rng.integers(0, TOP + 1, (16, 32))
    pooled = Pooled(rng, codes.sum(0), 16)
    await machine.pool(codes, 16)
    await pooled.run(machine, 32)
    layers = [Linear(rng, pooled.codes, pooled.target_zero, 40) for _ in range(3)]
    for slot, layer in enumerate(layers):
        where = dict(logits=1, image=slot) if slot < 2 else dict(logits=0, image=0)
        await layer.run(machine, 7, norm_vector=0, **where)
    await machine.until()
    for slot in range(2):
        assert_equal(await machine.logits(40, slot), layers[slot].values.tolist(), f"slot {slot}")
