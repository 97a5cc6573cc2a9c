"""What a module occupies, as far as its structure says: beside each unit stands a function that returns its `Cost`."""

from __future__ import annotations

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
        return Cost(
            dsp=self.dsp + more.dsp,
            bram36=self.bram36 + more.bram36,
            lutram=self.lutram + more.lutram,
            lut=self.lut + more.lut,
            ff=self.ff + more.ff,
            priced_lut=_sum(self.priced_lut, more.priced_lut),
            priced_ff=_sum(self.priced_ff, more.priced_ff),
        )

    def __mul__(self, count: int) -> Cost:
        if not isinstance(count, int):
            return NotImplemented
        return Cost(
            dsp=self.dsp * count,
            bram36=self.bram36 * count,
            lutram=self.lutram * count,
            lut=self.lut * count,
            ff=self.ff * count,
            priced_lut={name: amount * count for name, amount in self.priced_lut.items()},
            priced_ff={name: amount * count for name, amount in self.priced_ff.items()},
        )

    __rmul__ = __mul__


def _sum(one: Mapping[str, float], two: Mapping[str, float]) -> Mapping[str, float]:
    if not one or not two:
        return one or two
    return {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}
