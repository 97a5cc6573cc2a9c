"""`AttendEngine`: exact and exact to the cycle, for heads of both sizes, at every precision, with pixels summed in the DSPs or not."""

import dataclasses

import pytest

from rtl.efficientvit.attend_command import AttendConfig, command_layout
from rtl.efficientvit.attend_engine import AttendEngine
from rtl.errors import InputError
from sim_tests.cocotb.runner import run_bench


def check(config: AttendConfig, simulator: str | None = None) -> None:
    parameters = {"config": {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "technology"}}
    run_bench(
        AttendEngine(config), module="sim_tests.cocotb.bench_attend_engine", parameters=parameters, name="attend", simulator=simulator
    )


@pytest.mark.parametrize(("rows", "bits", "depth"), [(49, 8, 1), (18, 4, 1), (49, 6, 2), (23, 8, 4)])
def test_attend_engine(rows: int, bits: int, depth: int) -> None:
    check(AttendConfig(rows=rows, bits=bits, depth=depth))


def test_published_cycles() -> None:
    config = AttendConfig()
    assert [config.cycles(pixels, False) for pixels in (16, 35, 49, 196, 324)] == [70, 70, 98, 392, 648]
    assert [config.cycles(pixels, True) for pixels in (16, 49, 196)] == [276, 392, 1568]
    assert AttendConfig(depth=2).cycles(49, False) == 100
    assert AttendConfig(depth=4).cycles(49, False) == 104


def test_command_fits_an_instruction() -> None:
    assert command_layout(AttendConfig()).size == 80


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rows": 65}, r"rows must be 1\.\.64: 65 does not; use 49"),
        ({"depth": 3}, r"depth must be 1, 2 or 4: 3 does not; choose one of them"),
        ({"pixels": 1025}, r"pixels must be 1\.\.1024: 1025 does not; choose a number in that range"),
        ({"bits": 3}, r"bits must be 4\.\.8: 3 does not; choose a width in that range"),
        ({"state_depth": 500}, r"depth must be a power of two: 500 does not; round it up"),
    ],
)
def test_wrong_config(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AttendConfig(**parameters)
