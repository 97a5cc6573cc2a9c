"""The collector: which pixel's word is written where and when, against `Band.place` and the law of its buses."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from amaranth.sim import Simulator

from rtl.efficientvit.array_sequencer import Emission
from rtl.efficientvit.collector import CONTEXTS, GROUP_INTERVAL, Collector
from rtl.efficientvit.config import BUSES, EfficientVitMachine
from rtl.efficientvit.expansion_ring import pitch, place
from rtl.efficientvit.program.ring import ENDLESS, Band

GRID = 16
#: Of a code, by rows.
BITS = {16: 4, 49: 8, 64: 6}


@dataclass
class Word:
    """A word that the rows make: number and row tell what it is. ``cycle`` : of its emission; ``where`` : (bank, address) of each pixel;
    ``fields`` : of the emission"""

    cycle: int
    number: int
    pixels: int
    where: list[tuple[int, int]]
    fields: dict[str, int]
    last: bool
    bits: int

    def value(self, row: int) -> int:
        return self.number << 8 | row | 1 << (32 * self.bits - 1)


@dataclass
class Seen:
    """By cycle."""

    ring: dict = field(default_factory=dict)  # (cycle, port) -> (bank, address, data)
    key_value: dict = field(default_factory=dict)  # cycle -> (valid, address, data)
    pool: dict = field(default_factory=dict)  # cycle -> (valid, first, last, context, word, begin, data)
    collected: list = field(default_factory=list)


def tensor_words(rng: random.Random, band: Band, width: int, height: int, rows: int, base: dict[str, int], gap: int) -> list[Word]:
    """All passes of a tensor of ``band.words`` words, emitted at multiples of 16 cycles."""
    found, cycle, total = [], GRID, width * height
    for index in range(-(-total // rows)):
        first = index * rows
        y, x = divmod(first, width)
        bank, address = band.place(x, y)
        pixels = min(rows, total - first)
        for word in range(band.words):
            fields = {
                "bank": bank, "address": address + word, "line_left": width - x, "width": width, "pitch": band.words, "pixels": pixels,
                "lines_left": band.lines - y % band.lines if band.wraps else ENDLESS, "ring_words": band.ring_words,
                "key_value": rng.randrange(400), "pool_word": rng.randrange(128), "pool_begin": rng.randrange(2), **base,
            }  # fmt: skip
            where = []
            for pixel in range(first, first + pixels):
                bank_of, address_of = band.place(pixel % width, pixel // width)
                where.append((bank_of, address_of + word))
            found.append(Word(cycle, len(found), pixels, where, fields, word == band.words - 1, BITS[rows]))
            cycle += GRID * rng.randint(1, gap)
    return found


def run(rows: int, words: list[Word]) -> Seen:
    dut, seen = Collector(EfficientVitMachine(image_size=224, rows=rows, bits=BITS[rows])), Seen()
    arrivals: dict[int, list[tuple[int, int]]] = {}
    for word in words:
        for row in range(rows):
            group, bus = divmod(row, BUSES)
            last = (rows - 1 - bus) // BUSES
            # its own hop and register, a cycle per row before it, a register of each row behind it on its bus
            arrivals.setdefault(word.cycle + 2 + row + last - group, []).append((bus, word.value(row)))
    emissions = {word.cycle: word for word in words}
    end = max(arrivals) + 40

    async def drive(ctx):
        buses = [getattr(dut, f"i_{bus}") for bus in range(BUSES)]
        rings = [getattr(dut, f"ring_{place}") for place in range(BUSES)]
        for cycle in range(end):
            word = emissions.get(cycle)
            ctx.set(dut.emission, {"valid": 1, "last": word.last, **word.fields} if word else {"valid": 0})
            for bus in buses:
                ctx.set(bus, cycle)
            for bus, value in arrivals.get(cycle, []):
                ctx.set(buses[bus], value)
            for port, write in enumerate(rings):
                if ctx.get(write.valid):
                    seen.ring[cycle, port] = (ctx.get(write.bank), ctx.get(write.address), ctx.get(write.data))
            if ctx.get(dut.key_value.valid):
                group = ctx.get(dut.key_value)
                seen.key_value[cycle] = (group.valid, group.address, list(group.data))
            if ctx.get(dut.pool.valid) or ctx.get(dut.pool.last):
                group = ctx.get(dut.pool)
                seen.pool[cycle] = (group.valid, group.first, group.last, group.context, group.word, group.begin, list(group.data))
            if ctx.get(dut.collected):
                seen.collected.append(cycle)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return seen


def group_cycle(word: Word, rows: int, group: int) -> int:
    arrival = max(bus + (rows - 1 - bus) // BUSES for bus in range(BUSES))
    return word.cycle + arrival + GROUP_INTERVAL * group + 3


#: width: (height, lines of the ring or 0: all of them)
WIDTHS = {4: (4, 0), 7: (7, 0), 14: (14, 0), 28: (28, 16), 56: (20, 8), 112: (20, 16)}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [16, 49])
def test_ring_places(width: int, rows: int) -> None:
    rng = random.Random(width + rows)
    height, lines = WIDTHS[width]
    count = 2 if width < 56 else 1
    band = Band(first=0, words=count, base=rng.randrange(60), lines=lines or height, pitch=pitch(width), wraps=bool(lines))
    words = tensor_words(rng, band, width, height, rows, {"ring": 1}, 3)
    seen = run(rows, words)
    expected = {}
    for word in words:
        for pixel, (bank, address) in enumerate(word.where):
            group, port = divmod(pixel, BUSES)
            assert (bank, address) < (8, 1024)
            expected[group_cycle(word, rows, group), port] = (bank, address, word.value(pixel))
        assert len({bank for bank, _ in word.where[:BUSES]}) == len(word.where[:BUSES]), "a group meets in a bank"
    assert seen.ring == expected
    assert not seen.key_value and not seen.pool
    groups = -(-rows // BUSES)
    assert seen.collected == [group_cycle(word, rows, groups - 1) for word in words if word.last]


@pytest.mark.parametrize("width", [4, 7, 56])
def test_band_and_ring_agree(width: int) -> None:
    """The program's band and the ring's own account of places."""
    band = Band(first=0, words=3, base=11, lines=8, pitch=pitch(width), wraps=True)
    for y in range(0, 20, 3):
        for x in range(width):
            bank, address = band.place(x, y)
            assert (bank, address + 2) == place(x, y, 2, width=width, words=3, lines=8, base=11)


@pytest.mark.parametrize("rows", [16, 49, 64])
def test_key_value_and_pool(rows: int) -> None:
    """Groups of words that overlap, most at once; the last pass has few pixels, and groups without any."""
    rng = random.Random(rows)
    width, groups = 10, -(-rows // BUSES)
    band = Band(first=0, words=3, base=0, lines=40, pitch=pitch(width), wraps=False)
    words = tensor_words(rng, band, width, 20, rows, {"attention": 1, "pool": 1}, 1)
    for word in words:
        word.fields["attention"] = rng.randrange(2)
        word.fields["pool"] = rng.randrange(2)
    seen = run(rows, words)
    assert not seen.ring
    key_value, pool = {}, {}
    for turn, word in enumerate(words):
        for group in range(groups):
            inside = [word.value(row) for row in range(BUSES * group, min(BUSES * (group + 1), word.pixels))]
            valid, cycle, fields = (1 << len(inside)) - 1, group_cycle(word, rows, group), word.fields
            if fields["attention"] and inside:
                key_value[cycle] = (valid, fields["key_value"] + 2 * group, inside)
            if fields["pool"] and (inside or group == groups - 1):
                pool[cycle] = (valid, group == 0, group == groups - 1, turn % CONTEXTS, fields["pool_word"], fields["pool_begin"], inside)
    assert {cycle: (*rest, data[: valid.bit_count()]) for cycle, (valid, *rest, data) in seen.key_value.items()} == {
        cycle: (*rest, data) for cycle, (_, *rest, data) in key_value.items()
    }
    assert {cycle: (valid, *rest, data[: valid.bit_count()]) for cycle, (valid, *rest, data) in seen.pool.items()} == pool
    assert {cycle: valid for cycle, (valid, *_) in seen.key_value.items()} == {cycle: valid for cycle, (valid, *_) in key_value.items()}


def test_emissions_fields_are_all_used() -> None:
    """A field that this file does not set would be tested as 0 only."""
    here = {"bank", "address", "line_left", "width", "pitch", "pixels", "lines_left", "ring_words", "key_value", "pool_word", "pool_begin"}
    assert set(Emission.members) == here | {"valid", "last", "ring", "attention", "pool"}
