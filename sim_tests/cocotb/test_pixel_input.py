import dataclasses

import pytest

from model.graph import DeitShape
from rtl.config import AcceleratorConfig, preset
from rtl.pixel_input import PixelInput
from rtl.pixel_turn import PixelTurn
from sim_tests.cocotb.runner import run_bench
from sim_tests.program.shapes import BASE, MICRO

TWO_BY_TWO = DeitShape(
    name="two", bits=4, image_size=32, channels=1, patch_size=16, embed_dim=16, depth=1, heads=1, hidden_dim=64, classes=10
)
#: 65 tokens: grid rows run over groups of 16 rows and over passes.
EIGHT = dataclasses.replace(TWO_BY_TWO, image_size=64, channels=2, patch_size=8)
WIDE = dataclasses.replace(EIGHT, channels=4, distilled=True)
#: 81 bytes: the last beat is cut.
ODD = dataclasses.replace(TWO_BY_TWO, image_size=9, patch_size=3)


def small(shape: DeitShape, rows: int) -> AcceleratorConfig:
    return AcceleratorConfig(shape=shape, rows=rows, inputs=64, lanes=rows, tile_words=64)


CONFIGS = {
    "micro": preset(MICRO),
    "odd": small(ODD, 4),
    "two": small(TWO_BY_TWO, 10),
    "two_rows": small(TWO_BY_TWO, 2),
    "eight": small(EIGHT, 22),
    "wide": small(WIDE, 27),
    "narrow": small(EIGHT, 5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_pixel_input(name: str) -> None:
    _run(CONFIGS[name])


@pytest.mark.parametrize("rows", [66, 50])
def test_full_size_image(rows: int) -> None:
    _run(preset(BASE, rows=rows), "image_cycles")


def _run(config: AcceleratorConfig, test: str | None = None) -> None:
    engine = PixelInput(config)
    parameters = {"shape": dataclasses.asdict(config.shape), "rows": config.rows, "turns": isinstance(engine.pixels, PixelTurn)}
    run_bench(engine, module="sim_tests.cocotb.bench_pixel_input", name="pixel_input", test=test, parameters=parameters)
