import dataclasses

import pytest

from model.graph import DeitShape
from rtl.config import AcceleratorConfig, preset
from rtl.dma_engine import DmaEngine
from sim_tests.cocotb.runner import run_bench
from sim_tests.program.shapes import MICRO

TWO_BY_TWO = DeitShape(
    name="two", bits=4, image_size=32, channels=1, patch_size=16, embed_dim=16, depth=1, heads=1, hidden_dim=64, classes=10
)
#: 65 tokens: grid rows run over groups of 16 rows and over passes.
EIGHT = dataclasses.replace(TWO_BY_TWO, image_size=64, channels=2, patch_size=8)
WIDE = dataclasses.replace(EIGHT, channels=4, distilled=True)


def small(shape: DeitShape, rows: int) -> AcceleratorConfig:
    return AcceleratorConfig(shape=shape, rows=rows, inputs=64, lanes=rows, tile_words=64)


CONFIGS = {
    "micro": preset(MICRO),
    "two": small(TWO_BY_TWO, 10),
    "two_rows": small(TWO_BY_TWO, 2),
    "eight": small(EIGHT, 22),
    "wide": small(WIDE, 27),
    "narrow": small(EIGHT, 5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_dma_engine(name: str) -> None:
    config = CONFIGS[name]
    parameters = {"shape": dataclasses.asdict(config.shape), "rows": config.rows}
    run_bench(DmaEngine(config), module="sim_tests.cocotb.bench_dma_engine", name="dma_engine", parameters=parameters)
