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


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SHAPE.image_size, SHAPE.image_size, 1), dtype=np.uint8)


def run(graph: DeitGraph, config: AcceleratorConfig, count: int = 2, **options) -> SimulationResult:
    """Simulate and compare ``count`` random images."""
    verilog = options.pop("verilog", None) or accelerator_verilog(config)
    return simulate(graph, config, images(count), lambda image: interpret(graph, image), verilog=verilog, **options)
