"""What differs between the families of networks in the flow: how a program is made, what it must write, how much work an image is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from model.efficientvit.graph import Convolution, EfficientVitGraph, LinearAttention
from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.efficientvit import preset as efficientvit_preset
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.efficientvit.isa import Counter as EfficientVitCounter
from rtl.efficientvit.program import compiler as efficientvit_compiler
from rtl.efficientvit.program import expected as efficientvit_expected
from rtl.flow.machine import Config
from rtl.program import compiler, expected
from rtl.program.expected import Mismatch, Recorded
from rtl.program.isa import Counter

Graph = DeitGraph | EfficientVitGraph
Tensors = Mapping[str, np.ndarray]
#: Output channels that a row of the EfficientViT machine computes at a time.
EFFICIENTVIT_LANES = 2


class Family(Protocol):
    """
    weight_bits : of the array        pipelined : a program's images follow each other at a steady rate (else: in pairs)
    mismatch : the class of differences        counters : what the machine's counters are used for
    """

    weight_bits: int
    pipelined: bool
    mismatch: type[Mismatch]
    counters: type[IntEnum]

    def compile(self, graph: Any, config: Any, images: int) -> Any:
        """The program of so many images."""
        ...

    def compare(
        self, compiled: Any, graph: Any, tensors: Sequence[Tensors], config: Any, got: Mapping[str, Sequence[Recorded]]
    ) -> list[Mismatch]:
        """The first differences of everything that the rows wrote."""
        ...

    def macs(self, graph: Any) -> int:
        """Multiply-accumulates of one image on the array."""
        ...

    def multipliers(self, config: Any) -> int:
        """Multiply-accumulates of the array in a cycle."""
        ...

    def sizes(self, config: Any) -> dict[str, int]:
        """Of the array, beside its rows."""
        ...

    def described(self, config: Any) -> str:
        """The configuration as text, the same in every process."""
        ...


class Deit:
    weight_bits, pipelined, mismatch, counters = 1, False, Mismatch, Counter

    def compile(self, graph: DeitGraph, config: AcceleratorConfig, images: int) -> compiler.CompiledProgram:
        return compiler.compile_graph(graph, config, images=images)

    def compare(self, compiled, graph: DeitGraph, tensors, config: AcceleratorConfig, got) -> list[Mismatch]:
        return expected.compare(expected.expected_trace(compiled, tensors, config), got)

    def macs(self, graph: DeitGraph) -> int:
        """Binary ones: every plane of every weight counts once per token that needs it."""
        shape = graph.shape
        first = graph.layers[0]
        per_layer = sum(linear.outputs * linear.inputs for linear in (first.qkv, first.projection, first.fc1, first.fc2))
        patch = graph.patch.outputs * graph.patch.inputs * graph.patch.planes * shape.patches
        heads = [head for head in (graph.head, graph.head_distilled) if head is not None]
        return shape.depth * per_layer * shape.tokens + patch + sum(head.outputs * head.inputs * head.planes for head in heads)

    def multipliers(self, config: AcceleratorConfig) -> int:
        return config.rows * config.inputs

    def sizes(self, config: AcceleratorConfig) -> dict[str, int]:
        return {"inputs": config.inputs, "lanes": config.lanes}

    def described(self, config: AcceleratorConfig) -> str:
        return repr(config)


class EfficientVit:
    weight_bits, pipelined, mismatch, counters = 8, True, efficientvit_expected.PixelMismatch, EfficientVitCounter

    def compile(self, graph: EfficientVitGraph, config: EfficientVitMachine, images: int) -> efficientvit_compiler.CompiledProgram:
        return efficientvit_compiler.compile_graph(graph, config, images=images)

    def compare(self, compiled, graph: EfficientVitGraph, tensors, config: EfficientVitMachine, got) -> list[Mismatch]:
        return efficientvit_expected.compare(efficientvit_expected.expected_trace(compiled, graph, tensors, config), got)

    def macs(self, graph: EfficientVitGraph) -> int:
        """Of pointwise layers, the stem and attention's quotients with their divisors. Depthwise layers, K^T V and fully connected layers
        have engines of their own."""
        return sum(_macs(graph, operator) for operator in graph.operators)

    def multipliers(self, config: EfficientVitMachine) -> int:
        return config.rows * WORD_CHANNELS * EFFICIENTVIT_LANES

    def sizes(self, config: EfficientVitMachine) -> dict[str, int]:
        return {"inputs": WORD_CHANNELS, "lanes": EFFICIENTVIT_LANES, "dsp_clock": config.dsp_clock}

    def described(self, config: EfficientVitMachine) -> str:
        return efficientvit_preset.described(config)


def _macs(graph: EfficientVitGraph, operator: Any) -> int:
    if isinstance(operator, LinearAttention):
        heads = sum(graph.tensors[scale.source].channels // (3 * operator.head_dim) for scale in operator.scales)
        return graph.tensors[operator.target].pixels * heads * operator.head_dim * (operator.head_dim + 1)
    pixels = graph.tensors[operator.target].pixels
    if not isinstance(operator, Convolution) or operator.depthwise or pixels == 1:
        return 0
    return pixels * operator.weight.size


def family_of(config: Config) -> Family:
    return EfficientVit() if isinstance(config, EfficientVitMachine) else Deit()


def model_name(graph: Graph) -> str:
    return graph.shape.name if isinstance(graph, DeitGraph) else graph.name
