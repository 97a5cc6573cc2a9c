"""Walks the registry: every unit builds, becomes Verilog, is documented, has a reference and a bench."""

import warnings

import pytest
from amaranth.back import rtlil

from rtl.errors import InputError
from rtl.flow.toolchain import ROOT
from rtl.units.registry import UNITS, load, unit
from sim_tests.units.shells import AlwaysReadyShell


@pytest.mark.parametrize("name", UNITS)
def test_unit_builds_emits_and_is_documented(name: str) -> None:
    component = UNITS[name].build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = rtlil.convert(AlwaysReadyShell(component), name=name)
    assert text.count("\nmodule") >= 2
    documented = type(component).__doc__ or ""
    missing = [section for section in ("Parameters", "Members", "Timing") if f"{section}\n" not in documented]
    assert not missing, f"{type(component).__name__} says nothing under {missing}"
    assert load(UNITS[name].factory).__doc__


@pytest.mark.parametrize("name", UNITS)
def test_unit_has_reference_and_bench(name: str) -> None:
    assert callable(load(UNITS[name].reference))
    assert (ROOT / UNITS[name].bench.replace(".", "/")).with_suffix(".py").exists()


def test_wrong_unit() -> None:
    with pytest.raises(InputError, match=r"unit must be one of xnor_matmul, .*: 'conv' is not; choose one of them"):
        unit("conv")
    assert unit("lookup") is UNITS["lookup"]
