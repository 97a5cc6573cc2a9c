"""Small whole machines: quick to build, with every kind of layer, several passes and a slot without a token."""

from dataclasses import replace

import numpy as np

from model.graph import DeitGraph, DeitShape
from model.interpreter import interpret
from model.random_graph import random_graph
from rtl.config import AcceleratorConfig
from rtl.flow.machine import accelerator_verilog
from rtl.flow.simulate import SimulationResult, simulate

SHAPE = DeitShape(name="tiny", bits=8, image_size=14, channels=1, patch_size=7, embed_dim=32, depth=1, heads=2, hidden_dim=128, classes=10)


def tiny(bits: int = 8, *, seed: int = 1, **changes) -> tuple[DeitGraph, AcceleratorConfig]:
    """5 tokens on 2 rows: three passes, the last slot idle; FC2 in two K-tiles."""
    shape = replace(SHAPE, bits=bits)
    config = AcceleratorConfig(shape=shape, **{"rows": 2, "inputs": 64, "lanes": 2, "tile_words": 96} | changes)
    return random_graph(shape, seed), config


def ported() -> tuple[DeitGraph, AcceleratorConfig]:
    """Patch lines of 16 bytes; 256 pixels of a patch over 48 inputs; weight words in three slices."""
    shape = replace(SHAPE, name="ported", image_size=64, patch_size=16, embed_dim=48, heads=3, hidden_dim=96, depth=2)
    config = AcceleratorConfig(shape=shape, rows=6, inputs=48, lanes=6, tile_words=192, weight_ports=3, key_value_copies=2)
    return random_graph(shape, 3), config


def distilled() -> tuple[DeitGraph, AcceleratorConfig]:
    _, config = tiny()
    shape = replace(SHAPE, distilled=True)
    return random_graph(shape, 2), replace(config, shape=shape)


def partial() -> tuple[DeitGraph, AcceleratorConfig]:
    """Lanes that do not divide rows: groups of 4, 4 and 2; 17 tokens in two passes."""
    shape = replace(SHAPE, name="partial", image_size=28, embed_dim=32, heads=4)
    return random_graph(shape, 4), AcceleratorConfig(shape=shape, rows=10, inputs=64, lanes=4, tile_words=96)


#: Machines for what the plain one lacks.
VARIANTS = {"ported": ported, "distilled": distilled, "partial": partial}


def images(shape: DeitShape, count: int, seed: int = 0) -> np.ndarray:
    size = (count, shape.image_size, shape.image_size, shape.channels)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def run(graph: DeitGraph, config: AcceleratorConfig, count: int = 2, seed: int = 0, **options) -> SimulationResult:
    """Simulate and compare ``count`` random images."""
    verilog = options.pop("verilog", None) or accelerator_verilog(config)
    pictures = images(graph.shape, count, seed)
    return simulate(graph, config, pictures, lambda image: interpret(graph, image), verilog=verilog, **options)
