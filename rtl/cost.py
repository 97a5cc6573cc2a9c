"""What a module occupies, as far as its structure says: beside each unit stands a function that returns its `Cost`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Exact counts, and quantities that calibration gives a price (`rtl.plan.calibrate_resources`), in UltraScale+ technology.

    Parameters
    ----------
    dsp, bram36 : slices, and block memories of 36 Kb: exact
    lutram : LUTs that are memory: exact
    lut, ff : LUTs (those of ``lutram`` included) and flip-flops that the structure fixes
    priced_lut, priced_ff : name of a term -> how much of it there is; what a unit of it costs is fitted, per module

    Costs add, and multiply by a count.
    """

    dsp: int = 0
    bram36: float = 0.0
    lutram: int = 0
    lut: int = 0
    ff: int = 0
    priced_lut: Mapping[str, float] = field(default_factory=dict)
    priced_ff: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, more: Cost) -> Cost:
        if not isinstance(more, Cost):
            return NotImplemented
        return Cost(**{name: _sum(getattr(self, name), getattr(more, name)) for name in _FIELDS})

    def __mul__(self, count: int) -> Cost:
        if not isinstance(count, int):
            return NotImplemented
        return Cost(**{name: _times(getattr(self, name), count) for name in _FIELDS})

    __rmul__ = __mul__


_FIELDS = tuple(entry.name for entry in dataclasses.fields(Cost))


def _sum(one, two):
    if isinstance(one, Mapping):
        return {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}
    return one + two


def _times(value, count):
    return {name: amount * count for name, amount in value.items()} if isinstance(value, Mapping) else value * count
