"""The module that each stage trains. All hold the float network as ``net``, so that a stage takes over the weights of the one before."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.configs import DeiTConfig, config_of
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.quant.arithmetic import DIFFERENTIABLE
from model.quant.deit import QuantDeiT
from model.quant.fused import Fused
from model.quant.kernels import kernels_of
from model.quant.quantizers import BinaryWeight
from model.training.plan import Plan

_NET = "net."


def float_net(model: str) -> DeiT | EfficientVit:
    config = config_of(model)
    return DeiT(config) if isinstance(config, DeiTConfig) else EfficientVit(config)


class RealNetwork(nn.Module):
    """The float network on bytes."""

    def __init__(self, net: DeiT | EfficientVit):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.forward_bytes(images)


def binary_layers(net: DeiT) -> Iterator[tuple[str, nn.Linear]]:
    """Those whose weights become binary, by name."""
    for name, layer in net.blocks.named_modules(prefix="blocks"):
        if isinstance(layer, nn.Linear):
            yield name, layer


class PartlyBinaryNetwork(nn.Module):
    """``share`` of the weights of each layer are binary, at the scale of their whole row; the others and all activations are real.

    Which ones: each tensor's weights become binary in an order drawn once from the seed, so that the set of binary ones only grows.
    """

    def __init__(self, net: DeiT, seed: int):
        super().__init__()
        self.net, self.share, self.weight = net, 0.0, BinaryWeight()
        generator = torch.Generator().manual_seed(seed)
        self.ranks = {name: _ranks(layer.weight.shape, generator).to(layer.weight.device) for name, layer in binary_layers(net)}

    def mixed(self) -> dict[str, Tensor]:
        """Every layer's weight as it is multiplied, by the parameter's name."""
        return {
            f"{name}.weight": torch.where(self.ranks[name] < self.share, self.weight(layer.weight), layer.weight)
            for name, layer in binary_layers(self.net)
        }

    def forward(self, images: Tensor) -> Tensor:
        return functional_call(self.net, self.mixed(), (self.net.normalized(images),))


def _ranks(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Each weight's place in the order, in [0, 1)."""
    count = shape.numel()
    return (torch.randperm(count, generator=generator).double() / count).reshape(shape)


def network_of(stage: str, plan: Plan, net: DeiT | EfficientVit) -> RealNetwork | PartlyBinaryNetwork | QuantDeiT:
    """The module that trains ``net`` in this stage, where ``net`` is; a quantized one is not calibrated yet."""
    if isinstance(net, EfficientVit) or stage == "real":
        return RealNetwork(net)
    if stage == "binary":
        return PartlyBinaryNetwork(net, plan.seed)
    device = net.cls_token.device
    arithmetic = Fused(kernels_of(net.config)) if device.type == "cpu" else DIFFERENTIABLE
    return QuantDeiT(net, plan.bits, arithmetic).to(device)


def net_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float network's tensors of a stage's module."""
    return {name.removeprefix(_NET): tensor for name, tensor in state.items() if name.startswith(_NET)}
