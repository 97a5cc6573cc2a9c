import pytest

from rtl.bus.axi_reader import AxiReaderConfig
from sim_tests.bus.shells import FlatShell
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_axi_reader"


@pytest.mark.parametrize("depth, bursts", [(128, 16), (64, 3), (32, 2)])
def test_axi_reader(depth: int, bursts: int) -> None:
    unit = AxiReaderConfig(depth=depth, bursts=bursts).build()
    run_bench(FlatShell(unit), module=BENCH, parameters={"depth": depth, "bursts": bursts}, name="axi_reader")
