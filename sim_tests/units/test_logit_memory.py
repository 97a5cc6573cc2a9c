"""Logits of two images: written one by one, added to with saturation, read eight at a time."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from rtl.logit_memory import BANKS, LogitMemory


def signed16(value: int) -> int:
    return (value & 0xFFFF ^ 0x8000) - 0x8000


@pytest.mark.parametrize("classes", [3, 8, 21])
def test_written_added_and_read(classes: int, seed: int) -> None:
    rng, dut = random.Random(seed), LogitMemory(classes)
    first = {(image, c): rng.randrange(-(1 << 15), 1 << 15) for image in range(2) for c in range(classes)}
    second = {place: rng.randrange(-(1 << 15), 1 << 15) for place in first}
    got = {}

    async def drive(ctx):
        late = 0
        for add, values in ((0, first), (1, second)):
            for (image, address), value in values.items():
                ctx.set(dut.i, {"valid": 1, "add": add, "image": image, "address": address})
                ctx.set(dut.value_0, 0x1234 if add else value & 0xFFFF)
                ctx.set(dut.value_1, late)
                late = value & 0xFFFF if add else 0x4321
                await ctx.tick()
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.value_1, late)
            await ctx.tick().repeat(6)
        for image in range(2):
            for beat in range(-(-classes // BANKS)):
                ctx.set(dut.read_address, beat | image << 9)
                await ctx.tick()
                word = ctx.get(dut.read_value)
                got.update({(image, BANKS * beat + k): signed16(word >> 16 * k) for k in range(BANKS)})

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    for place in first:
        assert got[place] == max(-(1 << 15), min((1 << 15) - 1, first[place] + second[place])), place
