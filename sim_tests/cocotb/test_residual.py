"""`Residual`: bit-exact and exact to the cycle."""

import pytest

from rtl.flow.plain_shell import PlainShell
from rtl.units.residual import Residual, ResidualConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("choices", [1, 3, 4])
def test_residual(choices: int) -> None:
    config = ResidualConfig(choices=choices)
    unit = PlainShell(config.build())
    parameters = {"latency": Residual.latency, "choices": choices, "offsets": config.offsets}
    run_bench(unit, module="sim_tests.cocotb.bench_residual", parameters=parameters, name="residual")


def test_published_timing() -> None:
    assert Residual.latency == 1
