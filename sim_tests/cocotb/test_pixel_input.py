import dataclasses

import pytest

from rtl.config import AcceleratorConfig, preset
from rtl.pixel_input import PixelInput
from rtl.pixel_turn import PixelTurn
from sim_tests.cocotb.runner import run_bench
from sim_tests.program.shapes import BASE, SCATTERED, TWO_BY_TWO, small

#: 81 bytes: the last beat is cut.
ODD = dataclasses.replace(TWO_BY_TWO, image_size=9, patch_size=3)

CONFIGS = {**SCATTERED, "odd": small(ODD, 4)}


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
