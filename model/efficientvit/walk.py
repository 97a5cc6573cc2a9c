"""One description of an EfficientViT for every source of constants: random ones (`random_graph`), none at all (``model.skeleton``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from model.configs import EfficientVitConfig
from model.efficientvit import integer
from model.efficientvit.graph import (
    IMAGE,
    LOGITS,
    Convolution,
    EfficientVitGraph,
    LayerNorm,
    LinearAttention,
    Operator,
    Pool,
    Requantizer,
    Scale,
    Tensor,
)
from model.efficientvit.operators import OperatorsConfig
from model.integer import Saturation, unsigned

#: Where Hardswish's results lie nearly always, where its argument deviates by 1.5: below and above 0.
GATED_LOW, GATED_HIGH = 0.375, 5.5
_NOTHING = Requantizer(bias=np.zeros(0), multiplier=np.zeros(0), shift=np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a requantizer is for. ``wide``: its results are s16. ``shortcut``: the tensor that it adds, or None."""

    hardswish: bool = False
    shortcut: str | None = None
    wide: bool = False


class Constants(Protocol):
    """The constants of a network's operators, asked for in execution order, and told of every operator that is complete."""

    def weight(self, shape: tuple[int, ...], limit: int) -> np.ndarray:
        """int8 in [-limit, limit]."""
        ...

    def requantizer(self, graph: EfficientVitGraph, operator: Convolution | Pool, channels: int, stage: Stage) -> Requantizer:
        """Of an operator that has none yet."""
        ...

    def norm(self, name: str, source: str, channels: int) -> LayerNorm: ...

    def scale(self, graph: EfficientVitGraph, source: str, head_dim: int) -> Scale: ...

    def made(self, graph: EfficientVitGraph, operator: Operator | None) -> None:
        """``operator`` is the graph's last; None: the image is there."""
        ...


@dataclass
class Walk:
    """The graph so far."""

    config: EfficientVitConfig | OperatorsConfig
    bits: int
    weight_bits: int
    constants: Constants
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def graph(self) -> EfficientVitGraph:
        return EfficientVitGraph(
            name=self.config.name, bits=self.bits, weight_bits=self.weight_bits, tensors=self.tensors, operators=tuple(self.operators)
        )

    def image(self) -> None:
        size, channels = self.config.image_size, self.config.channels
        step, first = integer.image_scale(self.bits)
        zero = np.round((255 * np.array(self.config.mean) - first) / step).astype(np.int64)
        self.tensors[IMAGE] = Tensor(height=size, width=size, channels=channels, zero=zero, limits=unsigned(self.bits))
        self.constants.made(self.graph(), None)

    # -- operators ------------------------------------------------------------------------------------------------------------------------

    def convolution(
        self, name: str, source: str, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, hardswish: bool = False,
        shortcut: str | None = None, operand: bool = False, wide: bool = False,
    ) -> str:  # fmt: skip
        """``operand``: for attention, evenly about zero. ``wide``: s16. Returns the target's name."""
        tensor = self.tensors[source]
        weight = self.constants.weight((outputs, tensor.channels // groups, kernel, kernel), (1 << (self.weight_bits - 1)) - 1)
        conv = Convolution(name=name, source=source, target=name, weight=weight, stride=stride, groups=groups, requantizer=_NOTHING)
        stage = Stage(hardswish=hardswish, shortcut=shortcut, wide=wide)
        conv = replace(conv, requantizer=self.constants.requantizer(self.graph(), conv, outputs, stage))
        height, width = ((side + 2 * (kernel // 2) - kernel) // stride + 1 for side in (tensor.height, tensor.width))
        self._add(conv, (height, width, outputs), self._format(hardswish, operand, wide))
        return name

    def attention(self, name: str, sources: tuple[str, ...]) -> str:
        head_dim, first = self.config.head_dim, self.tensors[sources[0]]
        scales = tuple(self.constants.scale(self.graph(), source, head_dim) for source in sources)
        channels = sum(self.tensors[source].channels // 3 for source in sources)
        operator = LinearAttention(name=name, target=name, head_dim=head_dim, scales=scales)
        self._add(operator, (first.height, first.width, channels), self._format())
        return name

    def pool(self, name: str, source: str) -> str:
        channels = self.tensors[source].channels
        pool = Pool(name=name, source=source, target=name, requantizer=_NOTHING)
        pool = replace(pool, requantizer=self.constants.requantizer(self.graph(), pool, channels, Stage()))
        self._add(pool, (1, 1, channels), self._format())
        return name

    def norm(self, name: str, source: str) -> str:
        channels = self.tensors[source].channels
        self._add(self.constants.norm(name, source, channels), (1, 1, channels), self._format(hardswish=True))
        return name

    def _format(self, hardswish: bool = False, operand: bool = False, wide: bool = False) -> tuple[int, Saturation]:
        """Zero point and limits."""
        top = (1 << self.bits) - 1
        if wide:
            return 0, integer.WIDE
        if hardswish:
            return round(top * GATED_LOW / (GATED_LOW + GATED_HIGH)), unsigned(self.bits)
        return 1 << (self.bits - 1), Saturation(low=1 if operand else 0, high=top)

    def _add(self, operator: Operator, shape: tuple[int, int, int], kind: tuple[int, Saturation]) -> None:
        height, width, channels = shape
        self.tensors[operator.target] = Tensor(height=height, width=width, channels=channels, zero=kind[0], limits=kind[1])
        self.operators.append(operator)
        self.constants.made(self.graph(), operator)

    # -- blocks ---------------------------------------------------------------------------------------------------------------------------

    def separable(self, name: str, source: str, outputs: int, *, stride: int = 1, middle: int = 0, shortcut: bool = True) -> str:
        """MBConv; without ``middle`` the stem's DSConv."""
        x = self.convolution(f"{name}.inverted_conv", source, middle, hardswish=True) if middle else source
        channels = self.tensors[x].channels
        x = self.convolution(f"{name}.depth_conv", x, channels, kernel=3, stride=stride, groups=channels, hardswish=True)
        return self.convolution(f"{name}.point_conv", x, outputs, shortcut=source if shortcut else None)

    def multi_scale_attention(self, name: str, source: str) -> str:
        width = self.tensors[source].channels
        qkv = self.convolution(f"{name}.qkv", source, 3 * width, operand=True)
        wide = self.convolution(f"{name}.aggreg.0.0", qkv, 3 * width, kernel=5, groups=3 * width)
        aggregated = self.convolution(f"{name}.aggreg.0.1", wide, 3 * width, groups=3 * width // self.config.head_dim, operand=True)
        x = self.attention(f"{name}.attention", (qkv, aggregated))
        return self.convolution(f"{name}.proj", x, width, shortcut=source)


def efficientvit_graph(
    config: EfficientVitConfig | OperatorsConfig, bits: int, weight_bits: int, constants: Constants
) -> EfficientVitGraph:
    """The network of ``config``, in which everything that is no dimension comes from ``constants``."""
    walk = Walk(config, bits, weight_bits, constants)
    walk.image()
    if isinstance(config, OperatorsConfig):
        _given(walk, config)
    else:
        _b_series(walk, config)
    return walk.graph()


def _given(walk: Walk, config: OperatorsConfig) -> None:
    for spec in config.ordered():
        source = spec.sources[0]
        if spec.op == "convolution":
            channels = walk.tensors[source].channels
            walk.convolution(
                spec.name, source, spec.outputs or channels, kernel=spec.kernel, stride=spec.stride, groups=spec.groups or channels,
                hardswish=spec.hardswish, shortcut=spec.shortcut, operand=config.attends(spec.name), wide=config.wide(spec.name),
            )  # fmt: skip
        elif spec.op == "attention":
            walk.attention(spec.name, spec.sources)
        else:
            (walk.pool if spec.op == "pool" else walk.norm)(spec.name, source)


def _b_series(walk: Walk, config: EfficientVitConfig) -> None:
    x = walk.convolution("stem.in_conv", IMAGE, config.widths[0], kernel=3, stride=2, hardswish=True)
    for index in range(config.depths[0]):
        x = walk.separable(f"stem.res{index}.main", x, config.widths[0])
    for stage, (width, depth) in enumerate(zip(config.widths[1:], config.depths[1:], strict=True)):
        attention = config.has_attention(stage)
        for block in range(depth + attention):
            name, inputs = f"stages.{stage}.blocks.{block}", walk.tensors[x].channels
            if block and attention:
                x = walk.multi_scale_attention(f"{name}.context_module.main", x)
                name = f"{name}.local_module"
            middle, first = config.expand_ratio * inputs, block == 0
            x = walk.separable(f"{name}.main", x, width, stride=2 if first else 1, middle=middle, shortcut=not first)
    x = walk.pool("head.global_pool", walk.convolution("head.in_conv", x, config.head_widths[0], hardswish=True))
    x = walk.norm("head.classifier.1", walk.convolution("head.classifier.0", x, config.head_widths[1], wide=True))
    walk.convolution(LOGITS, x, config.classes, wide=True)
