"""`PoolSums`: exact for images of any size, words interleaved, and readable when it says."""

from rtl.efficientvit.pool_sums import PoolSums, PoolSumsConfig
from sim_tests.cocotb.runner import run_bench


def test_pool_sums() -> None:
    parameters = {"settle": PoolSums.settle, "latency": PoolSums.latency}
    run_bench(PoolSumsConfig().build(), module="sim_tests.cocotb.bench_pool_sums", parameters=parameters, name="pool_sums")


def test_published_timing() -> None:
    assert (PoolSums.settle, PoolSums.latency) == (16, 2)
