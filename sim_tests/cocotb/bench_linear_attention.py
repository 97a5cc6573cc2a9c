"""Bench of `LinearAttention`: heads as fast as they may come, every sum requested while the next head comes, in any order."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model.efficientvit.integer import OPERAND
from model.integer import REQUANTIZE_SHIFTS, Saturation, choose_multiplier, requantize
from rtl.units.linear_attention import LinearAttention, LinearAttentionConfig, word_layout
from rtl.units.outer_product import ReadLayout
from sim_tests.cocotb.helpers import bench_parameters, bench_random, signed, start


class Plan:
    """What each port gets in each cycle, and what comes back."""

    def __init__(self, config, rng):
        self.config, self.unit, self.rng = config, LinearAttention(config), rng
        self.i, self.word, self.read, self.requantizer, self.o, self.finish = {}, {}, {}, {}, {}, []
        self.go = None

    def head(self, pixels, wide, extreme):
        """Its words, each step's as late as can be: ``tiles`` cycles after the last step. Then the requests of its sums."""
        config, dim, limit = self.config, 32 if wide else 16, (1 << (self.config.bits - 1)) - 1
        values = (-limit, limit) if extreme else range(-limit, limit + 1)
        k, v = self.rng.choice(values, (2, pixels, dim))
        pace, each = (4, 2) if wide else (2, 1)
        steps = -(-pixels // config.depth)
        length = (config.depth * each - 1) * pace
        for step in range(steps):
            go = length if self.go is None else self.go[0] + max(config.tiles(self.go[1]), length + 1 if self.go[1] != wide else 0)
            for index in range(config.depth * each):
                place, values = divmod(index, each)
                pixel = step * config.depth + place
                live = pixel < pixels
                codes = self.rng.integers(0, 1 << config.bits, 32)
                if live:
                    codes = (np.concatenate([k[pixel], v[pixel]]) if not wide else (v if values else k)[pixel]) + limit + 1
                cycle = go - length + index * pace
                self.i[cycle] = dict(pixel=1 << place, wide=int(wide), values=values, live=int(live), go=int(cycle == go),
                                     first=int(step == 0), last=int(step == steps - 1))  # fmt: skip
                self.word[cycle] = sum(int(code) << c * config.bits for c, code in enumerate(codes))
            self.go = (go, wide)
        self._requests(np.maximum(k, 0), v, go + self.unit.finish_latency + config.tiles(wide))

    def _requests(self, k, v, finish):
        """All quads of the state and of the sums, shuffled, from ``finish`` on."""
        dim = k.shape[1]
        self.finish.append(finish)
        state, total = k.T @ v, k.sum(0)
        (scale, shift), (total_scale, total_shift) = (choose_multiplier(min(203 / max(np.abs(x).max(), 1), 15.9)) for x in (state, total))
        state = requantize(state, scale, shift, 0, OPERAND)
        total = requantize(total, total_scale, total_shift, 0, Saturation(low=0, high=127))
        quads = [(part, column, 0) for part in range(dim // 4) for column in range(dim)] + [(part, 0, 1) for part in range(dim // 4)]
        for cycle, (part, column, is_total) in enumerate(self.rng.permutation(quads).tolist(), start=finish):
            self.read[cycle] = dict(part=part, column=column, total=is_total)
            self.requantizer[cycle + self.unit.OFFSETS["multiplier"]] = (
                (total_scale, REQUANTIZE_SHIFTS.index(total_shift)) if is_total else (scale, REQUANTIZE_SHIFTS.index(shift))
            )
            self.o[cycle + self.unit.latency] = (total if is_total else state[:, column])[4 * part : 4 * part + 4].tolist()


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes"])
async def matches_model(dut, data: str) -> None:
    config = LinearAttentionConfig(**bench_parameters())
    rng = np.random.default_rng(bench_random(data).getrandbits(64))
    plan = Plan(config, rng)
    for wide, pixels in ((0, 49), (0, 37), (1, 49), (1, 45), (0, 196), (1, 47), (1, 324), (0, 140), (0, 37)):
        plan.head(pixels, bool(wide), data == "extremes")
    words = word_layout(config)
    for port in ("i", "word", "read", "multiplier", "shift"):
        getattr(dut, port).value = 0
    await start(dut)
    found, last = [], max(plan.o)
    for cycle in range(last + 1):
        dut.i.value = words.const(plan.i.get(cycle, {})).as_bits()
        dut.word.value = plan.word.get(cycle, int(rng.integers(1 << 60)))
        dut.read.value = ReadLayout.const(plan.read.get(cycle, {})).as_bits()
        dut.multiplier.value, dut.shift.value = plan.requantizer.get(cycle, (int(rng.integers(1 << 16)), int(rng.integers(4))))
        await RisingEdge(dut.clk)
        if dut.finish.value:
            found.append(cycle)
        if cycle in plan.o:
            got = [signed(int(dut.o.value) >> 8 * k & 255, 8) for k in range(4)]
            assert got == plan.o[cycle], f"{data}, cycle {cycle}: got {got}, expected {plan.o[cycle]}"
        await FallingEdge(dut.clk)
    assert found == plan.finish, f"finish in {found}, not in {plan.finish}"
