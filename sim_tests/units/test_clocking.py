"""The slices at twice the clock in Amaranth's simulator: sums in their cycle, and what happens where the halves are mixed up.

The bench of every number of inputs is `sim_tests/cocotb/test_int8_matmul.py`; this one is quick enough for mutants.
"""

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.tech import clocking
from rtl.units.int8_matmul import Int8MatmulConfig
from sim_tests.formal.prove import mutant
from sim_tests.units.two_clocks import TwoClocks

INPUTS, PRODUCTS, PERIOD = 16, 24, 4e-9
#: Cycles until the phase is right in every slice.
SETTLED = 12


def wrong_sums(rates: clocking.Clocking, seed: int) -> int:
    """How many of the products, each a group of its own, do not have their sums in their cycle."""
    config = Int8MatmulConfig(inputs=INPUTS, clocking=rates)
    top = TwoClocks(PlainShell(config.build()))
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (2, PRODUCTS, INPUTS))
    codes = rng.integers(0, 256, (PRODUCTS, INPUTS))
    weights[:, :4], codes[:4] = np.array([[127, -127, 127, -127], [127, 127, -127, -127]])[:, :, None], 255
    sums, wrong = (weights * codes).sum(2), []

    def word(lanes) -> int:
        return int.from_bytes(np.array(lanes, dtype=np.int64).astype(np.uint8).tobytes(), "little")

    async def bench(ctx):
        await ctx.tick().repeat(SETTLED)
        ends = {}
        for now in range(PRODUCTS + config.latency + 1):
            ctx.set(top.codes, word(codes[now]) if now < PRODUCTS else 0)
            for output in range(2):
                lanes = [weights[output][now - late][k] if 0 <= now - late < PRODUCTS else 0 for k, late in enumerate(config.stagger)]
                ctx.set(getattr(top, f"weights_{output}"), word(lanes))
            for port in ("first", "last", "enable"):
                ctx.set(getattr(top, port), 0 <= now - config.offsets[port] < PRODUCTS)
            # Before this cycle's edge; the inputs' registers are one cycle.
            ends[now] = [(ctx.get(getattr(top, f"o_{n}__valid")), ctx.get(getattr(top, f"o_{n}__payload"))) for n in range(2)]
            await ctx.tick()
        for product in range(PRODUCTS):
            due = [(1, int(total) & (1 << 27) - 1) for total in sums[:, product]]
            if ends[product + config.latency + 1] != due:
                wrong.append(product)

    simulator = Simulator(top)
    simulator.add_clock(PERIOD, phase=PERIOD)
    simulator.add_clock(PERIOD / 2, phase=PERIOD, domain=clocking.FAST_DOMAIN)
    simulator.add_testbench(bench)
    simulator.run()
    return len(wrong)


def test_sums_come_in_their_cycle(seed: int) -> None:
    assert wrong_sums(clocking.double_rate, seed) == 0


#: What would be wrong -> (text of the module, the text in its place).
MUTANTS = {
    "the phase the wrong way round": ("turns[0].eq(~(sampled ^ before))", "turns[0].eq(sampled ^ before)"),
    "a slice's turn as that of the slice before": ("[later.eq(turn) for", "[later.eq(~turn) for"),
    "captured half a cycle early": (
        "m.d[FAST_DOMAIN] += kept.eq(total)\n        m.d.sync += [first.eq(kept), second.eq(total)]",
        "older = Signal.like(total)\n        m.d[FAST_DOMAIN] += [kept.eq(total), older.eq(kept)]\n"
        "        m.d.sync += [first.eq(older), second.eq(kept)]",
    ),
    "codes of the second lanes a cycle early": ("(lane + self.lanes // 2, (place + 1) // 2)", "(lane + self.lanes // 2, place // 2)"),
    "latency one too short": ("// 2 + 1 + tree_levels", "// 2 + tree_levels"),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_what_is_wrong_is_seen(what: str, seed: int) -> None:
    assert wrong_sums(mutant("rtl.tech.clocking", *MUTANTS[what]).double_rate, seed) > PRODUCTS // 2


def test_formulas() -> None:
    assert [clocking.double_rate.latency(lanes) for lanes in (16, 32, 48, 64)] == [8, 9, 9, 9]
    assert clocking.double_rate.stagger(32) == (0, 0, 1, 1, 2, 2, 3, 3) * 2 + (0, 1, 1, 2, 2, 3, 3, 4) * 2
    config = Int8MatmulConfig(clocking=clocking.double_rate)
    assert config.latency == 10 and config.offsets["last"] == 8


def test_wrong_inputs() -> None:
    with pytest.raises(InputError, match=r"^inputs must be a multiple of 16 at twice the clock: 24 is not; use 32$"):
        Int8MatmulConfig(inputs=24, clocking=clocking.double_rate)
