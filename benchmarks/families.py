"""What differs between the families of networks on the page and in what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from benchmarks.layers import Layer, layers
from benchmarks.peers import DEIT_PEERS, EFFICIENTVIT_PEERS, Peer
from model.configs import EfficientVitConfig, config_of, deit_config_of, efficientvit_config_of
from rtl.flow.account import EFFICIENTVIT_KINDS, KINDS


class Family(Protocol):
    """
    title : of its tables        weight_bits : of its networks        peers : other work on it
    clocks_mhz : for frames per second, the first that of the peers
    kinds : of the account, in order, each with its words        engines : beside the array, of which the account tells, with their words
    utilisation : what it means
    """

    title: str
    weight_bits: int
    clocks_mhz: tuple[int, int]
    peers: tuple[Peer, ...]
    kinds: Mapping[str, str]
    engines: Mapping[str, str]
    utilisation: str

    def network(self, model: str) -> str:
        """Its name in tables."""
        ...

    def macs_per_image(self, model: str) -> int:
        """Multiply-accumulates of the network itself, each once; attention and head included."""
        ...


class Deit:
    title, weight_bits, clocks_mhz, peers = "DeiT", 1, (150, 250), DEIT_PEERS
    kinds: Mapping[str, str] = {kind: "key/value space" if kind == "key_value" else kind for kind in KINDS}
    engines: Mapping[str, str] = {}
    utilisation = "binary multiply-accumulates of the array / its multipliers / cycles"

    def network(self, model: str) -> str:
        return f"DeiT-{model.removeprefix('deit_').replace('_', ' ')}"

    def macs_per_image(self, model: str) -> int:
        """Each once however many planes it takes."""
        shape = deit_config_of(model).shape(8)
        per_token = shape.embed_dim * (4 * shape.embed_dim + 2 * shape.hidden_dim)
        attention = 2 * shape.tokens**2 * shape.embed_dim
        heads = (1 + shape.distilled) * shape.embed_dim * shape.classes
        return shape.depth * (shape.tokens * per_token + attention) + shape.patches * shape.patch_dim * shape.embed_dim + heads


class EfficientVit:
    title, weight_bits, clocks_mhz, peers = "EfficientViT", 8, (200, 250), EFFICIENTVIT_PEERS
    kinds: Mapping[str, str] = {
        kind: {"align": "grid of 16", "depth": "depthwise engine", "attention": "states"}.get(kind, kind) for kind in EFFICIENTVIT_KINDS
    }
    engines: Mapping[str, str] = {"depth": "depthwise engine busy", "outer": "K^T V busy", "head": "head behind the pool busy"}
    utilisation = (
        "multiply-accumulates of the array that the network wants / its multipliers / cycles; depthwise layers, K^T V and the fully "
        "connected layers have multipliers of their own and count on neither side"
    )

    def network(self, model: str) -> str:
        config = efficientvit_config_of(model)
        size = model.removeprefix("efficientvit_").removesuffix(f"_r{config.image_size}")
        return f"EfficientViT-{size if size == 'micro' else size.upper()} {config.image_size}"

    def macs_per_image(self, model: str) -> int:
        return sum(layer.macs for layer in self.layers(model))

    def layers(self, model: str) -> list[Layer]:
        return layers(efficientvit_config_of(model))


DEIT, EFFICIENTVIT = Deit(), EfficientVit()
FAMILIES: tuple[Family, ...] = (DEIT, EFFICIENTVIT)


def family_of(model: str) -> Family:
    return EFFICIENTVIT if isinstance(config_of(model), EfficientVitConfig) else DEIT


def title_of(result: Mapping[str, Any]) -> str:
    """The network of a result with its precision: "DeiT-base W1A8"."""
    family = family_of(result["model"])
    return f"{family.network(result['model'])} W{family.weight_bits}A{result['bits']}"
