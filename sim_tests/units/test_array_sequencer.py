"""The sequencer's commands, cycle by cycle, against a plain account of what each TILE asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from amaranth.sim import Simulator

from model.graph import DeitShape
from rtl.array_sequencer import ArraySequencer
from rtl.config import AcceleratorConfig
from rtl.program.isa import PAYLOAD, Accumulate, Destination, Mask, Opcode, Source
from rtl.row_bus import WriteKind
from rtl.row_units import RowUnits

SHAPE = DeitShape(name="s", bits=8, image_size=28, channels=1, patch_size=7, embed_dim=64, depth=1, heads=4, hidden_dim=256, classes=10)
CONFIG = AcceleratorConfig(shape=SHAPE, rows=6, inputs=64, lanes=6, tile_words=192)
TIMING = RowUnits(CONFIG).timing
DRAIN = 40


@dataclass
class Commands:
    """(cycle, fields) of every valid command, and (cycle, counter) of every post."""

    fills: list[tuple[int, dict[str, int]]]
    computes: list[tuple[int, dict[str, int]]]
    posts: list[tuple[int, int]]


def tile(**fields: int) -> dict[str, int]:
    defaults = dict(words=64, planes=1, images=1, passes=3, activations=64, destination=Destination.RESIDUAL)
    return {name: int(fields.get(name, defaults.get(name, 0))) for name, _ in PAYLOAD[Opcode.TILE]}


def run(tiles: list[dict[str, int]], gap: float, seed: int) -> Commands:
    dut, found, rng = ArraySequencer(CONFIG, TIMING, DRAIN), Commands([], [], []), random.Random(seed)

    async def drive(ctx):
        for number, fields in enumerate(tiles):
            while rng.random() < gap:
                await ctx.tick()
            ctx.set(dut.i.payload.tile, fields)
            ctx.set(dut.i.payload.post, {"enable": 1, "counter": number % 16})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def watch(ctx):
        names = [name for name, _ in dut.compute.shape()]
        cycle = quiet = 0
        async for _, _, fill, compute, post, active in ctx.tick().sample(dut.fill, dut.compute, dut.post, dut.active):
            cycle += 1
            if fill.valid:
                found.fills.append((cycle, {name: int(fill[name]) for name, _ in dut.fill.shape()}))
            if compute.valid:
                found.computes.append((cycle, {n: int(getattr(compute[n], "value", compute[n])) for n in names}))
            if post.enable:
                found.posts.append((cycle, int(post.counter)))
            quiet = 0 if active else quiet + 1
            if quiet > 2 * DRAIN and len(found.posts) == len(tiles):
                return

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive, background=True)
    simulator.add_testbench(watch)
    simulator.run()
    return found


def steps(tiles):
    """(tile number, fields, image, pass) in order."""
    for number, fields in enumerate(tiles):
        for image in range(fields["images"]):
            for step in range(fields["passes"]):
                yield number, fields, fields["image"] ^ image, fields["first_pass"] + step


def expected_computes(tiles):
    for index, (_, fields, image, pass_index) in enumerate(steps(tiles)):
        for word in range(fields["words"]):
            channel, plane = divmod(word, fields["planes"])
            yield index, fields, image, pass_index, word, channel, plane


def destination_of(fields, channel) -> tuple[int, int, int, int]:
    """kind, address, head, dim of a finished channel."""
    if fields["destination"] == Destination.QKV:
        section, rest = divmod(channel, fields["heads"] * SHAPE.head_dim)
        head, dim = divmod(rest, SHAPE.head_dim)
        address = fields["base_channel"] * SHAPE.head_dim + channel
        return (WriteKind.ACTIVATION, WriteKind.KEY, WriteKind.VALUE)[section].value, address, fields["key_value_head"] + head, dim
    kinds = {
        Destination.ACTIVATION: WriteKind.ACTIVATION,
        Destination.RESIDUAL: WriteKind.RESIDUAL,
        Destination.LOGITS: WriteKind.LOGIT,
    }
    return kinds[fields["destination"]].value, fields["base_channel"] + channel, 0, 0


def random_tile(rng: random.Random) -> dict[str, int]:
    destination = rng.choice(list(Destination))
    fields = dict(destination=destination, image=rng.randrange(2), passes=rng.randint(1, 3), weight_address=rng.randrange(400))
    fields |= dict(activations=rng.randint(2, 64), source=rng.choice(list(Source)), norm_address=rng.randrange(128), base_channel=3)
    if fields["image"] == 0 and rng.random() < 0.4:
        fields["images"] = 2
    if destination == Destination.QKV:
        heads = rng.randint(1, 3)
        return tile(**fields, heads=heads, words=3 * heads * SHAPE.head_dim, key_value_head=rng.randrange(5), accumulate=0)
    fields |= dict(planes=rng.choice([1, 8]), accumulate=rng.choice(list(Accumulate)), mask=rng.choice(list(Mask)))
    fields |= dict(
        statistics=int(destination == Destination.RESIDUAL and rng.random() < 0.5),
        source_channel=rng.choice([0, 64]),
        source_image=rng.randrange(2),
    )
    return tile(**fields, words=fields["planes"] * rng.randint(3, 20))


@pytest.mark.parametrize("gap", [0.0, 0.9])
def test_every_command(gap: float, seed: int) -> None:
    rng = random.Random(seed)
    tiles = [random_tile(rng) for _ in range(30)]
    found = run(tiles, gap, seed)
    expected = list(expected_computes(tiles))
    assert len(found.computes) == len(expected)
    for (_, got), (index, fields, image, pass_index, word, channel, plane) in zip(found.computes, expected, strict=True):
        only = fields["accumulate"] in (Accumulate.FIRST, Accumulate.MIDDLE)
        last = plane == fields["planes"] - 1
        assert got["weight_address"] == fields["weight_address"] + word
        assert got["parameter_address"] == fields["weight_address"] + channel
        assert (got["image"], got["pass_index"], got["bank"]) == (image, pass_index, index % 2)
        assert (got["plane_first"], got["plane_last"]) == (plane == 0, last)
        assert got["store"] == (last and only) and got["accumulator_address"] == channel
        assert got["mask"] == (fields["mask"] if fields["mask"] == Mask.ALL or pass_index == 0 else Mask.NONE)
        assert got["statistics_last"] == (fields["statistics"] and word == fields["words"] - 1)
        kind, address, head, dim = destination_of(fields, channel)
        assert got["kind"] == (kind if last and not only else 0)
        if got["kind"]:
            assert got["address"] == address
        if kind in (WriteKind.KEY.value, WriteKind.VALUE.value):
            assert (got["head"], got["dim"]) == (head, dim)
    assert [counter for _, counter in found.posts] == [number % 16 for number in range(len(tiles))]


def test_every_fill(seed: int) -> None:
    rng = random.Random(seed)
    tiles = [random_tile(rng) for _ in range(30)]
    fills = iter(run(tiles, 0.3, seed).fills)
    for index, (_, fields, image, pass_index) in enumerate(steps(tiles)):
        for number in range(-(-fields["activations"] // 16) * 16):
            _, got = next(fills)
            assert got["address"] == fields["source_channel"] + number and got["zero"] == (number >= fields["activations"])
            assert got["norm_address"] == fields["norm_address"] + number and got["first"] == (number == 0)
            source = image if fields["source"] == Source.NORMALIZED else image ^ fields["image"] ^ fields["source_image"]
            assert (got["image"], got["pass_index"], got["bank"]) == (source, pass_index, index % 2)
    assert next(fills, None) is None


def test_full_rate_and_timing() -> None:
    """Three passes of long steps follow without a gap, and a pass is filled again only when its results are in place."""
    tiles = [tile(words=180, statistics=1), tile(words=180, source=Source.NORMALIZED), tile(words=90), tile(words=190, passes=1)]
    found = run(tiles, 0.0, 1)
    cycles = [cycle for cycle, _ in found.computes]
    assert cycles[: 6 * 180 + 3 * 90] == list(range(cycles[0], cycles[0] + 6 * 180 + 3 * 90))
    last_word: dict[int, tuple[int, int]] = {}
    starts = {cycle: got["pass_index"] for cycle, got in found.fills if got["first"]}
    for cycle, got in found.computes:
        if (number := got["pass_index"]) in last_word and last_word[number][0] + 1 < cycle:
            ended, statistics = last_word[number]
            fill = max(c for c, p in starts.items() if p == number and c < cycle)
            assert fill > ended + TIMING.hazard + (TIMING.finish if statistics else 0)
        last_word[number] = cycle, got["statistics_last"]


def test_logits_take_no_pass() -> None:
    """Tiles of logits all run on pass 0, and yet follow without a gap: nothing that they write is filled."""
    found = run([tile(words=90, destination=Destination.LOGITS, passes=1, images=2)] * 3, 0.0, 1)
    cycles = [cycle for cycle, _ in found.computes]
    assert cycles == list(range(cycles[0], cycles[0] + 6 * 90))


def test_post_and_minimum() -> None:
    """The post comes `drain` cycles after the last word; short steps that gather statistics are stretched."""
    found = run(
        [tile(words=20, statistics=1, activations=16), tile(words=20, statistics=1, activations=16, passes=1, first_pass=2)], 0.0, 1
    )
    starts = [cycle for cycle, got in found.computes if got["statistics_first"]]
    assert starts[1] - starts[0] == starts[2] - starts[1] == TIMING.finish + 2
    assert found.posts[0][0] == starts[2] + 19 + DRAIN
