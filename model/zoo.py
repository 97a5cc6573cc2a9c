"""Networks by name: their shapes, and their graphs from a shipped checkpoint, a file or a seed."""

from __future__ import annotations

from pathlib import Path

from model import checkpoint
from model.errors import InputError
from model.graph import DeitGraph, DeitShape
from model.random_graph import random_graph

CHECKPOINTS = Path(__file__).parent / "checkpoints"
RANDOM_PREFIX = "random:"
#: timm's dimensions of DeiT at 224: name -> (embed_dim, heads).
_AT_224 = {"deit_tiny": (192, 3), "deit_small": (384, 6), "deit_base": (768, 12)}
MODELS = ("deit_micro", *_AT_224)


def shape_of(model: str, bits: int) -> DeitShape:
    """Raises InputError for an unknown model or precision."""
    if model.endswith("_distilled") and model.removesuffix("_distilled") in _AT_224:
        raise InputError(f"distilled variants are not lowered yet: {model} has a second token; use {model.removesuffix('_distilled')}")
    if model not in MODELS:
        raise InputError(f"model must be one of {', '.join(MODELS)}: {model!r} is not; choose one of these")
    if not 1 <= bits <= 8:
        raise InputError(f"bits must be 1..8: {bits} is not; choose 8, 6 or 4")
    if model == "deit_micro":
        return DeitShape(name=model, bits=bits, image_size=28, channels=1, patch_size=7, embed_dim=64, depth=4, heads=4, hidden_dim=256, classes=10)
    embed_dim, heads = _AT_224[model]
    return DeitShape(name=model, bits=bits, image_size=224, channels=3, patch_size=16, embed_dim=embed_dim, depth=12, heads=heads,
                     hidden_dim=4 * embed_dim, classes=1000)  # fmt: skip


def shipped_path(model: str, bits: int) -> Path:
    return CHECKPOINTS / f"{model}_w1a{bits}.npz"


def load_graph_and_metadata(model: str, bits: int, source: str | None = None) -> tuple[DeitGraph, dict]:
    """``source``: a path, ``random:SEED``, or None for the shipped checkpoint, else ``random:0``."""
    shape = shape_of(model, bits)
    if source is None:
        source = str(shipped_path(model, bits)) if shipped_path(model, bits).exists() else f"{RANDOM_PREFIX}0"
    if source.startswith(RANDOM_PREFIX):
        seed = source.removeprefix(RANDOM_PREFIX)
        if not seed.isdecimal():
            raise InputError(f"random:SEED needs a whole number: {seed!r} is not; try random:0")
        return random_graph(shape, int(seed)), {"source": source}
    graph, metadata = checkpoint.load_graph(source)
    if graph.shape != shape:
        raise InputError(f"the checkpoint must be {model} with {bits} bits: {source} is {graph.shape.name} with {graph.shape.bits}; name that model and bits")
    return graph, {"source": source, **metadata}


def load_graph(model: str, bits: int, checkpoint: str | None = None) -> DeitGraph:
    """See ``load_graph_and_metadata``."""
    return load_graph_and_metadata(model, bits, checkpoint)[0]
