"""`XnorMatmul`: every strategy x precision x shape against numpy, exact in value and in cycle."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.xnor_matmul import STRATEGIES, XnorMatmulConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("inputs", [64, 112])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_xnor_matmul(strategy: str, bits: int, inputs: int) -> None:
    check(XnorMatmulConfig(inputs=inputs, bits=bits, strategy=STRATEGIES[strategy]()))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("inputs, bits", [(16, 1), (20, 3), (36, 7), (68, 5)])
def test_xnor_matmul_ragged(strategy: str, bits: int, inputs: int) -> None:
    """Inputs that no chunk divides, and the smallest unit there is."""
    check(XnorMatmulConfig(inputs=inputs, bits=bits, strategy=STRATEGIES[strategy]()))


def check(config: XnorMatmulConfig) -> None:
    parameters = {"inputs": config.inputs, "bits": config.bits, "latency": config.latency, "fill_lead": config.fill_lead}
    run_bench(PlainShell(config.unit()), module="sim_tests.cocotb.bench_xnor_matmul", parameters=parameters, name="xnor_matmul")


@pytest.mark.parametrize(
    "strategy, inputs, bits, latency, fill_lead",
    [("lut_table", 16, 8, 4, 20), ("lut_table", 64, 8, 5, 20), ("lut_table", 768, 4, 7, 20), ("lut_table", 1024, 1, 8, 20)]
    + [("popcount", 16, 1, 4, 2), ("popcount", 64, 8, 8, 2), ("popcount", 768, 4, 10, 2)],
)
def test_timing_formulas(strategy: str, inputs: int, bits: int, latency: int, fill_lead: int) -> None:
    config = XnorMatmulConfig(inputs=inputs, bits=bits, strategy=STRATEGIES[strategy]())
    assert (config.latency, config.fill_lead) == (latency, fill_lead)


@pytest.mark.parametrize("inputs", [12, 66, 1028])
def test_wrong_inputs(inputs: int) -> None:
    message = f"^inputs must be 16..1024 and a multiple of 4: {inputs} is not; round it up and leave inputs unfilled$"
    with pytest.raises(InputError, match=message):
        XnorMatmulConfig(inputs=inputs, bits=8)


@pytest.mark.parametrize("bits", [0, 9])
def test_wrong_bits(bits: int) -> None:
    with pytest.raises(InputError, match=f"^bits must be 1..8: {bits} is not; wider activations need two passes$"):
        XnorMatmulConfig(inputs=64, bits=bits)
