import pytest

from rtl.bus.axi_writer import AxiWriterConfig
from sim_tests.bus.shells import FlatShell
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("bursts", [8, 2])
def test_axi_writer(bursts: int) -> None:
    unit = AxiWriterConfig(bursts=bursts).build()
    run_bench(FlatShell(unit), module="sim_tests.cocotb.bench_axi_writer", parameters={"bursts": bursts}, name="axi_writer")
