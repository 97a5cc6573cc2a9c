"""Attention: engine, key/value memory and rows together, bit for bit and cycle for cycle."""

import pytest

from rtl.attention_config import AttentionConfig
from sim_tests.cocotb.attention_harness import AttentionHarness
from sim_tests.cocotb.runner import run_bench

MICRO = dict(rows=6, lanes=6, head_dim=16, heads=4, tokens=17, passes=3, key_value_heads=4)
SMALL = {
    "four lanes": dict(rows=8, lanes=4, head_dim=16, heads=2, tokens=15, passes=2, key_value_heads=4),
    "two lanes": dict(rows=4, lanes=2, head_dim=8, heads=2, tokens=7, passes=2, key_value_heads=3),
    "last group of two": dict(rows=10, lanes=4, head_dim=8, heads=3, tokens=19, passes=2, key_value_heads=6),
    "last group of four": dict(rows=10, lanes=6, head_dim=16, heads=2, tokens=28, passes=3, key_value_heads=2),
}
BASE = dict(rows=66, lanes=22, head_dim=64, heads=12, tokens=197, passes=3, key_value_heads=12)
BASE_50 = dict(BASE, rows=50, passes=4)


def bench(sizes, rows, cases=()):
    config = AttentionConfig(**sizes)
    jobs = [(heads, passes) for heads in (1, config.heads) for passes in range(1, config.passes + 1)]
    cycles = {f"{heads},{passes}": config.cycles(heads, passes) for heads, passes in jobs}
    parameters = {"sizes": sizes, "rows": list(rows), "cases": list(cases), "cycles": cycles}
    run_bench(AttentionHarness(config, rows), module="sim_tests.cocotb.bench_attention", name="attention", parameters=parameters)


def test_micro() -> None:
    bench(dict(MICRO, bits=8), range(6))


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_bits(bits: int) -> None:
    bench(dict(MICRO, bits=bits), (0, 5), ["gaps", "saturated outputs", "extremes", "one dominating key", "uniform"])


@pytest.mark.parametrize("name", list(SMALL))
def test_small(name: str) -> None:
    bench(dict(SMALL[name], bits=8), range(SMALL[name]["rows"]))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [BASE, BASE_50], ids=["66 rows", "50 rows"])
def test_deit_base(sizes: dict) -> None:
    bench(dict(sizes, bits=8), (0, 1, sizes["rows"] - 1), ["gaps", "largest sums", "one head, the last, second image"])
