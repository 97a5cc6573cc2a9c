"""The networks by name: dimensions and input normalisation. Free of torch, so that the compiler can ask too."""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.errors import InputError
from model.graph import DeitShape

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)


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


_PLAIN = (
    DeiTConfig(name="deit_tiny", embed_dim=192, heads=3),
    DeiTConfig(name="deit_small", embed_dim=384, heads=6),
    DeiTConfig(name="deit_base", embed_dim=768, heads=12),
)
_MICRO = DeiTConfig(
    name="deit_micro", image_size=28, patch_size=7, embed_dim=64, depth=4, heads=4, classes=10, mean=FASHION_MEAN, std=FASHION_STD
)
#: Every network by name.
CONFIGS = {config.name: config for config in (_MICRO, *_PLAIN, *(replace(c, name=f"{c.name}_distilled", distilled=True) for c in _PLAIN))}


def config_of(name: str) -> DeiTConfig:
    if name not in CONFIGS:
        raise InputError(f"model must be one of {', '.join(CONFIGS)}: {name!r} is not; choose one of these")
    return CONFIGS[name]
