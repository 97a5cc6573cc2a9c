"""What a machine will occupy, without making it: the costs that stand beside its modules, at the prices that calibration found.

Slices, block memories and memory LUTs are exact; LUTs and flip-flops are what the structure fixes, and terms whose prices were fitted to
yosys' estimates of small modules (`rtl.plan.calibrate_resources`). Always of UltraScale+ technology, whatever the configuration simulates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from rtl import accelerator_cost as deit
from rtl.accelerator import BANK_MODULE
from rtl.cost import Cost
from rtl.efficientvit import accelerator_cost as efficientvit
from rtl.efficientvit.config import EfficientVitMachine
from rtl.flow.estimate import Resources
from rtl.flow.machine import TOP_MODULE, Config

STORED = Path(__file__).with_name("calibration") / "resources.json"
TOTAL = "total"
#: Law -> term -> price of a unit of it.
Prices = Mapping[str, Mapping[str, Mapping[str, float]]]


@cache
def stored_prices() -> Prices:
    return json.loads(STORED.read_text(encoding="utf-8"))["prices"]


def costs(config: Config) -> dict[str, tuple[Cost, int]]:
    """Every module as `rtl.flow.build` emits and estimates them: what one costs, and how often it is used."""
    family = efficientvit if isinstance(config, EfficientVitMachine) else deit
    return family.module_costs(config) | {TOP_MODULE: (family.rest_cost(config), 1)}


def law_of(config: Config, module: str) -> str:
    """What a module's prices are kept under: banks of different sizes have one law; the families' rests have one each."""
    if isinstance(config, EfficientVitMachine):
        return f"efficientvit_{module}" if module == TOP_MODULE else module
    return BANK_MODULE if module.startswith(BANK_MODULE) else module


def priced(cost: Cost, prices: Mapping[str, Mapping[str, float]]) -> Resources:
    """A cost at a law's prices."""
    lut = cost.lut + sum(amount * prices["lut"].get(term, 0.0) for term, amount in cost.priced_lut.items())
    ff = cost.ff + sum(amount * prices["ff"].get(term, 0.0) for term, amount in cost.priced_ff.items())
    return Resources(lut=round(lut), ff=round(ff), dsp=cost.dsp, bram36=cost.bram36, lutram=cost.lutram)


def predict(config: Config, prices: Prices | None = None) -> dict[str, Resources]:
    """Resources of one of each module, by the names of `rtl.flow.build`, and of the whole machine under "total". About a millisecond.

    Of `Resources`, lut, ff, dsp, bram36 and lutram are predicted: before place-and-route, as yosys would estimate them.
    prices : of every law; None takes the stored ones

    Raises
    ------
    InputError : no such machine
    """
    prices, found, total = prices or stored_prices(), {}, Resources()
    for module, (cost, count) in costs(config).items():
        found[module] = priced(cost, prices[law_of(config, module)])
        total += found[module] * count
    return found | {TOTAL: total}
