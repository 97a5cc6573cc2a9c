"""EfficientViT in float (MIT's B series), with timm's parameter names and timm's logits (``efficientvit_mit.py`` of timm 1.0).

Structure and names of the layers: papers/trio_vit.md, section 1.1. Every tensor is (batch, channels, height, width).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configs import EfficientVitConfig

NORM_EPSILON = 1e-5
#: Kernel of the depthwise convolution that makes the second scale of attention.
AGGREGATION_KERNEL = 5


class ConvNormAct(nn.Module):
    """Convolution padded by half its kernel, BatchNorm or bias (one of them), Hardswish or nothing."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, norm: bool = True, hardswish: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPSILON) if norm else nn.Identity()
        self.act = nn.Hardswish() if hardswish else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class DSConv(nn.Module):
    """Depthwise 3x3, then pointwise without activation."""

    def __init__(self, width: int):
        super().__init__()
        self.depth_conv = ConvNormAct(width, width, 3, groups=width)
        self.point_conv = ConvNormAct(width, width, 1, hardswish=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


class MBConv(nn.Module):
    """Pointwise to ``expand_ratio`` times the inputs, depthwise 3x3, pointwise. ``fewer_norm``: bias for BatchNorm in the first two."""

    def __init__(self, inputs: int, outputs: int, expand_ratio: int, *, stride: int = 1, fewer_norm: bool = False):
        super().__init__()
        middle = expand_ratio * inputs
        self.inverted_conv = ConvNormAct(inputs, middle, 1, norm=not fewer_norm)
        self.depth_conv = ConvNormAct(middle, middle, 3, stride=stride, groups=middle, norm=not fewer_norm)
        self.point_conv = ConvNormAct(middle, outputs, 1, hardswish=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


def linear_attention(qkv: Tensor, head_dim: int, epsilon: float) -> Tensor:
    """relu(q) (relu(k)^T [v, 1]), the last column of which divides the others: (B, heads * 3 * head_dim, H, W) -> a third of the channels.

    A head's q, k and v lie side by side, ``head_dim`` channels each.
    """
    batch, _, height, width = qkv.shape
    q, k, v = qkv.reshape(batch, -1, 3 * head_dim, height * width).transpose(-1, -2).split(head_dim, -1)
    state = functional.relu(k).transpose(-1, -2) @ functional.pad(v, (0, 1), value=1.0)
    out = functional.relu(q) @ state
    out = out[..., :-1] / (out[..., -1:] + epsilon)
    return out.transpose(-1, -2).reshape(batch, -1, height, width)


class LiteMLA(nn.Module):
    """Multi-scale linear attention: the heads of q, k, v as they are, then those of the aggregated ones."""

    def __init__(self, width: int, head_dim: int, epsilon: float):
        super().__init__()
        self.head_dim, self.epsilon = head_dim, epsilon
        self.qkv = nn.Sequential(OrderedDict(conv=nn.Conv2d(width, 3 * width, 1, bias=False)))
        depthwise = nn.Conv2d(3 * width, 3 * width, AGGREGATION_KERNEL, 1, AGGREGATION_KERNEL // 2, groups=3 * width, bias=False)
        grouped = nn.Conv2d(3 * width, 3 * width, 1, groups=3 * width // head_dim, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(depthwise, grouped)])
        self.proj = ConvNormAct(2 * width, width, 1, hardswish=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        scales = torch.cat([qkv, *(aggregate(qkv) for aggregate in self.aggreg)], dim=1)
        return self.proj(linear_attention(scales, self.head_dim, self.epsilon))


class Residual(nn.Module):
    """``main``, and the input added where ``shortcut``."""

    def __init__(self, main: nn.Module, shortcut: bool = True):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.shortcut else self.main(x)


class EfficientVitBlock(nn.Module):
    def __init__(self, config: EfficientVitConfig, width: int):
        super().__init__()
        self.context_module = Residual(LiteMLA(width, config.head_dim, config.attention_epsilon))
        self.local_module = Residual(MBConv(width, width, config.expand_ratio, fewer_norm=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class Stem(nn.Sequential):
    """Half the image's size, rounded up."""

    def __init__(self, config: EfficientVitConfig):
        width = config.widths[0]
        residuals = {f"res{index}": Residual(DSConv(width)) for index in range(config.depths[0])}
        super().__init__(OrderedDict(in_conv=ConvNormAct(config.channels, width, 3, stride=2), **residuals))


class Stage(nn.Module):
    """Half its input's size, rounded up: an MBConv of stride 2 without shortcut, then MBConvs or blocks with attention."""

    def __init__(self, config: EfficientVitConfig, stage: int):
        super().__init__()
        inputs, width, depth, attention = (
            config.widths[stage],
            config.widths[stage + 1],
            config.depths[stage + 1],
            config.has_attention(stage),
        )
        first = Residual(MBConv(inputs, width, config.expand_ratio, stride=2, fewer_norm=attention), shortcut=False)
        if attention:
            others = [EfficientVitBlock(config, width) for _ in range(depth)]
        else:
            others = [Residual(MBConv(width, width, config.expand_ratio)) for _ in range(depth - 1)]
        self.blocks = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Head(nn.Module):
    """Pointwise convolution, mean over the image, two fully connected layers: -> (batch, classes)."""

    def __init__(self, config: EfficientVitConfig):
        super().__init__()
        convolved, hidden = config.head_widths
        self.in_conv = ConvNormAct(config.widths[-1], convolved, 1)
        self.classifier = nn.Sequential(
            nn.Linear(convolved, hidden, bias=False),
            nn.LayerNorm(hidden, eps=NORM_EPSILON),
            nn.Hardswish(),
            nn.Identity(),
            nn.Linear(hidden, config.classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.in_conv(x).mean((2, 3)))


class EfficientVit(nn.Module):
    """(batch, channels, size, size) normalised images -> (batch, classes) logits."""

    def __init__(self, config: EfficientVitConfig):
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        self.stages = nn.Sequential(*(Stage(config, stage) for stage in range(len(config.widths) - 1)))
        self.head = Head(config)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)))

    def forward_bytes(self, images: Tensor) -> Tensor:
        """Logits of (batch, size, size, channels) uint8 images."""
        images = images.float()
        mean, std = images.new_tensor(self.config.mean), images.new_tensor(self.config.std)
        return self((images / 255 - mean).div_(std).permute(0, 3, 1, 2))
