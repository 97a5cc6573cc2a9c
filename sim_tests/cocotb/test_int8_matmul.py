"""`Int8Matmul`: exact sums in the exact cycle, at several numbers of inputs."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.tech.clocking import CLOCKINGS
from rtl.units.int8_matmul import Int8MatmulConfig
from sim_tests.cocotb.runner import run_bench
from sim_tests.units.two_clocks import TwoClocks

BENCH = "sim_tests.cocotb.bench_int8_matmul"


def check(inputs: int, dsp_clock: int = 1, simulator: str | None = None) -> None:
    config = Int8MatmulConfig(inputs=inputs, clocking=CLOCKINGS[dsp_clock])
    stagger = {"weights_0": config.stagger, "weights_1": config.stagger, "codes": (0,) * inputs}
    parameters = {"inputs": inputs, "offsets": config.offsets, "latency": config.latency + dsp_clock - 1, "stagger": stagger}
    shell = PlainShell(config.build())
    if dsp_clock == 2:
        shell = TwoClocks(shell)
    run_bench(shell, module=BENCH, parameters=parameters, name="int8_matmul", simulator=simulator)


@pytest.mark.parametrize("inputs", [1, 8, 22, 32])
def test_int8_matmul(inputs: int) -> None:
    check(inputs)


@pytest.mark.parametrize("inputs", [16, 32, 48])
def test_at_twice_the_clock(inputs: int) -> None:
    check(inputs, 2)


@pytest.mark.parametrize("dsp_clock", [1, 2])
def test_int8_matmul_icarus(icarus: str, dsp_clock: int) -> None:
    check(32, dsp_clock, icarus)


def test_published_timing() -> None:
    config = Int8MatmulConfig()
    assert config.latency == 14
    assert config.offsets == {"codes": 0, "weights_0": 0, "weights_1": 0, "first": 12, "last": 12, "enable": 12}
    assert config.stagger == (*range(8),) * 4


@pytest.mark.parametrize(
    "inputs, message",
    [
        (0, "inputs must be 1 or more: 0 does not; choose as many as a word of codes has"),
        (4096, "a product must fit 27 bits: 28 does not; choose fewer inputs"),
    ],
)
def test_wrong_inputs(inputs: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Int8MatmulConfig(inputs=inputs)
