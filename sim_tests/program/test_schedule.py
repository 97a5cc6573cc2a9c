"""The predicted schedule: floors that no machine can beat, and single effects by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.random_graph import random_graph
from rtl.config import AcceleratorConfig, preset
from rtl.program.bandwidth import Bandwidth
from rtl.program.compiler import CompiledProgram, compile_graph
from rtl.program.image import manifest
from rtl.program.isa import Counter, LoadTarget, Opcode
from rtl.program.schedule import Schedule, Timing, pixel_cycles, predict, transfer_bytes
from sim_tests.program.shapes import BASE, MICRO, SMALL

#: A machine without latencies, and a memory that is never in the way.
IDEAL = Timing(attention_job=100, attention_lead=0, drain=0, pixels=1, hazard=0, finish=0, memory_bytes=1e9, latency=0)
PLAIN = Timing(attention_job=200, attention_lead=100, drain=70, pixels=300)


def scheduled(name: str, seed: int, timing: Timing, images: int = 1) -> tuple[Schedule, CompiledProgram, AcceleratorConfig]:
    config = SMALL[name]
    compiled = compile_graph(random_graph(config.shape, seed), config, images)
    return predict(compiled, config, timing), compiled, config


def words_of(compiled: CompiledProgram) -> int:
    tiles = [i.payload for i in compiled.instructions if i.opcode == Opcode.TILE]
    return sum(p["words"] * p["passes"] * p["images"] for p in tiles)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_floors(name: str, images: int, seed: int) -> None:
    """Words of the array, jobs of the attention and bytes from memory bound the cycles; slower parts make no faster machine."""
    schedule, compiled, config = scheduled(name, seed, PLAIN, images)
    size = sum(transfer_bytes(i.opcode, i.payload, config) for i in compiled.instructions)
    attention = images * config.shape.depth * config.shape.heads * config.passes * PLAIN.attention_job
    assert schedule.cycles >= max(words_of(compiled), attention, size / PLAIN.memory_bytes)
    assert schedule.busy(Opcode.TILE) == words_of(compiled) and schedule.busy(Opcode.ATTEND) == attention
    for slower in ({"drain": 500}, {"hazard": 300}, {"latency": 500}, {"memory_bytes": 2.0}, {"finish": 1000}, {"pixels": 5000}):
        assert scheduled(name, seed, replace(PLAIN, **slower), images)[0].cycles >= schedule.cycles


@pytest.mark.parametrize("name", SMALL)
def test_the_account_adds_up(name: str, seed: int) -> None:
    schedule, compiled, _ = scheduled(name, seed, PLAIN, 2)
    assert sum(schedule.account.values()) == schedule.cycles
    assert schedule.account["compute"] == words_of(compiled) and min(schedule.account.values()) >= 0


def test_every_span_follows_its_waits(seed: int) -> None:
    schedule, compiled, _ = scheduled("tiny", seed, IDEAL)
    assert [span.opcode for span in schedule.spans] == [i.opcode for i in compiled.instructions]
    assert all(span.start <= span.done for span in schedule.spans)
    done = [span.done for span in schedule.spans if span.opcode == Opcode.TILE]
    assert done == sorted(done)


def test_one_tile_by_hand(seed: int) -> None:
    """no_layers on an ideal machine: 4 patch tiles of 32 words x 2 passes (fill 16), 16 words x 2 of statistics, then 3 head tiles of 32,
    32 and 16 words x 1 pass.

    The first tile waits for 4 channels x 2 passes x 2 beats of positions and 4 parameters, while its 64 pixels come over a port of their
    own; its fill (16) is not hidden. From
    then on loads (48 cycles a tile) are ahead of the steps (64), and passes alternate, so nothing waits. The first head tile's pass 0 has
    long finished; logits are in no row's memory, so the second and the third fill while the one before computes.
    """
    schedule, compiled, config = scheduled("no_layers", seed, IDEAL)
    tiles = [span for span in schedule.spans if span.opcode == Opcode.TILE]
    assert [i.payload["words"] for i in compiled.instructions if i.opcode == Opcode.TILE] == [32, 32, 32, 32, 16, 32, 32, 16]
    loaded = 16 + 4 + config.rows  # the last item has passed the last row
    assert tiles[0].done == loaded + 16 + 64
    assert tiles[4].done == tiles[0].done + 3 * 64 + 32
    assert tiles[5].done == tiles[4].done + 32
    assert tiles[7].done == tiles[5].done + 32 + 16
    assert schedule.account["input"] == loaded and schedule.account["fill"] == 16


def test_two_images_hide_attention(seed: int) -> None:
    """What one image waits for its attention, the other computes."""
    alone, pair = (scheduled("micro", seed, PLAIN, images)[0] for images in (1, 2))
    assert alone.account["attention"] > 5 * pair.account["attention"] > 0
    assert alone.cycles < pair.cycles < 2 * alone.cycles


def test_weight_ports_share_the_load(seed: int) -> None:
    """Three ports bring the words in a third of the time, unless the memory itself is the limit."""

    def weights(ports: int, memory_bytes: float) -> float:
        config = replace(SMALL["three_ports"], inputs=384, weight_ports=ports)
        schedule = predict(compile_graph(random_graph(config.shape, seed), config), config, replace(IDEAL, memory_bytes=memory_bytes))
        return next(span.busy for span in schedule.spans if span.opcode == Opcode.STREAM)

    assert weights(1, 1e9) == 96 * 384 / 128
    assert weights(3, 1e9) == 96
    assert weights(3, 16.0) >= 3 * 96


def test_transfers_share_the_memory() -> None:
    memory = Bandwidth(32.0)
    assert memory.transfer(10, 64 * 16, 16) == 74  # alone: as fast as its port
    assert memory.transfer(0, 128 * 24, 24) == pytest.approx(128 + 24, abs=24)  # what is left for the next, then all of it
    assert memory.transfer(0, 0, 16) == 0


@pytest.mark.parametrize("rows, cycles", [(66, 12288), (50, 13056)])
def test_pixels(rows: int, cycles: int) -> None:
    """Lines of 48 bytes; grid rows that two passes share are scattered twice. Odd lines go byte by byte."""
    assert pixel_cycles(preset(BASE, rows=rows)) == cycles
    assert pixel_cycles(preset(MICRO)) == 784


@pytest.mark.parametrize("bits, goal", [(6, 400_000), (8, 520_000)])
def test_base_meets_its_goal(bits: int, goal: int) -> None:
    """A pair of images on 66 rows (6 bits) or 50 (8 bits): cycles per image."""
    shape = replace(BASE, bits=bits)
    config = preset(shape)
    schedule = predict(compile_graph(random_graph(shape, 1), config, 2), config, Timing.of(config))
    assert schedule.cycles / 2 < goal
    assert schedule.utilisation > 0.9
    assert schedule.account["weights"] == schedule.account["key_value"] == 0


def test_pixels_and_logits_hold_nothing_up(seed: int) -> None:
    """In the middle of the network they cost no more than their own transfers."""
    config = SMALL["tiny"]
    compiled = compile_graph(random_graph(config.shape, seed), config, 4)
    waits = [i.wait0_value for i in compiled.instructions if i.opcode == Opcode.LOAD and i.payload["target"] != LoadTarget.POSITION]
    assert waits[: waits.index(1)] == [0] * waits.index(1)
    tiles = 0
    for instruction in compiled.instructions:
        tiles += instruction.opcode == Opcode.TILE
        if instruction.opcode == Opcode.STORE and instruction.payload["offset"] < compiled.result_offsets[-2]:
            assert instruction.wait0_value <= tiles - config.weight_buffers


def test_manifest(seed: int) -> None:
    """Windows do not overlap, start on pages, and hold what the program moves."""
    _, compiled, config = scheduled("odd_image", seed, IDEAL, 2)
    description = manifest(
        compiled, model="odd", bits=8, rows=config.rows, image_shape=(9, 9, 1), classes=config.shape.classes, counters=Counter
    )
    end = 0
    for window in description["windows"].values():
        assert window["offset"] % 4096 == 0 and window["offset"] >= end
        end = window["offset"] + window["bytes"]
    assert end <= description["buffer_bytes"]
    assert description["windows"]["image"]["bytes"] == 256 + 96
    assert description["image"] == {"bytes": 81, "shape": [9, 9, 1], "dtype": "uint8", "offsets": [0, 256]}
    assert description["windows"]["result"]["bytes"] == 32
    assert (description["result"]["bytes"], description["result"]["offsets"]) == (6, [0, 16])
    assert description["images"] == 2 and description["counters"]["2"] == "TILES_DONE"
