"""EfficientViT as a flat list of operators, BatchNorm folded: what the float run, the fake-quantized run and the lowering all walk.

Tensors are named after the operator that makes them, the last one "logits"; (batch, channels, height, width), vectors of one pixel too.
The tensor "image" is ``pixel - 255 * mean``: the rest of the normalisation, ``1 / (255 * std)``, is folded into the stem's convolution, so
that its padding, 0, is the mean pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configs import EfficientVitConfig
from model.efficientvit.graph import IMAGE, LOGITS
from model.errors import InputError
from model.nets.efficientvit import ConvNormAct, EfficientVit, EfficientVitBlock, LiteMLA, MBConv, Residual

Observer = Callable[[str, Tensor], None]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedConvolution:
    """Padded by half its kernel; then Hardswish, or the shortcut's tensor added. weight : (outputs, inputs / groups, kernel, kernel).

    Fully connected layers are those of kernel 1 on one pixel. bias : (outputs,), zeros where the network has none
    """

    name: str
    source: str
    target: str
    weight: Tensor
    bias: Tensor
    stride: int = 1
    groups: int = 1
    hardswish: bool = False
    shortcut: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedAttention:
    """ReLU linear attention on each of ``sources``, (q, k, v) interleaved per head; their outputs side by side."""

    name: str
    sources: tuple[str, ...]
    target: str
    head_dim: int
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedPool:
    """The mean over the pixels."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedLayerNorm:
    """Over the channels, then Hardswish."""

    name: str
    source: str
    target: str
    weight: Tensor
    bias: Tensor
    epsilon: float


FoldedOperator = FoldedConvolution | FoldedAttention | FoldedPool | FoldedLayerNorm


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedNetwork:
    """``operators`` in execution order."""

    config: EfficientVitConfig
    operators: tuple[FoldedOperator, ...]

    def image(self, images: Tensor) -> Tensor:
        """uint8 (batch, height, width, channels) -> the tensor "image"."""
        return (images.float() - 255 * torch.tensor(self.config.mean)).permute(0, 3, 1, 2)


def sources_of(operator: FoldedOperator) -> tuple[str, ...]:
    """Every tensor that the operator reads."""
    if isinstance(operator, FoldedAttention):
        return operator.sources
    shortcut = operator.shortcut if isinstance(operator, FoldedConvolution) else None
    return (operator.source,) if shortcut is None else (operator.source, shortcut)


def folded_norm(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the convolution and the BatchNorm behind it, if there is one."""
    weight = conv.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight, bias = weight * gain[:, None, None, None], norm.bias.detach().double() + (bias - norm.running_mean.double()) * gain
    return weight.float(), bias.float()


def _part(parent: nn.Module, name: str, kind: type[M]) -> M:
    part = parent.get_submodule(name)
    assert isinstance(part, kind)
    return part


class _Folder:
    """The operators so far; every method appends some and returns the name of the last target."""

    def __init__(self) -> None:
        self.operators: list[FoldedOperator] = []

    def add(self, operator: FoldedOperator) -> str:
        self.operators.append(operator)
        return operator.target

    def convolution(
        self, name: str, source: str, conv: nn.Conv2d, norm: nn.Module | None = None, hardswish: bool = False, shortcut: str | None = None
    ) -> str:
        weight, bias = folded_norm(conv, norm)
        return self.add(
            FoldedConvolution(
                name=name, source=source, target=name, weight=weight, bias=bias, stride=conv.stride[0], groups=conv.groups,
                hardswish=hardswish, shortcut=shortcut,
            )
        )  # fmt: skip

    def layer(self, name: str, source: str, layer: ConvNormAct, shortcut: str | None = None) -> str:
        return self.convolution(name, source, layer.conv, layer.norm, isinstance(layer.act, nn.Hardswish), shortcut)

    def residual(self, name: str, source: str, residual: Residual) -> str:
        """A DSConv, an MBConv or an attention, with its shortcut."""
        name, shortcut = f"{name}.main", source if residual.shortcut else None
        if isinstance(residual.main, LiteMLA):
            return self.attention(name, source, residual.main, shortcut)
        if isinstance(residual.main, MBConv):
            source = self.layer(f"{name}.inverted_conv", source, residual.main.inverted_conv)
        x = self.layer(f"{name}.depth_conv", source, _part(residual.main, "depth_conv", ConvNormAct))
        return self.layer(f"{name}.point_conv", x, _part(residual.main, "point_conv", ConvNormAct), shortcut)

    def attention(self, name: str, source: str, main: LiteMLA, shortcut: str | None) -> str:
        sources = [self.convolution(f"{name}.qkv", source, _part(main.qkv, "conv", nn.Conv2d))]
        for index, aggregate in enumerate(main.aggreg):
            x = sources[0]
            for step in ("0", "1"):
                x = self.convolution(f"{name}.aggreg.{index}.{step}", x, _part(aggregate, step, nn.Conv2d))
            sources.append(x)
        attention = FoldedAttention(
            name=f"{name}.attention", sources=tuple(sources), target=f"{name}.attention", head_dim=main.head_dim, epsilon=main.epsilon
        )
        return self.layer(f"{name}.proj", self.add(attention), main.proj, shortcut)

    def block(self, name: str, source: str, block: nn.Module) -> str:
        if isinstance(block, EfficientVitBlock):
            x = self.residual(f"{name}.context_module", source, block.context_module)
            return self.residual(f"{name}.local_module", x, block.local_module)
        assert isinstance(block, Residual)
        return self.residual(name, source, block)

    def classifier(self, name: str, source: str, classifier: nn.Sequential) -> None:
        norm = _part(classifier, "1", nn.LayerNorm)
        x = self.linear(f"{name}.0", source, f"{name}.0", _part(classifier, "0", nn.Linear))
        x = self.add(
            FoldedLayerNorm(
                name=f"{name}.1", source=x, target=f"{name}.1", weight=norm.weight.detach(), bias=norm.bias.detach(), epsilon=norm.eps
            )
        )
        self.linear(f"{name}.4", x, LOGITS, _part(classifier, "4", nn.Linear))

    def linear(self, name: str, source: str, target: str, linear: nn.Linear) -> str:
        weight = linear.weight.detach()
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        return self.add(FoldedConvolution(name=name, source=source, target=target, weight=weight[:, :, None, None], bias=bias))


def check_finite(net: nn.Module) -> None:
    for name, tensor in net.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"weights must be finite: {name} holds NaN or infinity; load another checkpoint")


def fold(net: EfficientVit) -> FoldedNetwork:
    """The network in eval mode as operators. Raises InputError where a weight is not finite."""
    check_finite(net)
    folder = _Folder()
    x = folder.layer("stem.in_conv", IMAGE, _part(net, "stem.in_conv", ConvNormAct))
    for name, block in net.stem.named_children():
        if name != "in_conv":
            x = folder.block(f"stem.{name}", x, block)
    for stage, blocks in net.stages.named_children():
        for name, block in _part(blocks, "blocks", nn.Sequential).named_children():
            x = folder.block(f"stages.{stage}.blocks.{name}", x, block)
    x = folder.layer("head.in_conv", x, net.head.in_conv)
    x = folder.add(FoldedPool(name="head.global_pool", source=x, target="head.global_pool"))
    folder.classifier("head.classifier", x, net.head.classifier)
    stem, *others = folder.operators
    assert isinstance(stem, FoldedConvolution)
    stem = replace(stem, weight=stem.weight / (255 * torch.tensor(net.config.std)[:, None, None]))
    return FoldedNetwork(config=net.config, operators=(stem, *others))


def split_heads(qkv: Tensor, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, heads * 3 * head_dim, height, width) -> relu(q), relu(k), v, (batch, heads, pixels, head_dim) each."""
    batch, _, height, width = qkv.shape
    q, k, v = qkv.reshape(batch, -1, 3, head_dim, height * width).transpose(-1, -2).unbind(2)
    return q.relu(), k.relu(), v


def join_heads(heads: Tensor, like: Tensor) -> Tensor:
    """(batch, heads, pixels, head_dim) -> (batch, heads * head_dim, height, width), the last two from ``like``."""
    return heads.transpose(-1, -2).reshape(len(heads), -1, *like.shape[2:])


def attend(operator: FoldedAttention, sources: Sequence[Tensor]) -> Tensor:
    outputs = []
    for source in sources:
        q, k, v = split_heads(source, operator.head_dim)
        quotient = q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2)[..., None] + operator.epsilon)
        outputs.append(join_heads(quotient, source))
    return torch.cat(outputs, dim=1)


def convolve(x: Tensor, weight: Tensor, operator: FoldedConvolution) -> Tensor:
    """The operator's convolution, with another weight; no bias."""
    return functional.conv2d(x, weight, None, operator.stride, weight.shape[-1] // 2, 1, operator.groups)


def operate(operator: FoldedOperator, tensors: Mapping[str, Tensor]) -> Tensor:
    """The target, from all that the operator reads."""
    if isinstance(operator, FoldedAttention):
        return attend(operator, [tensors[source] for source in operator.sources])
    x = tensors[operator.source]
    if isinstance(operator, FoldedPool):
        return x.mean((2, 3), keepdim=True)
    if isinstance(operator, FoldedLayerNorm):
        norm = functional.layer_norm(x.flatten(1), (x.shape[1],), operator.weight, operator.bias, operator.epsilon)
        return functional.hardswish(norm)[:, :, None, None]
    y = convolve(x, operator.weight, operator) + operator.bias[:, None, None]
    if operator.hardswish:
        return functional.hardswish(y)
    return y if operator.shortcut is None else y + tensors[operator.shortcut]


Operate = Callable[[FoldedOperator, Mapping[str, Tensor]], Tensor]


def walk(folded: FoldedNetwork, image: Tensor, operate: Operate, observe: Observer | None = None) -> Tensor:
    """Runs every operator and returns the last target; a tensor is dropped behind its last reader. ``observe`` sees all of them."""
    last = {source: operator for operator in folded.operators for source in sources_of(operator)}
    tensors = {IMAGE: image}
    if observe is not None:
        observe(IMAGE, image)
    for operator in folded.operators:
        tensors[operator.target] = operate(operator, tensors)
        if observe is not None:
            observe(operator.target, tensors[operator.target])
        for source in set(sources_of(operator)):
            if last[source] is operator:
                del tensors[source]
    return tensors[LOGITS]


@torch.no_grad()
def run(folded: FoldedNetwork, images: Tensor, observe: Observer | None = None) -> Tensor:
    """Logits (batch, classes) of uint8 (batch, height, width, channels) images: the float network's ``forward_bytes``."""
    return walk(folded, folded.image(images), operate, observe).flatten(1)
