"""The layers of an EfficientViT with their sizes, from its dimensions alone: what they cost, without making a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.configs import EfficientVitConfig

STEM, POINTWISE, DEPTHWISE, GROUPED, ATTENTION, LINEAR = "stem", "pointwise", "depthwise", "grouped", "attention", "linear"
#: An attention attends to what qkv makes, and to that aggregated.
SCALES = 2


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, named as in the integer graph.

    kind : one of the above        inputs, outputs : channels        side : of its square output        kernel : of its window
    head_dim : channels of a group (GROUPED) and of q, k and v of a head (ATTENTION)
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    side: int
    kernel: int = 1
    head_dim: int = 0

    @property
    def pixels(self) -> int:
        return self.side**2

    @property
    def macs(self) -> int:
        """Multiply-accumulates. Attention: K^T V and Q S over all heads of all scales, with the column of ones that makes the divisors."""
        if self.kind == ATTENTION:
            return 2 * self.pixels * self.outputs * (self.head_dim + 1)
        inputs = {DEPTHWISE: 1, GROUPED: self.head_dim}.get(self.kind, self.inputs)
        return self.pixels * self.kernel**2 * inputs * self.outputs


def layers(config: EfficientVitConfig) -> list[Layer]:
    """In the network's order; a depthwise layer stands just ahead of the pointwise or grouped one that takes its output."""
    side, width = config.image_size // 2, config.widths[0]
    found = [Layer(name="stem.in_conv", kind=STEM, inputs=config.channels, outputs=width, side=side, kernel=3)]
    for index in range(config.depths[0]):
        found += _separable(f"stem.res{index}.main", width, width, width, side)
    for stage, (outputs, depth) in enumerate(zip(config.widths[1:], config.depths[1:], strict=True)):
        attention = config.has_attention(stage)
        for block in range(depth + attention):
            name, inputs = f"stages.{stage}.blocks.{block}", found[-1].outputs
            if block and attention:
                found += _attention(f"{name}.context_module.main", inputs, side, config.head_dim)
                name = f"{name}.local_module"
            middle = config.expand_ratio * inputs
            found.append(Layer(name=f"{name}.main.inverted_conv", kind=POINTWISE, inputs=inputs, outputs=middle, side=side))
            side = -(-side // 2) if block == 0 else side
            found += _separable(f"{name}.main", middle, middle, outputs, side)
    return [*found, *_head(config, found[-1].outputs, side)]


def _separable(name: str, inputs: int, middle: int, outputs: int, side: int) -> Iterator[Layer]:
    yield Layer(name=f"{name}.depth_conv", kind=DEPTHWISE, inputs=inputs, outputs=middle, side=side, kernel=3)
    yield Layer(name=f"{name}.point_conv", kind=POINTWISE, inputs=middle, outputs=outputs, side=side)


def _attention(name: str, width: int, side: int, head_dim: int) -> Iterator[Layer]:
    wide, both = 3 * width, SCALES * width
    yield Layer(name=f"{name}.qkv", kind=POINTWISE, inputs=width, outputs=wide, side=side)
    yield Layer(name=f"{name}.aggreg.0.0", kind=DEPTHWISE, inputs=wide, outputs=wide, side=side, kernel=5)
    yield Layer(name=f"{name}.aggreg.0.1", kind=GROUPED, inputs=wide, outputs=wide, side=side, head_dim=head_dim)
    yield Layer(name=f"{name}.attention", kind=ATTENTION, inputs=SCALES * wide, outputs=both, side=side, head_dim=head_dim)
    yield Layer(name=f"{name}.proj", kind=POINTWISE, inputs=both, outputs=width, side=side)


def _head(config: EfficientVitConfig, inputs: int, side: int) -> Iterator[Layer]:
    pooled, hidden = config.head_widths
    yield Layer(name="head.in_conv", kind=POINTWISE, inputs=inputs, outputs=pooled, side=side)
    yield Layer(name="head.classifier.0", kind=LINEAR, inputs=pooled, outputs=hidden, side=1)
    yield Layer(name="head.classifier.4", kind=LINEAR, inputs=hidden, outputs=config.classes, side=1)
