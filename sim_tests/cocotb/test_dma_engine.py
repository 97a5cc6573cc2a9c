import dataclasses

import pytest

from rtl.dma_engine import DmaEngine
from sim_tests.cocotb.runner import run_bench
from sim_tests.program.shapes import SCATTERED


@pytest.mark.parametrize("name", SCATTERED)
def test_dma_engine(name: str) -> None:
    config = SCATTERED[name]
    parameters = {"shape": dataclasses.asdict(config.shape), "rows": config.rows}
    run_bench(DmaEngine(config), module="sim_tests.cocotb.bench_dma_engine", name="dma_engine", parameters=parameters)
