"""`Log2Exponent`: bit-exact and exact to the cycle."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.log2_exponent import Log2Exponent, Log2ExponentConfig
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_log2_exponent"


def check(divisor_bits: int, simulator: str | None = None) -> None:
    config = Log2ExponentConfig(divisor_bits=divisor_bits)
    parameters = {"divisor_bits": divisor_bits, "offsets": Log2Exponent.OFFSETS, "latency": Log2Exponent.latency}
    run_bench(PlainShell(config.build()), module=BENCH, parameters=parameters, name="log2_exponent", simulator=simulator)


@pytest.mark.parametrize("divisor_bits", [6, 9, 27, 32])
def test_log2_exponent(divisor_bits: int) -> None:
    check(divisor_bits)


def test_log2_exponent_icarus(icarus: str) -> None:
    check(27, icarus)


def test_published_timing() -> None:
    assert Log2Exponent.latency == 7
    assert Log2Exponent.OFFSETS == {"low": 5}


@pytest.mark.parametrize("divisor_bits", [5, 33])
def test_wrong_width(divisor_bits: int) -> None:
    with pytest.raises(InputError, match=rf"divisor_bits must be 6\.\.32: {divisor_bits} does not; choose a width in that range"):
        Log2ExponentConfig(divisor_bits=divisor_bits)
