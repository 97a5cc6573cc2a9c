"""`CodeRequantize`: bit-exact and exact to the cycle at every precision and with every kind of multiplier."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.code_requantize import CodeRequantizeConfig
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_code_requantize"
LUTS = {"first": "lut", "second": "lut", "accumulator_bits": 22}


def check(simulator: str | None = None, **parameters) -> None:
    config = CodeRequantizeConfig(**parameters)
    told = {
        "bits": config.bits,
        "shortcut": config.shortcut,
        "quotient": config.quotient is not None,
        "accumulator_bits": config.accumulator_bits,
        "offsets": config.offsets,
        "latency": config.latency,
    }
    unit = PlainShell(config.build())
    run_bench(unit, module=BENCH, parameters=told, name="code_requantize", simulator=simulator)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_quotients_and_shortcuts(bits: int) -> None:
    check(bits=bits, quotient="log2")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"shortcut": False},
        {"shortcut": False, "quotient": "log2"},
        {"shortcut": False, "second": "lut"},
        {"second": "lut"},
        {**LUTS, "shortcut": False},
        {**LUTS, "bits": 5, "second": "dsp"},
    ],
    ids=lambda parameters: "-".join(f"{name}_{value}" for name, value in parameters.items()) or "default",
)
def test_kinds(parameters: dict) -> None:
    check(**parameters)


def test_code_requantize_icarus(icarus: str) -> None:
    check(icarus, quotient="log2")


def test_published_timing() -> None:
    slices, tables = CodeRequantizeConfig(quotient="log2"), CodeRequantizeConfig(**LUTS)
    assert (slices.latency, tables.latency, CodeRequantizeConfig(second="lut").latency) == (21, 33, 27)
    second = dict.fromkeys(("second_bias", "second_multiplier", "second_shift", "shortcut_enable", "shortcut", "exponent"), 12)
    first = dict.fromkeys(("bias", "multiplier", "shift", "quotient"), 0)
    assert slices.offsets == {**first, "hardswish": 6, "fraction": 6, **second, "zero": 18, "low": 20}


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"bits": 3}, r"bits must be 4\.\.8: 3 does not; choose a width in that range"),
        ({"first": "rom"}, r"a multiplier must be one of dsp, lut: 'rom' does not; choose one of them"),
        ({"quotient": "exact"}, r"quotient must be None or 'log2': 'exact' does not; others are not done yet"),
        ({"quotient": "log2", "second": "lut"}, r"a quotient needs two multipliers of kind dsp: dsp, lut does not; choose dsp for both"),
        ({"first": "lut"}, r"accumulator_bits must be 2\.\.22: 27 does not; choose fewer"),
    ],
)
def test_wrong_config(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CodeRequantizeConfig(**parameters)
