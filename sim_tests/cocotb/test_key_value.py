"""Key/value collector and memory, alone."""

import pytest

from rtl.attention_bus import read_layout
from rtl.attention_config import AttentionConfig
from rtl.units import key_value
from rtl.units.key_value import KeyValueMemory
from sim_tests.cocotb.runner import run_bench

SIZES = {
    "micro": dict(rows=6, lanes=6, head_dim=16, heads=4, tokens=17, passes=3, key_value_heads=8),
    "four lanes": dict(rows=8, lanes=4, head_dim=16, heads=3, tokens=15, passes=2, key_value_heads=3),
    "last group of two": dict(rows=10, lanes=4, head_dim=8, heads=2, tokens=19, passes=2, key_value_heads=4),
    "last group of four": dict(rows=10, lanes=6, head_dim=16, heads=1, tokens=28, passes=3, key_value_heads=2),
    "three groups": dict(rows=18, lanes=6, head_dim=22, heads=2, tokens=36, passes=2, key_value_heads=2),
}


def bench(sizes: dict, test: str) -> None:
    config = AttentionConfig(bits=8, **sizes)
    component = KeyValueMemory(config)
    parameters = {
        "sizes": sizes,
        "chunks": config.chunks,
        "settle": config.settle_cycles,
        "address_bits": read_layout(config)["address"].shape,
    }
    run_bench(component, module="sim_tests.cocotb.bench_key_value", test=test, name="key_value", parameters=parameters)


@pytest.mark.parametrize("name", list(SIZES))
def test_key_value(name: str) -> None:
    bench(SIZES[name], "collects")


def test_memory_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block RAMs of 256 bits: 48 words take fewer of them as 32 and 16."""
    monkeypatch.setattr(key_value, "_BLOCK_BITS", 256)
    monkeypatch.setattr(key_value, "_WIDEST_COLUMN", 32)
    sizes = SIZES["three groups"]
    depth = AttentionConfig(bits=8, **sizes).key_depth
    assert key_value._columns(depth, 96) > key_value._columns(32, 96) + key_value._columns(depth - 32, 96)
    bench(sizes, "collects")


def test_conflict() -> None:
    bench(SIZES["micro"], "reports_conflict")
