"""Softmax numerators and their sum, alone."""

import pytest

from rtl.units.softmax import Softmax
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("slots,tokens", [(198, 197), (18, 17), (4, 4)])
def test_softmax(slots: int, tokens: int) -> None:
    run_bench(
        Softmax(slots=slots, tokens=tokens),
        module="sim_tests.cocotb.bench_softmax",
        name="softmax",
        parameters={"slots": slots, "tokens": tokens},
    )
