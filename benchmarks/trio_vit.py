"""Trio-ViT's own model of its machine (arXiv 2405.03882; the companion arXiv 2403.20230): cycles of an EfficientViT.

The closed form of the cycle script in the authors' repository (github.com/shihuihong214/Trio-ViT, latency_v2.py, in its history before
5bad24c). It counts what the two engines multiply, and leaves out the head, the memory, requantizers, Hardswish and every bubble between
layers.
"""

from __future__ import annotations

from itertools import pairwise

from benchmarks.layers import ATTENTION, DEPTHWISE, GROUPED, SCALES, Layer, layers
from model.configs import EfficientVitConfig

#: Of the machine: 16 cores of an 8 x 8 reconfigurable engine and an 8 x 8 multiplier-adder-tree engine, two 8-bit products per DSP.
CORES, SIDE = 16, 8
MULTIPLIERS = CORES * 2 * SIDE**2
DSPS = MULTIPLIERS // 2
CLOCK_MHZ = 200
#: The paper's rate, from which its 95 % utilisation follows.
PUBLISHED_GOPS = 780.2
#: Cycles that the authors' script itself gives, changed in model and resolution only.
SCRIPT_CYCLES = {
    "efficientvit_b1_r224": 250_343,
    "efficientvit_b1_r256": 324_139,
    "efficientvit_b1_r288": 420_593,
    "efficientvit_b2_r224": 762_009,
    "efficientvit_b2_r256": 988_941,
    "efficientvit_b2_r288": 1_274_031,
}


def cycles(config: EfficientVitConfig, *, head: bool = False) -> float:
    """Of one image. ``head``: with the head's three layers on both engines, which the authors leave out; its memory time stays out."""
    total = 0.0
    for before, layer in pairwise([None, *_counted(config, head)]):
        if layer.kind == DEPTHWISE:
            continue  # goes with the layer behind it
        total += _fused(before, layer) if before is not None and before.kind == DEPTHWISE else _alone(layer)
    return total / CORES


def counted_macs(config: EfficientVitConfig) -> int:
    """Multiply-accumulates as the authors count them: without the head, the grouped layers and the column of ones."""
    ones = sum(2 * layer.pixels * layer.outputs for layer in layers(config) if layer.kind == ATTENTION)
    return sum(layer.macs for layer in _counted(config, False) if layer.kind != GROUPED) - ones


def _counted(config: EfficientVitConfig, head: bool) -> list[Layer]:
    return [layer for layer in layers(config) if head or not layer.name.startswith("head.")]


def _tiles(size: int, tile: int = SIDE) -> int:
    return -(-size // tile)


def _alone(layer: Layer) -> int:
    """Of one core, both engines side by side: 16 output channels, or one scale's heads on each."""
    if layer.kind == ATTENTION:
        heads, dim = layer.outputs // SCALES // layer.head_dim, layer.head_dim
        return heads * _tiles(dim) * (_tiles(layer.pixels) * dim + _tiles(dim) * layer.pixels)
    return _tiles(layer.outputs, 2 * SIDE) * _tiles(layer.inputs) * layer.pixels * layer.kernel**2


def _fused(depthwise: Layer, layer: Layer) -> float:
    """The reconfigurable engine does the depthwise layer, the other one begins the next layer; then both finish it."""
    taps = depthwise.kernel**2
    alone = _tiles(depthwise.side) * _tiles(depthwise.outputs) * depthwise.side * taps
    if layer.kind == GROUPED:  # the script passes C outputs where there are 3 C
        behind = layer.outputs // 3 // layer.head_dim * _tiles(layer.head_dim) ** 2 * layer.pixels
    else:
        behind = _tiles(layer.outputs) * _tiles(layer.inputs) * layer.pixels
    return alone + max(0.0, (behind - (alone - _tiles(depthwise.outputs) * taps)) / 2)
