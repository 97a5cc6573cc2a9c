"""Walks the registry: every unit builds, becomes Verilog, is documented, has a reference and a bench."""

import warnings

import pytest
from amaranth.back import rtlil

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.flow.toolchain import ROOT
from rtl.units.registry import UNITS, load, unit


@pytest.mark.parametrize("technology", ["generic", "ultrascale"])
@pytest.mark.parametrize("name", UNITS)
def test_unit_builds_emits_and_is_documented(name: str, technology: str) -> None:
    entry = UNITS[name]
    component = entry.build(technology=technology)
    shell = PlainShell(component)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = rtlil.convert(shell, name=name)
    assert text.count("\nmodule") >= 2
    documented = type(component).__doc__ or ""
    missing = [section for section in ("Parameters", "Members", "Timing") if f"{section}\n" not in documented]
    assert not missing, f"{type(component).__name__} says nothing under {missing}"
    assert load(entry.factory).__doc__
    unknown = {*entry.ranges, *entry.every, *entry.idle} - {leaf.name for leaf in shell.leaves}
    assert not unknown, f"stimulus of {name} names no such ports: {unknown}"


@pytest.mark.parametrize("name", ["attention", "depthwise_conv", "int8_matmul"])
def test_technology_reaches_the_multipliers(name: str) -> None:
    emitted = {kind: rtlil.convert(PlainShell(UNITS[name].build(technology=kind)), name=name) for kind in ("generic", "ultrascale")}
    assert "cell \\DSP48E2" in emitted["ultrascale"] and "DSP48E2" not in emitted["generic"]


def test_precision() -> None:
    assert UNITS["depthwise_conv"].precision(6) == {"bits": 6} and UNITS["attention"].precision(8) == {"bits": 8}
    assert UNITS["hardswish"].precision(8) == {}
    with pytest.raises(InputError, match="bits must be 8 for a unit that has one width: 6 is not; leave it out"):
        UNITS["hardswish"].precision(6)


@pytest.mark.parametrize("name", UNITS)
def test_unit_has_reference_and_bench(name: str) -> None:
    assert callable(load(UNITS[name].reference))
    assert (ROOT / UNITS[name].bench.replace(".", "/")).with_suffix(".py").exists()


def test_wrong_unit() -> None:
    with pytest.raises(InputError, match=r"unit must be one of xnor_matmul, .*: 'conv' is not; choose one of them"):
        unit("conv")
    assert unit("lookup") is UNITS["lookup"]
