"""`Requantize`: bit-exact and exact to the cycle at every precision."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.requantize import Requantize, RequantizeConfig
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_requantize"


def check(bits: int, simulator: str | None = None) -> None:
    parameters = {"bits": bits, "offsets": Requantize.OFFSETS, "latency": Requantize.latency}
    unit = PlainShell(RequantizeConfig(bits=bits).build())
    run_bench(unit, module=BENCH, parameters=parameters, name="requantize", simulator=simulator)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_requantize(bits: int) -> None:
    check(bits)


def test_requantize_icarus(icarus: str) -> None:
    check(8, icarus)


def test_published_timing() -> None:
    assert Requantize.latency == 8
    assert Requantize.OFFSETS == {"bias": 0, "multiplier": 0, "shift": 0, "limits": 6, "zero": 7}


@pytest.mark.parametrize("bits", [0, 9])
def test_wrong_bits(bits: int) -> None:
    with pytest.raises(InputError, match=rf"bits must be 1\.\.8: {bits} does not; choose a width in that range"):
        RequantizeConfig(bits=bits)
