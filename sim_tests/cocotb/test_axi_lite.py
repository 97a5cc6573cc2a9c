from rtl.bus.registers import ControlRegistersConfig
from sim_tests.bus.shells import FlatShell
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_axi_lite"


def test_axi_lite() -> None:
    parameters = {"rows": 66, "inputs": 768, "bits": 6, "lanes": 22, "passes": 3}
    run_bench(FlatShell(ControlRegistersConfig(**parameters).build()), module=BENCH, parameters=parameters, name="axi_lite")
