"""Networks by name: their shapes, and their graphs from a shipped checkpoint, a file or a seed. Torch is loaded for float files alone."""

from __future__ import annotations

from pathlib import Path

from model import checkpoint
from model.configs import CONFIGS, deit_config_of
from model.errors import InputError
from model.graph import DeitGraph, DeitShape
from model.random_graph import random_graph

MODELS = tuple(CONFIGS)
CHECKPOINTS = Path(__file__).parent / "checkpoints"
RANDOM_PREFIX = "random:"
#: Integer graphs end in .npz; these are float networks of timm or Facebook.
FLOAT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def shape_of(model: str, bits: int) -> DeitShape:
    """Raises InputError for an unknown model and a precision out of range."""
    return deit_config_of(model).shape(bits)


def shipped_path(model: str, bits: int) -> Path:
    return CHECKPOINTS / f"{model}_w1a{bits}.npz"


def load_graph_and_metadata(model: str, bits: int, source: str | None = None) -> tuple[DeitGraph, dict]:
    """``source``: a path, ``random:SEED``, or None for the shipped checkpoint, else ``random:0``.

    A path is an integer graph (.npz), or a float network (``FLOAT_SUFFIXES``), which is converted: see ``model.quant.convert``.
    """
    shape = shape_of(model, bits)
    if source is None:
        source = str(shipped_path(model, bits)) if shipped_path(model, bits).exists() else f"{RANDOM_PREFIX}0"
    if source.startswith(RANDOM_PREFIX):
        seed = source.removeprefix(RANDOM_PREFIX)
        if not seed.isdecimal():
            raise InputError(f"random:SEED needs a whole number: {seed!r} is not; try random:0")
        return random_graph(shape, int(seed)), {"source": source}
    if Path(source).suffix in FLOAT_SUFFIXES:
        from model.quant.convert import convert

        graph, metadata = convert(source, model, bits)
        return graph, {"source": source, **metadata}
    graph, metadata = checkpoint.load_graph(source)
    if graph.shape != shape:
        found = f"{graph.shape.name} with {graph.shape.bits}"
        raise InputError(f"the checkpoint must be {model} with {bits} bits: {source} is {found}; name that model and those bits")
    return graph, {"source": source, **metadata}


def load_graph(model: str, bits: int, checkpoint: str | None = None) -> DeitGraph:
    """See ``load_graph_and_metadata``."""
    return load_graph_and_metadata(model, bits, checkpoint)[0]
