"""Every unit of the machine, by name. Adding a unit is its file plus one entry here; `sim_tests/units/test_registry.py` walks them.

Modules are imported when a unit is built: a unit that is not used costs nothing and cannot break another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from amaranth.lib import wiring

from rtl.errors import InputError

#: Activation precision of the command line, where none is given.
DEFAULT_BITS = 8


def load(target: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _object(technology: str) -> dict[str, Any]:
    return {"technology": load(f"rtl.tech.dsp48e2:{technology}")}


@dataclass(frozen=True, kw_only=True)
class UnitEntry:
    """
    Parameters
    ----------
    factory : "module:name" of the config class
    defaults : its keyword arguments
    reference : "module:name" of the function that the unit's bits are compared with
    bench : module of its bench, for cocotb or for Amaranth's simulator
    unit : "module:name" of the unit's class, which takes the config and the technology; None if the config has both
    technology : its name, generic or ultrascale -> the arguments that choose it, for those who have it
    ranges : port, or a field of it ("i.payload") -> (least, greatest) that a value in it may be; others may be anything
    every : port or field -> it counts cycles from 0 to less than this, again and again; one bit is 1 where the count is 0
    idle : port or field -> its value while the unit comes to rest; others are 0

    The last three say what random stimulus may be, for `rtl.flow.unit`.
    """

    factory: str
    defaults: Mapping[str, Any]
    reference: str
    bench: str
    unit: str | None = None
    technology: Callable[[str], dict[str, Any]] = _object
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    every: Mapping[str, int] = field(default_factory=dict)
    idle: Mapping[str, int] = field(default_factory=dict)

    def build(self, *, technology: str = "generic", **parameters: Any) -> wiring.Component:
        """The unit, with ``parameters`` in the place of defaults."""
        chosen, make = self.technology(technology), load(self.factory)
        if self.unit is not None:
            return load(self.unit)(make(**{**self.defaults, **parameters}), **chosen)
        known = {name: value for name, value in chosen.items() if name in self._fields()}
        config = make(**{**self.defaults, **known, **parameters})
        return config.build() if hasattr(config, "build") else config.unit()

    def precision(self, bits: int) -> dict[str, int]:
        """The parameters that give the unit a precision of ``bits``.

        Raises
        ------
        InputError : the unit has no such precision.
        """
        if "bits" in self._fields():
            return {"bits": bits}
        if bits != DEFAULT_BITS:
            raise InputError(f"bits must be {DEFAULT_BITS} for a unit that has one width: {bits} is not; leave it out")
        return {}

    def _fields(self) -> set[str]:
        return {each.name for each in dataclasses.fields(load(self.factory))}


def _strategy(technology: str) -> dict[str, Any]:
    return {"strategy": load("rtl.arith.lut_table:LutTable")(technology=load(f"rtl.tech.dsp48e2:{technology}"))}


def _entry(unit: str, name: str, defaults, reference: str, *, bench: str | None = None, **more: Any) -> UnitEntry:
    bench = bench or f"sim_tests.cocotb.bench_{unit}"
    return UnitEntry(factory=f"rtl.units.{unit}:{name}", defaults=defaults, reference=reference, bench=bench, **more)


_ATTENTION = {"bits": 8, "rows": 6, "lanes": 6, "head_dim": 16, "heads": 4, "tokens": 17, "passes": 3, "key_value_heads": 4}
_EXACT = "sim_tests.units.test_exact_quotient"
#: Of int8 weights: eight products fit a DSP lane.
_WEIGHT = (-127, 127)
#: Half of an accumulator's range: accumulator + bias fits.
_HALF_RANGE = (-(1 << 25), (1 << 25) - 1)
_TERMS = {"i_accumulator.payload": _HALF_RANGE, "bias": _HALF_RANGE}

UNITS: dict[str, UnitEntry] = {
    "xnor_matmul": _entry(
        "xnor_matmul", "XnorMatmulConfig", {"inputs": 64, "bits": 8}, "model.interpreter:exact_matmul", technology=_strategy,
        # one bank, which a vector has for itself
        ranges={"i_activations.payload.bank": (0, 0), "i_weights.payload.bank": (0, 0)}, every={"i_activations.payload.first": 64},
    ),
    "accumulate": _entry("accumulate", "AccumulateConfig", {}, "model.integer:plane_weights"),
    "requantize": _entry("requantize", "RequantizeConfig", {}, "model.integer:requantize", ranges=_TERMS),
    "lookup": _entry("lookup", "LookupConfig", {}, "model.interpreter:linear"),
    "residual": _entry("residual", "ResidualConfig", {}, "model.integer:add_residual"),
    "layernorm_statistics": _entry("layernorm_statistics", "LayerNormStatisticsConfig", {}, "model.integer:layernorm_statistics"),
    "layernorm": _entry("layernorm", "LayerNormNormalizeConfig", {}, "model.integer:layernorm"),
    "attention": UnitEntry(
        factory="rtl.attention_config:AttentionConfig",
        defaults=_ATTENTION,
        reference="model.integer:attention",
        bench="sim_tests.cocotb.bench_attention",
        unit="rtl.units.attention:Attention",
    ),
    "linear_attention": _entry(
        "linear_attention", "LinearAttentionConfig", {}, "model.efficientvit.integer:linear_attention", every={"i.go": 8}
    ),
    "int8_matmul": _entry(
        "int8_matmul", "Int8MatmulConfig", {}, "model.interpreter:exact_matmul",
        ranges={"weights_0": _WEIGHT, "weights_1": _WEIGHT}, idle={"first": 1},
    ),
    "hardswish": _entry("hardswish", "HardswishConfig", {}, "model.efficientvit.integer:hardswish"),
    "code_requantize": _entry(
        "code_requantize", "CodeRequantizeConfig", {"quotient": "log2"}, "model.efficientvit.integer:requantize_code", ranges=_TERMS
    ),
    "log2_exponent": _entry("log2_exponent", "Log2ExponentConfig", {}, "model.efficientvit.integer:rounded_log2"),
    "exact_reciprocal": _entry(
        "exact_reciprocal", "ExactReciprocalConfig", {}, "model.efficientvit.integer:divide", bench=_EXACT,
        ranges={"i.payload": (0, (1 << 26) - 1)}, every={"i.valid": 34},
    ),
    "exact_quotient": _entry("exact_quotient", "ExactQuotientConfig", {}, "model.efficientvit.integer:divide", bench=_EXACT),
    "depthwise_conv": _entry(
        "depthwise_conv", "DepthwiseConvConfig", {"channels": 4}, "model.efficientvit.interpreter:accumulators",
        ranges={"weights": _WEIGHT, "parameters.word.bias": _HALF_RANGE}, every={"control.step": 3},
    ),
}  # fmt: skip


def unit(name: str) -> UnitEntry:
    """Raises
    ------
    InputError : no unit has that name.
    """
    if name not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}: {name!r} is not; choose one of them")
    return UNITS[name]
