import pytest

from rtl.units.accumulate import Accumulate, AccumulateConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("tiles, planes", [(4, 1), (2, 8), (0, 1)])
def test_accumulate(bits: int, tiles: int, planes: int) -> None:
    limit = 64 * ((1 << bits) - 1)
    config = AccumulateConfig(inputs=64, bits=bits, channels=20, passes=3, largest=tiles * limit * ((1 << planes) - 1))
    parameters = {"limit": limit, "tiles": tiles, "planes": planes, "latency": Accumulate.latency, "offsets": Accumulate.OFFSETS}
    run_bench(config.build(), module="sim_tests.cocotb.bench_accumulate", name="accumulate", parameters=parameters)
