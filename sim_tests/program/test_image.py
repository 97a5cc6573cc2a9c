"""What a driver is told of a program."""

from __future__ import annotations

from model.random_graph import random_graph
from rtl.program.compiler import compile_graph
from rtl.program.image import manifest
from rtl.program.isa import Counter
from sim_tests.program.shapes import SMALL


def test_manifest(seed: int) -> None:
    """Windows do not overlap, start on pages, and hold what the program moves."""
    config = SMALL["odd_image"]
    compiled = compile_graph(random_graph(config.shape, seed), config, 2)
    description = manifest(
        compiled, model="odd", bits=8, rows=config.rows, image_shape=(9, 9, 1), classes=config.shape.classes, counters=Counter
    )
    end = 0
    for window in description["windows"].values():
        assert window["offset"] % 4096 == 0 and window["offset"] >= end
        end = window["offset"] + window["bytes"]
    assert end <= description["buffer_bytes"]
    assert description["windows"]["image"]["bytes"] == 256 + 96
    assert description["image"] == {"bytes": 81, "shape": [9, 9, 1], "dtype": "uint8", "offsets": [0, 256]}
    assert description["windows"]["result"]["bytes"] == 32
    assert (description["result"]["bytes"], description["result"]["offsets"]) == (6, [0, 16])
    assert description["images"] == 2 and description["counters"]["2"] == "TILES_DONE"
