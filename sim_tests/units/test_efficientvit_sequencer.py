"""EfficientViT's sequencer: every product of every step against a plain account, the grid, and what a step takes."""

from __future__ import annotations

import itertools
import random

import pytest
from amaranth.hdl import Shape
from amaranth.sim import Simulator

from rtl.efficientvit.array_sequencer import ArraySequencer, Emission
from rtl.efficientvit.isa import PAIRS, PAYLOAD, Opcode
from rtl.efficientvit.row_bus import ADDRESS_BITS

GRID = 16
WORDS = 1 << ADDRESS_BITS
#: From a cycle in which a step is busy to the product of that cycle.
LATENCY = 2
FIELDS = dict(PAYLOAD[Opcode.STEP])
#: Copied as they are to every product, and to every emission.
SAME = ("hardswish", "fraction", "shortcut_enable", "shortcut_zero", "zero", "low", "exponent_low", "write")
SAME_EMITTED = ("ring", "pool", "pixels", "bank", "width", "pitch", "lines_left", "ring_words")


def step(rng: random.Random, kind: str, words: int, outputs: int) -> dict[str, int]:
    """A step of a kind, all other fields at random."""
    fields = {name: rng.randrange(1 << Shape.cast(shape).width) for name, shape in FIELDS.items()}
    fields |= {"words": words, "outputs": outputs, "grouped": kind == "grouped", "score": kind == "score"}
    fields["shortcut_enable"] &= kind != "score"  # they do not go together
    fields["column"] = rng.randrange(fields["width"] + 1)
    return {name: int(value) for name, value in fields.items()}


def cycles(fields: dict[str, int]) -> int:
    single = fields["grouped"] or fields["score"]
    return GRID * ((1 if single else fields["words"]) * fields["outputs"] + fields["score"])


def products(fields: dict[str, int]) -> list[dict[str, int]]:
    """What a step does in each of its cycles; None where it does not matter."""
    done = []
    single = fields["grouped"] or fields["score"]
    words = 1 if single else fields["words"]
    kept = None  # the word in the row's register
    if fields["score"]:
        for pair in range(PAIRS):
            word = fields["source"] + pair * fields["source_stride"]
            done.append({"word": word, "first": 1, "last": 1, "divisor": 1, "pair": pair, "slot": pair, "ends": 0, "completes": 0})
    forth = True
    for output in range(fields["outputs"]):
        for pair in range(PAIRS):
            order = range(words) if forth else range(words - 1, -1, -1)
            forth = not forth
            for place, word in enumerate(order):
                address = fields["source"] + (output * fields["source_stride"] if single else word)
                last = place == words - 1
                completes = last and pair == PAIRS - 1
                done.append({
                    "word": address, "first": place == 0, "last": last, "divisor": 0, "pair": pair, "slot": output % PAIRS,
                    "completes": completes, "ends": completes and output == fields["outputs"] - 1, "output": output,
                    "shortcut": fields["shortcut_enable"] and pair == 1 and place == 0,
                })  # fmt: skip
    for number, product in enumerate(done):
        product["weight"] = fields["weight_address"] + number
        results = sum(bool(before["last"]) for before in done[:number])
        product["parameter"] = fields["parameter_address"] + (0 if fields["score"] else results)
        product["read"] = product["word"] != kept
        kept = product["word"]
    return done


def check(fields: dict[str, int], number: int, product: dict[str, int], got, kept: int | None) -> int:
    """One cycle. Returns the word that is in the rows' registers from now on."""
    what = f"product {number} of {fields}"
    if got.read:
        kept = got.address
    if not (got.shortcut_read and got.read):
        assert kept == product["word"] % WORDS, what
    if product.get("shortcut"):
        assert (got.shortcut_read, got.read, got.address) == (1, 0, (fields["shortcut"] + product["output"]) % WORDS), what
    else:
        assert not got.shortcut_read, what
    assert (got.weight_address, got.parameter_address) == (product["weight"] % 8192, product["parameter"] % 2048), what
    for name in ("first", "last", "divisor", "pair", "slot", "ends"):
        assert got[name] == product[name], (name, what)
    assert (got.state, got.quotient, got.word) == (fields["score"], fields["score"], product["completes"]), what
    assert all(got[name] == fields[name] for name in SAME), what
    emission = got.emission
    assert (emission.valid, emission.last) == (product["completes"], product["ends"]), what
    if product["completes"]:
        output = product["output"]
        assert all(emission[name] == fields[name] for name in SAME_EMITTED), what
        assert emission.attention == (fields["attention"] and output > 0), what
        assert emission.address == (fields["address"] + output) % 1024, what
        assert emission.key_value == (fields["key_value"] + (output == 2)) % 512, what
        assert emission.pool_word == (fields["key_value"] + output) % 128, what
        assert (emission.pool_begin, emission.line_left) == (fields["bank"] & 1, fields["width"] - fields["column"]), what
        assert got.target == (fields["target"] + output) % WORDS, what
    return kept


def run(steps: list[dict[str, int]], pauses: list[int]):
    """(cycle of the first product, products) of every step, and the cycles in which a step was taken."""
    dut = ArraySequencer()
    took, found = [], []

    async def drive(ctx):
        for fields, pause in zip(steps, pauses, strict=True):
            await ctx.tick().repeat(pause) if pause else None
            ctx.set(dut.i.payload, fields)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def watch(ctx):
        total = sum(map(cycles, steps))
        cycle = 0
        async for _, _, o, starts in ctx.tick().sample(dut.o, dut.starts):
            if starts:
                took.append(cycle)
            if o.valid:
                found.append((cycle, o))
            else:
                assert not (o.emission.valid or o.last or o.ends or o.read or o.shortcut_read or o.word), cycle
            cycle += 1
            if len(found) == total:
                return

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive, background=True)
    simulator.add_testbench(watch)
    simulator.run()
    return took, found


CASES = {
    "one word": [("plain", 1, 1), ("plain", 1, 3), ("grouped", 1, 2)],
    "words": [("plain", 2, 2), ("plain", 3, 1), ("plain", 5, 2)],
    "scores": [("score", 1, 1), ("score", 1, 3), ("plain", 2, 1), ("score", 1, 2)],
    "grouped": [("grouped", 7, 3), ("plain", 4, 1), ("grouped", 1, 1)],
    "long": [("plain", 64, 1), ("grouped", 1, 17)],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("most", [0, 40])
def test_products(name: str, most: int) -> None:
    rng = random.Random(f"{name} {most}")
    steps = [step(rng, *case) for case in CASES[name]]
    took, found = run(steps, [rng.randint(0, most) for _ in steps])
    assert len(took) == len(steps)
    place = 0
    for fields, cycle in zip(steps, took, strict=True):
        expected = products(fields)
        assert len(expected) == cycles(fields)
        mine = found[place : place + len(expected)]
        place += len(expected)
        assert [at for at, _ in mine] == [cycle + 1 + LATENCY + number for number in range(len(expected))], "a gap, or beside the grid"
        kept = None
        for number, (product, (_, got)) in enumerate(zip(expected, mine, strict=True)):
            kept = check(fields, number, product, got, kept)
    distances = [later - earlier for earlier, later in itertools.pairwise(took)]
    assert all(distance % GRID == 0 for distance in distances)
    if not most:
        assert distances == [cycles(fields) for fields in steps[:-1]]


def test_emission_carries_what_a_step_says() -> None:
    """Whatever the collector gets is a field of STEP, or made from one."""
    made = {"valid", "last", "pool_word", "pool_begin", "line_left"}
    assert set(Emission.members) - made <= set(FIELDS)
