"""`Residual`: bit-exact and exact to the cycle."""

from rtl.units.residual import Residual, ResidualConfig
from sim_tests.cocotb.runner import run_bench
from sim_tests.units.shells import AlwaysReadyShell


def test_residual() -> None:
    unit = AlwaysReadyShell(ResidualConfig().build())
    run_bench(unit, module="sim_tests.cocotb.bench_residual", parameters={"latency": Residual.latency}, name="residual")


def test_published_timing() -> None:
    assert Residual.latency == 1
