"""`LinearAttention`: bit-exact and exact to the cycle at several precisions and depths."""

import pytest
from amaranth.hdl import Fragment, signed

from rtl.errors import InputError
from rtl.units.linear_attention import LinearAttention, LinearAttentionConfig
from rtl.units.outer_product import OuterProduct, OuterProductConfig
from sim_tests.cocotb.runner import run_bench


def check(bits: int, depth: int, multipliers: str = "dsp", simulator: str | None = None) -> None:
    parameters = {"bits": bits, "depth": depth, "pixels": 324, "multipliers": multipliers}
    unit = LinearAttentionConfig(**parameters).build()
    run_bench(unit, module="sim_tests.cocotb.bench_linear_attention", parameters=parameters, name="linear_attention", simulator=simulator)


@pytest.mark.parametrize(
    ("bits", "depth", "multipliers"), [(8, 1, "dsp"), (8, 1, "lut"), (5, 1, "lut"), (4, 1, "dsp"), (6, 2, "dsp"), (8, 4, "dsp")]
)
def test_linear_attention(bits: int, depth: int, multipliers: str) -> None:
    check(bits, depth, multipliers)


def test_published_timing() -> None:
    units = [LinearAttention(LinearAttentionConfig(depth=depth)) for depth in (1, 2, 4)]
    for component in (*units, core := OuterProduct(OuterProductConfig())):
        Fragment.get(component, None)  # Amaranth warns of what is never elaborated
    assert [unit.latency for unit in units] == [11, 11, 10]
    assert [unit.finish_latency for unit in units] == [7, 8, 10]
    assert [unit.OFFSETS["multiplier"] for unit in units] == [3, 3, 2]
    assert [[unit.config.tiles(wide) for wide in (False, True)] for unit in units] == [[2, 8], [4, 16], [8, 32]]
    assert core.OFFSETS["slot"] == 3
    luts = [LinearAttentionConfig(bits=bits, multipliers="lut").build() for bits in (4, 8)]
    assert [unit.finish_latency for unit in luts] == [7, 9]
    for unit in luts:
        Fragment.get(unit, None)


def test_deep_steps_need_slices() -> None:
    with pytest.raises(InputError, match="depth must be 1 with multipliers of LUTs: 2"):
        LinearAttentionConfig(depth=2, multipliers="lut")


@pytest.mark.parametrize(("bits", "pixels"), [(8, 1024), (8, 49), (4, 1024), (5, 196)])
def test_sums_fit(bits: int, pixels: int) -> None:
    """The laws, at their extremes: enough, and one bit less is not."""
    config = OuterProductConfig(bits=bits, pixels=pixels)
    high, low = (1 << (bits - 1)) - 1, -1 << (bits - 1)
    for width, value in ((config.sum_bits, pixels * high * low), (config.total_bits, pixels * high)):
        limits = signed(width)
        assert -(1 << limits.width - 1) <= value < 1 << limits.width - 1
        assert not -(1 << limits.width - 2) < value < 1 << limits.width - 2
