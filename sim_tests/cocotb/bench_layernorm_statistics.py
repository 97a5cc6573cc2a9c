"""Bench of `LayerNormStatistics` against `model.integer.layernorm_statistics`; both read ports are checked in every cycle."""

from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model import integer
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, signed, start
from sim_tests.cocotb.layernorm_tokens import tokens


@dataclass
class Progress:
    """A token on its way through one pass."""

    token: np.ndarray
    done: int = 0

    @property
    def last(self) -> bool:
        return self.done == self.token.size - 1


def feed(rng, passes: int, queue: list[np.ndarray], order: str, gap: float, finish: int):
    """Yields (pass, token, index) or None for a bubble, keeping the law: lasts are ``finish`` or more cycles apart.

    ``one by one``: a whole token, the next pass, as dense as the law allows. ``interleaved``: runs of random length, all passes under way.
    """
    active: dict[int, Progress] = {}
    queue, since_last, current, run, turn = list(queue), finish, None, 0, 0
    while queue or active:
        if run == 0 or current not in active:
            free = [index for index in range(passes) if index not in active]
            if queue and free and (order == "interleaved" or not active):
                current = turn % passes if order != "interleaved" else free[0]
                active[current], turn = Progress(queue.pop(0)), turn + 1
            elif active:
                current = rng.choice(sorted(active))
            run = rng.randint(1, 40) if order == "interleaved" else 1 << 30
        progress = active[current]
        if rng.random() < gap or (progress.last and since_last < finish):
            if progress.last:
                run = 0
            since_last += 1
            yield None
            continue
        yield current, progress.token, progress.done
        since_last = 1 if progress.last else since_last + 1
        run -= 1
        progress.done += 1
        if progress.done == progress.token.size:
            del active[current]


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(order=["one by one", "interleaved"], stall=["free", "gaps"])
async def matches_model(dut, order: str, stall: str) -> None:
    parameters = bench_parameters()
    passes, pass_bits, finish = parameters["passes"], parameters["pass_bits"], parameters["finish_latency"]
    rng = bench_random(f"{order} {stall}")
    queue = tokens(parameters["embed_dim"], np.random.default_rng(rng.getrandbits(64)))
    rng.shuffle(queue)
    results: list[tuple] = [(None, None)] * passes  # unknown: what an earlier test left
    updates: dict[int, tuple[int, tuple[int, int]]] = {}
    beats = feed(rng, passes, queue, order, 0.0 if stall == "free" else 0.3, finish)
    idle_stream(dut, sources=["i"], sinks=[])
    dut.pass_index.value = 0
    await start(dut)
    now, until, earlier, checked = 0, None, 0, 0
    while until is None or now < until:
        beat = next(beats, None) if until is None else None
        dut.i__valid.value = int(beat is not None)
        dut.i__payload.value = rng.getrandbits(18 + pass_bits)
        if beat is not None:
            index, token, position = beat
            first, last = position == 0, position == token.size - 1
            dut.i__payload.value = (int(token[position]) & 0xFFFF) | index << 16 | first << (16 + pass_bits) | last << (17 + pass_bits)
            if last:
                mean2, rsqrt = (int(value) for value in integer.layernorm_statistics(token))
                updates[now + finish] = (index, (mean2, rsqrt))
        if now in updates:
            index, result = updates[now]
            results[index], checked = result, checked + 1
        reading = rng.randrange(passes)
        dut.pass_index.value = reading
        await RisingEdge(dut.clk)
        got = (-signed(int(dut.minus_mean2.value), 18), int(dut.rsqrt.value))
        expected = (results[reading][0], results[earlier][1])
        got = tuple(value if known is not None else None for value, known in zip(got, expected, strict=True))
        assert got == expected, f"cycle {now}, pass {reading} after {earlier}: got mean2, rsqrt {got}, expected {expected}"
        await FallingEdge(dut.clk)
        earlier, now = reading, now + 1
        if until is None and checked == len(queue):
            until = now + 20
    assert checked == len(queue)
