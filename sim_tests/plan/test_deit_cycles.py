"""DeiT's event model: floors that no machine can beat, and single effects by hand. What it is worth: test_cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from model.random_graph import random_graph
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig, preset
from rtl.flow.ddr import IDEAL, Memory
from rtl.plan.bandwidth import Bandwidth
from rtl.plan.deit_array import Timing, pixel_cycles
from rtl.plan.deit_cycles import Schedule, schedule, transfer_bytes
from rtl.program.compiler import compile_graph, outlines
from rtl.program.isa import Instruction, LoadTarget, Opcode
from sim_tests.program.shapes import BASE, MICRO, SMALL

ATTENTION = AttentionConfig.of(preset(MICRO))  # attention of the smallest machines breaks laws that cycles do not depend on


def scheduled(name: str, seed: int, memory: Memory = IDEAL, images: int = 1, **timing: int) -> tuple[Schedule, Sequence[Instruction]]:
    """``timing``: what replaces the units' own."""
    config = SMALL[name]
    instructions = outlines(random_graph(config.shape, seed), config, (images,))[0]
    published = Timing(attention=ATTENTION, drain=70, pixels=pixel_cycles(config), hazard=62, finish=60)
    return schedule(instructions, config, memory, replace(published, **timing)), instructions


def words_of(instructions: Sequence[Instruction]) -> int:
    tiles = [i.payload for i in instructions if i.opcode == Opcode.TILE]
    return sum(p["words"] * p["passes"] * p["images"] for p in tiles)


def moved(instructions: Sequence[Instruction], config: AcceleratorConfig) -> int:
    return sum(transfer_bytes(Opcode(i.opcode), i.payload, config) for i in instructions)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_floors(name: str, images: int, seed: int) -> None:
    """Words of the array, jobs of the attention and bytes from memory bound the cycles; slower parts make no faster machine."""
    found, instructions = scheduled(name, seed, images=images)
    config = SMALL[name]
    size = moved(instructions, config) + 32 * len(instructions)
    jobs = images * config.shape.depth * config.shape.heads * config.passes
    attention = jobs * (ATTENTION.score_cycles + ATTENTION.output_cycles)
    assert found.bytes_moved == size
    assert found.cycles >= max(words_of(instructions), attention, size / IDEAL.bytes_per_cycle)
    assert found.account["compute"] == words_of(instructions) and found.attending == attention
    for slower in ({"drain": 500}, {"hazard": 300}, {"finish": 1000}, {"pixels": 5000}):
        assert scheduled(name, seed, images=images, **slower)[0].cycles >= found.cycles
    for memory in ({"latency": 500}, {"peak_bytes_per_cycle": 2.0}, {"refresh_period": 1000, "refresh_length": 500}):
        assert scheduled(name, seed, replace(IDEAL, **memory), images)[0].cycles >= found.cycles


@pytest.mark.parametrize("name", SMALL)
def test_the_account_adds_up(name: str, seed: int) -> None:
    found, instructions = scheduled(name, seed, Memory(), 2)
    assert sum(found.account.values()) == found.cycles
    assert found.account["compute"] == words_of(instructions) and min(found.account.values()) >= 0


def test_tiles_by_hand(seed: int) -> None:
    """no_layers: 4 patch tiles of 32 words x 2 passes, 16 x 2 of statistics, then 3 head tiles of 32, 32 and 16 words, 1 pass: 368 words.

    From the first on, loads (48 cycles a tile) are ahead of the steps (64), passes alternate, and fills (16) hide: but for the first one,
    and that of the first head tile, which has no words of the tile before to hide behind. Logits are in no row's memory, so the others fill
    while the one before computes.
    """
    found, instructions = scheduled("no_layers", seed, hazard=0, finish=0, drain=0)
    assert [i.payload["words"] for i in instructions if i.opcode == Opcode.TILE] == [32, 32, 32, 32, 16, 32, 32, 16]
    assert found.account["compute"] == 2 * 4 * 32 + 2 * 16 + 32 + 32 + 16
    assert found.account["fill"] <= 16 + 2 * 16 and found.account["hazard"] == 0


def test_two_images_hide_attention(seed: int) -> None:
    """What one image waits for its attention, the other computes."""
    alone, pair = (scheduled("micro", seed, Memory(), images)[0] for images in (1, 2))
    assert alone.account["attention"] > 5 * pair.account["attention"]
    assert alone.cycles < pair.cycles < 2 * alone.cycles


def test_weight_ports_share_the_load(seed: int) -> None:
    """Three ports bring the words in a third of the time, unless the memory itself is the limit."""

    def weights(ports: int, memory_bytes: float) -> float:
        config = replace(SMALL["three_ports"], inputs=384, weight_ports=ports)
        published = Timing(attention=ATTENTION, drain=70, pixels=pixel_cycles(config), hazard=62, finish=60)
        instructions = outlines(random_graph(config.shape, seed), config, (1,))[0]
        found = schedule(instructions, config, replace(IDEAL, peak_bytes_per_cycle=memory_bytes), published)
        return found.streaming

    assert weights(1, 1e6) == pytest.approx(3 * weights(3, 1e6))
    assert weights(3, 16.0) >= 3 * weights(3, 1e6)


def test_users_share_a_port() -> None:
    port = Bandwidth(2.0)
    assert port.transfer(10, 64, 1) == 74  # alone: as fast as it likes
    assert port.transfer(0, 128 * 1.5, 1.5) == pytest.approx(128 + 16, abs=24)  # what is left for the next, then all of it
    assert port.transfer(0, 0, 1) == 0


@pytest.mark.parametrize("rows, cycles", [(66, 12288), (50, 13056)])
def test_pixels(rows: int, cycles: int) -> None:
    """Lines of 48 bytes; grid rows that two passes share are scattered twice. Odd lines go byte by byte."""
    assert pixel_cycles(preset(BASE, rows=rows)) == cycles
    assert pixel_cycles(preset(MICRO)) == 784


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
