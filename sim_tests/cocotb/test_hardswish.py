"""`Hardswish`: bit-exact at every argument, and exact to the cycle."""

import pytest

from rtl.flow.plain_shell import PlainShell
from rtl.units.hardswish import Hardswish, HardswishConfig
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_hardswish"


def check(values: tuple[int, int], simulator: str | None = None) -> None:
    parameters = {"offsets": Hardswish.OFFSETS, "latency": Hardswish.latency, "values": values}
    run_bench(PlainShell(HardswishConfig().build()), module=BENCH, parameters=parameters, name="hardswish", simulator=simulator)


def test_near_arguments() -> None:
    """Wherever the result is curved, at every fraction, and beyond."""
    check((-4200, 4200))


@pytest.mark.slow
def test_every_argument() -> None:
    check((-32768, 32768))


def test_hardswish_icarus(icarus: str) -> None:
    check((-300, 300), icarus)


def test_published_timing() -> None:
    assert Hardswish.latency == 6
    assert Hardswish.OFFSETS == {"enable": 0, "fraction": 0}
