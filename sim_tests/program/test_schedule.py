"""The predicted schedule: floors that no machine can beat, and single effects by hand."""

from __future__ import annotations

import pytest

from model.random_graph import random_graph
from rtl.config import AcceleratorConfig
from rtl.program.compiler import CompiledProgram, compile_graph
from rtl.program.image import manifest
from rtl.program.isa import Opcode
from rtl.program.schedule import Schedule, Timing, predict, transfer_bytes
from sim_tests.program.shapes import SMALL

#: A machine without latencies, and a bus that is never in the way.
IDEAL = Timing(attention_job=100, attention_lead=0, drain=0, hazard=0, finish=0, bus_bytes=1e9, latency=0)


def scheduled(name: str, seed: int, timing: Timing) -> tuple[Schedule, CompiledProgram, AcceleratorConfig]:
    config = SMALL[name]
    compiled = compile_graph(random_graph(config.shape, seed), config)
    return predict(compiled, config, timing), compiled, config


@pytest.mark.parametrize("name", SMALL)
def test_floors(name: str, seed: int) -> None:
    """Words of the array, and bytes over the bus, bound the cycles; slower parts never make a faster machine."""
    timing = Timing(attention_job=200, attention_lead=100, drain=70)
    schedule, compiled, config = scheduled(name, seed, timing)
    words = sum(i.payload["words"] * i.payload["passes"] for i in compiled.instructions if i.opcode == Opcode.TILE)
    size = sum(transfer_bytes(i.opcode, i.payload, config) for i in compiled.instructions)
    attention = config.shape.depth * config.shape.heads * config.passes * timing.attention_job
    assert schedule.cycles >= max(words + attention, size / timing.bus_bytes)
    assert schedule.busy(Opcode.TILE) == words and schedule.busy(Opcode.ATTEND) == attention
    for slower in ({"drain": 500}, {"hazard": 300}, {"latency": 500}, {"bus_bytes": 2.0}, {"finish": 1000}):
        assert scheduled(name, seed, Timing(**(vars(timing) | slower)))[0].cycles >= schedule.cycles


def test_every_span_follows_its_waits(seed: int) -> None:
    schedule, compiled, _ = scheduled("tiny", seed, IDEAL)
    assert [span.opcode for span in schedule.spans] == [i.opcode for i in compiled.instructions]
    assert all(span.start <= span.done for span in schedule.spans)
    done = [span.done for span in schedule.spans if span.opcode == Opcode.TILE]
    assert done == sorted(done)


def test_one_tile_by_hand(seed: int) -> None:
    """no_layers on an ideal machine: 4 patch tiles of 32 words x 2 passes (fill 16), then 3 head tiles of 32, 32 and 16 words x 1 pass.

    Four transfers, a cycle each, come first. The first fill (16) is not hidden. Passes alternate, so patch steps never wait: 16 + 8 * 32.
    The first head tile's pass 0 has long finished; the second's and the third's fill waits until the pass is free: 16 more cycles each.
    """
    schedule, compiled, _ = scheduled("no_layers", seed, IDEAL)
    heads = [span for span in schedule.spans if span.name.startswith("head") and span.opcode == Opcode.TILE]
    assert [i.payload["words"] for i in compiled.instructions if i.opcode == Opcode.TILE] == [32, 32, 32, 32, 32, 32, 16]
    assert heads[0].done == 4 + 16 + 8 * 32 + 32
    assert heads[-1].done == heads[0].done + (16 + 32) + (16 + 16)


def test_manifest(seed: int) -> None:
    """Windows do not overlap, start on pages, and hold what the program moves."""
    _, compiled, config = scheduled("odd_image", seed, IDEAL)
    description = manifest(compiled, config)
    end = 0
    for window in description["windows"].values():
        assert window["offset"] % 4096 == 0 and window["offset"] >= end
        end = window["offset"] + window["bytes"]
    assert end <= description["buffer_bytes"]
    assert description["windows"]["image"]["bytes"] == 96 and description["image"] == {"bytes": 81, "shape": [9, 9, 1], "dtype": "uint8"}
    assert description["windows"]["result"]["bytes"] == 16 and description["result"]["bytes"] == 6
    assert description["counters"]["2"] == "TILES_DONE"
