"""Every unit of the machine, by name. Adding a unit is its file plus one entry here; `sim_tests/units/test_registry.py` walks them.

Modules are imported when a unit is built: a unit that is not used costs nothing and cannot break another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from amaranth.lib import wiring

from rtl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class UnitEntry:
    """
    Parameters
    ----------
    factory : "module:name" of a config class, whose instance builds the unit, or of the unit's class
    defaults : its keyword arguments; called first if it is a function (for configs that must be imported too)
    reference : "module:name" of the function that the unit's bits are compared with
    bench : module of its cocotb bench
    """

    factory: str
    defaults: dict[str, Any] | Callable[[], dict[str, Any]]
    reference: str
    bench: str

    def build(self, **parameters: Any) -> wiring.Component:
        """The unit, with ``parameters`` in the place of defaults."""
        defaults = self.defaults() if callable(self.defaults) else self.defaults
        made = load(self.factory)(**{**defaults, **parameters})
        if isinstance(made, wiring.Component):
            return made
        return made.build() if hasattr(made, "build") else made.unit()


def load(target: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _attention_defaults() -> dict[str, Any]:
    config = load("rtl.attention_config:AttentionConfig")
    return {"config": config(bits=8, rows=6, lanes=6, head_dim=16, heads=4, tokens=17, passes=3, key_value_heads=4)}


def _entry(unit: str, name: str, defaults, reference: str, *, bench: str | None = None) -> UnitEntry:
    return UnitEntry(
        factory=f"rtl.units.{unit}:{name}",
        defaults=defaults,
        reference=reference,
        bench=f"sim_tests.cocotb.bench_{bench or unit}",
    )


UNITS: dict[str, UnitEntry] = {
    "xnor_matmul": _entry("xnor_matmul", "XnorMatmulConfig", {"inputs": 64, "bits": 8}, "model.interpreter:exact_matmul"),
    "accumulate": _entry("accumulate", "AccumulateConfig", {}, "model.integer:plane_weights"),
    "requantize": _entry("requantize", "RequantizeConfig", {}, "model.integer:requantize"),
    "lookup": _entry("lookup", "LookupConfig", {}, "model.interpreter:linear"),
    "residual": _entry("residual", "ResidualConfig", {}, "model.integer:add_residual", bench="residual"),
    "layernorm_statistics": _entry(
        "layernorm_statistics", "LayerNormStatisticsConfig", {}, "model.integer:layernorm_statistics", bench="layernorm_statistics"
    ),
    "layernorm": _entry("layernorm", "LayerNormNormalizeConfig", {}, "model.integer:layernorm"),
    "attention": _entry("attention", "Attention", _attention_defaults, "model.integer:attention"),
    "linear_attention": _entry(
        "linear_attention", "LinearAttentionConfig", {}, "model.efficientvit.integer:linear_attention", bench="linear_attention"
    ),
    "int8_matmul": _entry("int8_matmul", "Int8MatmulConfig", {}, "model.interpreter:exact_matmul"),
    "hardswish": _entry("hardswish", "HardswishConfig", {}, "model.efficientvit.integer:hardswish"),
    "code_requantize": _entry(
        "code_requantize", "CodeRequantizeConfig", {"quotient": "log2"}, "model.efficientvit.integer:requantize_code"
    ),
    "log2_exponent": _entry("log2_exponent", "Log2ExponentConfig", {}, "model.efficientvit.integer:rounded_log2"),
    "depthwise_conv": _entry("depthwise_conv", "DepthwiseConvConfig", {"channels": 4}, "model.efficientvit.interpreter:accumulators"),
}


def unit(name: str) -> UnitEntry:
    """Raises
    ------
    InputError : no unit has that name.
    """
    if name not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}: {name!r} is not; choose one of them")
    return UNITS[name]
