import pytest

from rtl.units.accumulate import AccumulateConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("terms", [256, 0])
def test_accumulate(bits: int, terms: int) -> None:
    config = AccumulateConfig(inputs=64, bits=bits, channels=20, passes=3, terms=terms)
    parameters = {"limit": 64 * ((1 << bits) - 1), "width": config.sum_shape.width, "tiles": terms // 64}
    run_bench(config.build(), module="sim_tests.cocotb.bench_accumulate", name="accumulate", parameters=parameters)
