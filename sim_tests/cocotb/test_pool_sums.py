"""`PoolSums`: exact for images of any size, words interleaved, and readable when it says."""

import pytest

from rtl.efficientvit.pool_sums import PoolSums, PoolSumsConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("bits", [4, 8])
def test_pool_sums(bits: int) -> None:
    parameters = {"bits": bits, "settle": PoolSums.settle, "latency": PoolSums.latency}
    run_bench(PoolSumsConfig(bits=bits).build(), module="sim_tests.cocotb.bench_pool_sums", parameters=parameters, name="pool_sums")


def test_published_timing() -> None:
    assert (PoolSums.settle, PoolSums.latency) == (16, 2)
