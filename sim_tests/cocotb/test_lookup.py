"""`Lookup`: both latencies, both memory styles."""

import pytest

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.lookup import LookupConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("latency, ram_style", [(1, "distributed"), (1, "block"), (2, "block")])
def test_lookup(latency: int, ram_style: str) -> None:
    unit = PlainShell(LookupConfig(latency=latency, ram_style=ram_style).build())
    run_bench(unit, module="sim_tests.cocotb.bench_lookup", parameters={"latency": latency}, name="lookup")


@pytest.mark.parametrize(
    "wrong, message",
    [({"latency": 3}, "latency must be 1 or 2: 3 does not; use 2"), ({"ram_style": "ultra"}, "ram_style must be block or distributed")],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LookupConfig(**wrong)
