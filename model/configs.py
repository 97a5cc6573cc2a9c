"""The networks by name: dimensions and input normalisation. Free of torch, so that the compiler can ask too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from model.errors import InputError
from model.graph import DeitShape

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)


class ImageShape(Protocol):
    """What decides which images a network takes."""

    @property
    def name(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def classes(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class DeiTConfig:
    """Dimensions of a DeiT and the normalisation of its input (``(pixel / 255 - mean) / std`` per image channel)."""

    name: str
    image_size: int = 224
    patch_size: int = 16
    embed_dim: int
    depth: int = 12
    heads: int
    mlp_ratio: int = 4
    classes: int = 1000
    distilled: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def channels(self) -> int:
        return len(self.mean)

    def shape(self, bits: int) -> DeitShape:
        """The integer graph's shape. Raises InputError for a precision out of range."""
        if not 1 <= bits <= 8:
            raise InputError(f"bits must be 1..8: {bits} is not; choose 8, 6 or 4")
        return DeitShape(
            name=self.name, bits=bits, image_size=self.image_size, channels=self.channels, patch_size=self.patch_size,
            embed_dim=self.embed_dim, depth=self.depth, heads=self.heads, hidden_dim=self.mlp_ratio * self.embed_dim, classes=self.classes,
            distilled=self.distilled,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EfficientVitConfig:
    """Dimensions of an EfficientViT of MIT's B series, arXiv 2205.14756; papers/trio_vit.md, section 1.1.

    widths : channels of the stem and of each stage
    depths : of the stem, its residual blocks; of a convolution stage, its MBConvs; of an attention stage, its blocks behind the one MBConv
    attention_stages : so many of the last stages are attention stages
    head_dim : channels of q, k and v of a head
    head_widths : of the head's convolution and its first fully connected layer
    attention_epsilon : added to the attention's divisors (timm's; MIT's own is 1e-15)
    """

    name: str
    image_size: int = 224
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    attention_stages: int = 2
    head_dim: int
    expand_ratio: int = 4
    head_widths: tuple[int, int]
    classes: int = 1000
    attention_epsilon: float = 1e-5
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths):
            raise ValueError(f"{self.name} must have one depth per width: {self.depths} does not fit {self.widths}; give as many")
        for width in self.widths[len(self.widths) - self.attention_stages :]:
            if width % self.head_dim:
                raise ValueError(
                    f"head_dim must divide the widths of attention stages: {self.head_dim} does not divide {width}; change either"
                )

    @property
    def channels(self) -> int:
        return len(self.mean)

    def has_attention(self, stage: int) -> bool:
        """Of stage 0 and up, the stem not counted."""
        return stage >= len(self.widths) - 1 - self.attention_stages


_PLAIN = (
    DeiTConfig(name="deit_tiny", embed_dim=192, heads=3),
    DeiTConfig(name="deit_small", embed_dim=384, heads=6),
    DeiTConfig(name="deit_base", embed_dim=768, heads=12),
)
_MICRO = DeiTConfig(
    name="deit_micro", image_size=28, patch_size=7, embed_dim=64, depth=4, heads=4, classes=10, mean=FASHION_MEAN, std=FASHION_STD
)
_MICRO_WIDE = replace(_MICRO, name="deit_micro_wide", embed_dim=96, heads=6)
#: Every DeiT by name.
CONFIGS = {
    config.name: config
    for config in (_MICRO, _MICRO_WIDE, *_PLAIN, *(replace(c, name=f"{c.name}_distilled", distilled=True) for c in _PLAIN))
}


_EFFICIENTVIT_MICRO = EfficientVitConfig(
    name="efficientvit_micro", image_size=28, widths=(16, 32, 64), depths=(1, 2, 2), attention_stages=1, head_dim=16,
    head_widths=(128, 128), classes=10, mean=FASHION_MEAN, std=FASHION_STD,
)  # fmt: skip
_B_SERIES = (
    EfficientVitConfig(name="efficientvit_b0", widths=(8, 16, 32, 64, 128), depths=(1, 2, 2, 2, 2), head_dim=16, head_widths=(1024, 1280)),
    EfficientVitConfig(
        name="efficientvit_b1", widths=(16, 32, 64, 128, 256), depths=(1, 2, 3, 3, 4), head_dim=16, head_widths=(1536, 1600)
    ),
    EfficientVitConfig(
        name="efficientvit_b2", widths=(24, 48, 96, 192, 384), depths=(1, 3, 4, 4, 6), head_dim=32, head_widths=(2304, 2560)
    ),
    EfficientVitConfig(
        name="efficientvit_b3", widths=(32, 64, 128, 256, 512), depths=(1, 4, 6, 6, 9), head_dim=32, head_widths=(2304, 2560)
    ),
)
#: Every EfficientViT by name; the plain name of a B network is that at 224 x 224.
EFFICIENTVIT_CONFIGS = {
    config.name: config
    for config in (
        _EFFICIENTVIT_MICRO,
        *_B_SERIES,
        *(replace(c, name=f"{c.name}_r{size}", image_size=size) for c in _B_SERIES for size in (224, 256, 288)),
    )
}

#: EfficientViT's activations, and weights where nothing says otherwise.
EFFICIENTVIT_BITS, EFFICIENTVIT_WEIGHT_BITS = range(4, 9), 8

Config = DeiTConfig | EfficientVitConfig
T = TypeVar("T", DeiTConfig, EfficientVitConfig)
#: A model file's: see `model.model_file`.
FILE_SUFFIX = ".toml"


def config_of(name: str) -> Config:
    """Of either family, by name or from a model file. Raises InputError for a name that has none, and for a file that is not one."""
    every: dict[str, Config] = {**CONFIGS, **EFFICIENTVIT_CONFIGS}
    return _from_file(name) if name.endswith(FILE_SUFFIX) else _named(name, every)


def check_bits(config: ImageShape, bits: int) -> None:
    """Raises InputError for a precision of activations that the family does not have."""
    if isinstance(config, DeiTConfig):
        config.shape(bits)
    elif bits not in EFFICIENTVIT_BITS:
        raise InputError(f"bits of {config.name} must be {EFFICIENTVIT_BITS[0]}..{EFFICIENTVIT_BITS[-1]}: {bits} is not; choose 8, 6 or 4")


def deit_config_of(name: str) -> DeiTConfig:
    """Where a DeiT alone will do."""
    return _of_family(name, DeiTConfig, CONFIGS)


def efficientvit_config_of(name: str) -> EfficientVitConfig:
    """Where an EfficientViT alone will do."""
    return _of_family(name, EfficientVitConfig, EFFICIENTVIT_CONFIGS)


def _of_family(name: str, family: type[T], configs: dict[str, T]) -> T:
    if not name.endswith(FILE_SUFFIX):
        return _named(name, configs)
    config = _from_file(name)
    if not isinstance(config, family):
        raise InputError(f"the model must be of the family of {next(iter(configs))}: {name} is not; give another file")
    return config


def _from_file(name: str) -> Config:
    from model.model_file import read_model  # it needs this module

    config = read_model(Path(name))
    if not isinstance(config, DeiTConfig | EfficientVitConfig):
        raise InputError(f"a float network must be of a family: {name} gives operators; use an integer graph or random:SEED")
    return config


N = TypeVar("N")


def _named(name: str, configs: dict[str, N]) -> N:
    if name not in configs:
        raise InputError(f"model must be one of {', '.join(configs)}, or a {FILE_SUFFIX} file: {name!r} is not; choose one of these")
    return configs[name]
