"""A float DeiT from a checkpoint in timm's format, which is Facebook's too: ``head_dist`` and ``dist_token`` where distilled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.configs import CONFIGS, DeiTConfig
from model.errors import InputError
from model.nets.deit import DeiT
from model.nets.files import read_tensors


def tensor_shapes(config: DeiTConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the network, by name."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in DeiT(config).state_dict().items()}


def _remedy(tensors: Mapping[str, Tensor], wanted: DeiTConfig) -> str:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fitting = [name for name, config in CONFIGS.items() if config != wanted and tensor_shapes(config) == found]
    return f"use --model {fitting[0]}" if fitting else f"give a timm or Facebook checkpoint of {wanted.name}"


def check_tensors(tensors: Mapping[str, Tensor], config: DeiTConfig, path: Path | str) -> None:
    """Raises InputError naming the first tensor that is missing, of another shape, foreign, no float, or not finite."""
    shapes = tensor_shapes(config)
    for name, shape in shapes.items():
        found = str(tuple(tensors[name].shape)) if name in tensors else "nothing"
        if found != str(shape):
            rule = f"checkpoint tensor {name} of {config.name} must be {shape}"
            raise InputError(f"{rule}: {path} has {found}; {_remedy(tensors, config)}")
    for name, tensor in tensors.items():
        if name not in shapes:
            rule = f"a checkpoint of {config.name} must hold its tensors alone"
            raise InputError(f"{rule}: {path} has {name[:80]} {tuple(tensor.shape)}; {_remedy(tensors, config)}")
        if not tensor.is_floating_point():
            raise InputError(f"checkpoint tensor {name} must be of a float type: {path} has {tensor.dtype}; save it before quantization")
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise InputError(f"checkpoint tensor {name} must be finite: {path} has {bad} NaN or infinite values; take an undamaged file")


def load_pretrained(path: Path | str, config: DeiTConfig) -> DeiT:
    """The network in eval mode, float32."""
    tensors = read_tensors(path)
    check_tensors(tensors, config, path)
    with torch.device("meta"):
        net = DeiT(config)
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return net.eval()
