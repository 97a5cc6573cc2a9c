"""Bench of `Softmax`: jobs back to back, the next job's scores on the heels of the scan, against `model.integer.softmax_numerators`."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model.integer import softmax_numerators
from sim_tests.cocotb.helpers import bench_parameters, bench_random, start

LOW, HIGH = -512, 511


def scores_of(kind, rng, keys):
    if kind == "random":
        return rng.integers(LOW, HIGH + 1, keys)
    if kind == "close":
        return rng.integers(-200, -80, keys)
    if kind == "ends":
        return rng.choice([LOW, HIGH], keys)
    if kind == "ties":
        return np.full(keys, rng.integers(LOW, HIGH + 1))
    scores = rng.integers(LOW, HIGH - 255, keys)  # one dominates
    scores[rng.integers(keys)] = HIGH
    return scores


def schedule(jobs, slots, rng):
    """Per cycle the fields of `softmax_control` and the score; per job the cycle of its first scan."""
    cycles, starts, begin = {}, [], 0
    for scores in jobs:
        cycle = begin - 1
        for slot, score in enumerate(scores):
            cycle = max(cycle + 1 + int(rng.random() < 0.2), begin + slot)
            cycles.setdefault(cycle, {}).update(score=(1, int(slot == 0), slot), value=int(score))
        scan = max(cycle + 1, (starts[-1] + slots) if starts else 0)
        for slot in range(slots):
            cycles.setdefault(scan + slot, {}).update(scan=(int(slot == 0), slot))
            cycles.setdefault(scan + slot + 1, {}).update(numerator_valid=int(slot < len(scores)))
        cycles.setdefault(scan + 3, {}).update(total_first=1)
        starts.append(scan)
        begin = scan  # slot k is overwritten in cycle scan + k at the earliest: when it is scanned
    return cycles, starts


def packed(fields, slot_bits):
    score, scan = fields.get("score", (0, 0, 0)), fields.get("scan", (0, 0))
    parts = [(score[0], 1), (score[1], 1), (score[2], slot_bits), (scan[0], 1), (scan[1], slot_bits)]
    parts += [(fields.get("numerator_valid", 0), 1), (fields.get("total_first", 0), 1)]
    word = position = 0
    for value, width in parts:
        word, position = word | value << position, position + width
    return word


@cocotb.test()
async def matches_model(dut) -> None:
    parameters = bench_parameters()
    slots, tokens = parameters["slots"], parameters["tokens"]
    slot_bits = max(1, (slots - 1).bit_length())
    rng = np.random.default_rng(bench_random("softmax").getrandbits(64))
    kinds = ["random", "close", "ends", "ties", "one dominates"] * 3
    jobs = [scores_of(kind, rng, tokens if index < 10 else int(rng.integers(1, tokens + 1))) for index, kind in enumerate(kinds)]
    cycles, starts = schedule(jobs, slots, rng)
    dut.i.value, dut.i_value.value = 0, 0
    await start(dut)
    numerators, totals = [], []
    for cycle in range(starts[-1] + slots + 6):
        fields = cycles.get(cycle, {})
        dut.i.value = packed(fields, slot_bits)
        dut.i_value.value = fields.get("value", int(rng.integers(LOW, HIGH))) & 1023
        await RisingEdge(dut.clk)
        numerators.append(int(dut.numerator.value))
        totals.append(int(dut.total.value))
        await FallingEdge(dut.clk)
    for scores, scan, kind in zip(jobs, starts, kinds, strict=True):
        want = [int(x) for x in softmax_numerators(scores)] + [0] * (slots - len(scores))
        assert numerators[scan + 3 : scan + 3 + slots] == want, kind
        assert totals[scan + slots + 3] == sum(want), kind
