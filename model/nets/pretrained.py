"""Float networks from checkpoints of others: DeiT as timm and Facebook name its tensors, EfficientViT as timm does or as MIT does.

MIT's names for timm's: papers/trio_vit.md, section 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, Config, DeiTConfig, EfficientVitConfig, efficientvit_config_of
from model.errors import InputError
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.nets.files import read_tensors
from model.nets.random_weights import random_efficientvit
from model.zoo import CHECKPOINTS, RANDOM_PREFIX

#: Where timm's name begins with this, MIT's begins with that.
_MIT_PREFIXES = (
    (re.compile(r"stem\.in_conv\."), lambda found: "backbone.input_stem.op_list.0."),
    (re.compile(r"stem\.res(\d+)\."), lambda found: f"backbone.input_stem.op_list.{int(found[1]) + 1}."),
    (re.compile(r"stages\.(\d+)\.blocks\."), lambda found: f"backbone.stages.{found[1]}.op_list."),
    (re.compile(r"head\.in_conv\."), lambda found: "head.op_list.0."),
    (re.compile(r"head\.classifier\.0\."), lambda found: "head.op_list.2.linear."),
    (re.compile(r"head\.classifier\.1\."), lambda found: "head.op_list.2.norm."),
    (re.compile(r"head\.classifier\.4\."), lambda found: "head.op_list.3.linear."),
)
#: In every name of a part of MIT's networks, and in none of timm's.
_MIT_MARK = ".op_list."
#: In names of Microsoft's EfficientViT (efficientvit_m0 ... m5), of which nothing else is the same.
_MICROSOFT_MARK = ".mixer."
#: Ends the names of BatchNorm's counters of training steps: some files have them, no network needs them.
_COUNTER = ".num_batches_tracked"


def mit_name(name: str) -> str:
    """MIT's name of the tensor that timm calls ``name``."""
    for prefix, replaced in _MIT_PREFIXES:
        if prefix.match(name):
            return prefix.sub(replaced, name, count=1)
    raise KeyError(name)


def _empty(config: Config) -> DeiT | EfficientVit:
    with torch.device("meta"):
        return DeiT(config) if isinstance(config, DeiTConfig) else EfficientVit(config)


@cache
def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the network, by timm's name; BatchNorm's counters left out."""
    return {name: tuple(tensor.shape) for name, tensor in _empty(config).state_dict().items() if not name.endswith(_COUNTER)}


def _names(tensors: Mapping[str, Tensor], config: Config) -> dict[str, str]:
    """The file's name of each tensor of the network, by timm's."""
    mit = isinstance(config, EfficientVitConfig) and any(_MIT_MARK in name for name in tensors)
    return {name: mit_name(name) if mit else name for name in tensor_shapes(config)}


def _without_counters(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    counters = {name.removesuffix(".running_var") + _COUNTER for name in names.values() if name.endswith(".running_var")}
    return {name: tensor for name, tensor in tensors.items() if name not in counters}


def _remedy(tensors: Mapping[str, Tensor], wanted: Config) -> str:
    for config in (*CONFIGS.values(), *EFFICIENTVIT_CONFIGS.values()):
        names = _names(tensors, config)
        found = {name: tuple(tensor.shape) for name, tensor in _without_counters(tensors, names).items()}
        if config != wanted and found == {names[name]: shape for name, shape in tensor_shapes(config).items()}:
            return f"use --model {config.name}"
    return f"give a timm or {'Facebook' if isinstance(wanted, DeiTConfig) else 'MIT'} checkpoint of {wanted.name}"


def _check_values(name: str, tensor: Tensor, path: Path | str) -> None:
    if not tensor.is_floating_point():
        raise InputError(f"checkpoint tensor {name} must be of a float type: {path} has {tensor.dtype}; save it before quantization")
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise InputError(f"checkpoint tensor {name} must be finite: {path} has {bad} NaN or infinite values; take an undamaged file")
    if name.endswith(".running_var") and bool((tensor < 0).any()):
        raise InputError(f"checkpoint tensor {name} must be at least 0: {path} has {tensor.min():.3g}; take an undamaged file")


def check_tensors(tensors: Mapping[str, Tensor], config: Config, path: Path | str) -> None:
    """Raises InputError naming the first tensor that is missing, of another shape, foreign, no float, not finite, or a negative variance.

    Names are the file's own.
    """
    foreign = next((name for name in tensors if _MICROSOFT_MARK in name), None)
    if foreign and isinstance(config, EfficientVitConfig):
        rule = f"a checkpoint of {config.name} must be of MIT's EfficientViT"
        raise InputError(f"{rule}: {path} is Microsoft's, another network ({foreign[:80]}); give a timm or MIT checkpoint of {config.name}")
    names = _names(tensors, config)
    for timm_name, shape in tensor_shapes(config).items():
        name = names[timm_name]
        found = str(tuple(tensors[name].shape)) if name in tensors else "nothing"
        if found != str(shape):
            rule = f"checkpoint tensor {name} of {config.name} must be {shape}"
            raise InputError(f"{rule}: {path} has {found}; {_remedy(tensors, config)}")
    known = set(names.values())
    for name, tensor in _without_counters(tensors, names).items():
        if name not in known:
            rule = f"a checkpoint of {config.name} must hold its tensors alone"
            raise InputError(f"{rule}: {path} has {name[:80]} {tuple(tensor.shape)}; {_remedy(tensors, config)}")
        _check_values(name, tensor, path)


@overload
def load_pretrained(path: Path | str, config: DeiTConfig) -> DeiT: ...
@overload
def load_pretrained(path: Path | str, config: EfficientVitConfig) -> EfficientVit: ...
def load_pretrained(path: Path | str, config: Config) -> DeiT | EfficientVit:
    """The network in eval mode, float32."""
    tensors = read_tensors(path)
    check_tensors(tensors, config, path)
    net = _empty(config)
    stored = {name: tensors[found].float() for name, found in _names(tensors, config).items()}
    counters = {name: torch.tensor(0) for name in net.state_dict() if name.endswith(_COUNTER)}
    net.load_state_dict({**stored, **counters}, assign=True)
    return net.eval()


def float_network(name: str, source: str | None = None) -> EfficientVit:
    """The EfficientViT of that name, in eval mode, float32.

    ``source``: the path of a timm or MIT checkpoint, ``random:SEED``, or None for the shipped checkpoint, else ``random:0``.
    """
    config = efficientvit_config_of(name)
    if source is None:
        shipped = CHECKPOINTS / f"{name}.safetensors"
        source = str(shipped) if shipped.exists() else f"{RANDOM_PREFIX}0"
    if not source.startswith(RANDOM_PREFIX):
        return load_pretrained(source, config)
    seed = source.removeprefix(RANDOM_PREFIX)
    if not seed.isdecimal():
        raise InputError(f"random:SEED needs a whole number: {seed!r} is not; try random:0")
    return random_efficientvit(config, int(seed))
