"""Bench of `LayerNormStatistics` against `model.integer.layernorm_statistics`; both read ports are checked in every cycle."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model import integer
from sim_tests.cocotb.helpers import bench_parameters, bench_random, signed, start
from sim_tests.cocotb.layernorm_tokens import tokens


def feed(rng, places: int, queue: list[np.ndarray], gap: float, finish: int):
    """Yields (place, token, index) or None for a bubble, token after token, keeping the law: lasts are ``finish`` or more cycles apart."""
    since_last = finish
    for number, token in enumerate(queue):
        for index in range(token.size):
            while rng.random() < gap or (index == token.size - 1 and since_last < finish):
                since_last += 1
                yield None
            yield number % places, token, index
            since_last += 1
        since_last = 1


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(stall=["free", "gaps"])
async def matches_model(dut, stall: str) -> None:
    parameters = bench_parameters()
    places, token_bits, finish = parameters["tokens"], parameters["token_bits"], parameters["finish_latency"]
    rng = bench_random(stall)
    queue = tokens(parameters["embed_dim"], np.random.default_rng(rng.getrandbits(64)))
    rng.shuffle(queue)
    results: list[tuple] = [(None, None)] * places  # unknown: what an earlier test left
    updates: dict[int, tuple[int, tuple[int, int]]] = {}
    beats = feed(rng, places, queue, 0.0 if stall == "free" else 0.3, finish)
    for port in ("i", "valid", "first", "last", "i_token"):
        getattr(dut, port).value = 0
    dut.token.value = 0
    await start(dut)
    now, until, earlier, checked = 0, None, 0, 0
    while until is None or now < until:
        beat = next(beats, None) if until is None else None
        dut.valid.value = int(beat is not None)
        for port, bits in (("i", 16), ("first", 1), ("last", 1), ("i_token", token_bits)):
            getattr(dut, port).value = rng.getrandbits(bits)
        if beat is not None:
            index, token, position = beat
            first, last = position == 0, position == token.size - 1
            dut.i.value, dut.i_token.value, dut.first.value, dut.last.value = int(token[position]) & 0xFFFF, index, int(first), int(last)
            if last:
                mean2, rsqrt = (int(value) for value in integer.layernorm_statistics(token))
                updates[now + finish] = (index, (mean2, rsqrt))
        if now in updates:
            index, result = updates[now]
            results[index], checked = result, checked + 1
        reading = rng.randrange(places)
        dut.token.value = reading
        await RisingEdge(dut.clk)
        got = (-signed(int(dut.minus_mean2.value), 18), int(dut.rsqrt.value))
        expected = (results[reading][0], results[earlier][1])
        got = tuple(value if known is not None else None for value, known in zip(got, expected, strict=True))
        assert got == expected, f"cycle {now}, token {reading} after {earlier}: got mean2, rsqrt {got}, expected {expected}"
        await FallingEdge(dut.clk)
        earlier, now = reading, now + 1
        if until is None and checked == len(queue):
            until = now + 20
    assert checked == len(queue)
