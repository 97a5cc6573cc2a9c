"""The machines whose modules are synthesised for `rtl.plan.calibrate_resources`: to fit prices, and to check them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.graph import DeitShape
from rtl.config import AcceleratorConfig, preset
from rtl.efficientvit.config import EfficientVitMachine
from rtl.flow.machine import Config
from rtl.tech.dsp48e2 import ultrascale


@dataclass(frozen=True, kw_only=True)
class Machine:
    """
    Parameters
    ----------
    name : of the point        config : of the machine, in UltraScale+ technology
    modules : which to synthesise; all, with their total, if there are none
    unseen : not fitted, only predicted
    result : of benchmarks/results, whose total is what was measured: nothing is synthesised
    """

    name: str
    config: Config
    modules: tuple[str, ...] = ()
    unseen: bool = False
    result: str = ""


def _vit(
    bits: int, embed_dim: int, heads: int, *, image_size: int = 224, patch_size: int = 16, channels: int = 3, **other: Any
) -> DeitShape:
    sizes = {"classes": 1000, "depth": 12, "name": "grid", "hidden_dim": 4 * embed_dim} | other
    return DeitShape(bits=bits, image_size=image_size, channels=channels, patch_size=patch_size, embed_dim=embed_dim, heads=heads, **sizes)


def _small(bits: int, embed_dim: int = 64, heads: int = 4) -> DeitShape:
    return _vit(bits, embed_dim, heads, image_size=28, patch_size=7, channels=1, classes=10, depth=4)


def _deit(shape: DeitShape, rows: int, inputs: int, lanes: int, tile_words: int = 0, **other: Any) -> AcceleratorConfig:
    tile_words = tile_words or (3 * inputs if shape.image_size == 28 else 768)
    return AcceleratorConfig(shape=shape, rows=rows, inputs=inputs, lanes=lanes, tile_words=tile_words, technology="ultrascale", **other)


def _preset(shape: DeitShape, rows: int | None = None) -> AcceleratorConfig:
    return preset(shape, rows=rows, technology="ultrascale")


def _efficientvit(**sizes: Any) -> EfficientVitMachine:
    return EfficientVitMachine(technology=ultrascale, **sizes)


_ROW = ("row",)
_MICRO = {"image_size": 28, "channels": 1, "classes": 10, "rows": 16}

#: Rows dominate: most points are rows, small ones, of every precision, and of different lanes, passes and images.
FITTED = (
    *(Machine(name=f"row of 64 inputs, {bits} bits", config=_deit(_small(bits), 6, 64, 6), modules=_ROW) for bits in (1, 2, 4, 7)),
    Machine(name="row of 768 inputs", config=_deit(_vit(4, 768, 12), 66, 768, 22, weight_ports=3), modules=_ROW),
    Machine(name="row, popcount of 1 bit", config=_deit(_small(1), 6, 64, 6, strategy="popcount"), modules=_ROW),
    Machine(name="row, popcount of 4 bits", config=_deit(_small(4), 6, 64, 6, strategy="popcount"), modules=_ROW),
    Machine(name="row, popcount of 192 inputs", config=_deit(_vit(2, 192, 3), 66, 192, 22, strategy="popcount"), modules=_ROW),
    Machine(name="6 rows", config=_deit(_small(8), 6, 64, 6)),
    Machine(name="12 rows", config=_deit(_small(4, 128, 4), 12, 128, 8, 384)),
    Machine(name="28 rows", config=_deit(_vit(8, 192, 3), 28, 192, 8, weight_ports=2, key_value_copies=2)),
    Machine(name="50 rows", config=_deit(_vit(5, 192, 3), 50, 192, 22, weight_ports=3, images=1)),
    Machine(name="100 rows", config=_deit(_vit(3, 192, 3), 100, 192, 16, 576, weight_buffers=2)),
    Machine(name="EfficientViT, 16 rows", config=_efficientvit(bits=4, **_MICRO)),
    Machine(name="EfficientViT-B1, 6 bits", config=_efficientvit(bits=6, image_size=224)),
    Machine(
        name="EfficientViT row, slices at twice the clock",
        config=_efficientvit(bits=5, dsp_clock=2, **_MICRO),
        modules=("efficientvit_row",),
    ),
)

UNSEEN = (
    Machine(name="DeiT-base, 66 rows, 6 bits", config=_preset(_vit(6, 768, 12)), result="base_6bit_66rows"),
    Machine(name="DeiT-base, 50 rows, 8 bits", config=_preset(_vit(8, 768, 12)), result="base_8bit_50rows"),
    Machine(name="DeiT-base, 66 rows, 8 bits", config=_preset(_vit(8, 768, 12), 66), result="base_8bit_66rows"),
    Machine(name="DeiT-small", config=_preset(_vit(8, 384, 6)), result="small_8bit"),
    Machine(name="DeiT-small distilled", config=_preset(_vit(8, 384, 6, distilled=True)), result="small_distilled_8bit"),
    Machine(name="DeiT-tiny", config=_preset(_vit(8, 192, 3)), result="tiny_8bit"),
    Machine(name="DeiT-tiny distilled", config=_preset(_vit(8, 192, 3, distilled=True)), result="tiny_distilled_8bit"),
    Machine(name="EfficientViT-B1, 8 bits", config=_efficientvit(image_size=224), result="efficientvit_b1_r224_8bit"),
    Machine(name="EfficientViT-B1, 4 bits", config=_efficientvit(bits=4, image_size=224), result="efficientvit_b1_r224_4bit_6images"),
    Machine(name="18 rows of 144 inputs, 2 bits", config=_deit(_small(2, 144, 3), 18, 144, 16, 432)),
    Machine(name="10 rows, popcount, 3 bits", config=_deit(_small(3, 96, 3), 10, 96, 8, 288, strategy="popcount")),
    Machine(
        name="34 rows of 128 inputs, 6 bits",
        config=_deit(_vit(6, 128, 2, image_size=64, patch_size=8, classes=100), 34, 128, 16, 384, weight_ports=1),
    ),
    Machine(name="EfficientViT, 33 rows, 7 bits", config=_efficientvit(bits=7, image_size=64, classes=100, rows=33)),
)

MACHINES = (*FITTED, *(dataclasses.replace(machine, unseen=True) for machine in UNSEEN))


def plain(config: Config) -> dict[str, Any]:
    """A configuration as JSON has it."""
    if isinstance(config, EfficientVitMachine):
        return {"family": "efficientvit"} | {
            entry.name: getattr(config, entry.name) for entry in dataclasses.fields(config) if entry.name != "technology"
        }
    return {"family": "deit"} | dataclasses.asdict(config)


def restored(values: Mapping[str, Any]) -> Config:
    """What `plain` was made of."""
    sizes = {name: value for name, value in values.items() if name != "family"}
    if values["family"] == "efficientvit":
        return _efficientvit(**sizes)
    return AcceleratorConfig(**{**sizes, "shape": DeitShape(**sizes["shape"])})
