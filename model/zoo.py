"""Networks by name: their shapes, and their graphs from a shipped checkpoint, a file or a seed. Torch is loaded for float files alone."""

from __future__ import annotations

from pathlib import Path

from model import checkpoint, random_graph
from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, EFFICIENTVIT_WEIGHT_BITS, Config, DeiTConfig, check_bits, deit_config_of
from model.efficientvit import checkpoint as efficientvit_checkpoint
from model.efficientvit import random_graph as efficientvit_random_graph
from model.efficientvit.graph import EfficientVitGraph
from model.efficientvit.operators import OperatorsConfig
from model.errors import InputError
from model.graph import DeitGraph, DeitShape
from model.model_file import network_of

MODELS = (*CONFIGS, *EFFICIENTVIT_CONFIGS)
CHECKPOINTS = Path(__file__).parent / "checkpoints"
RANDOM_PREFIX = "random:"
#: Integer graphs end in .npz; these are float networks of timm, Facebook or MIT.
FLOAT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
Graph = DeitGraph | EfficientVitGraph


def shape_of(model: str, bits: int) -> DeitShape:
    """Of a DeiT; an EfficientViT's is its config. Raises InputError for an unknown model and a precision out of range."""
    return deit_config_of(model).shape(bits)


def shipped_path(model: str, bits: int) -> Path:
    return CHECKPOINTS / f"{model}_w{1 if model in CONFIGS else EFFICIENTVIT_WEIGHT_BITS}a{bits}.npz"


def _random(config: Config | OperatorsConfig, bits: int, seed: str) -> Graph:
    if not seed.isdecimal():
        raise InputError(f"random:SEED needs a whole number: {seed!r} is not; try random:0")
    if isinstance(config, DeiTConfig):
        return random_graph.random_graph(config.shape(bits), int(seed))
    return efficientvit_random_graph.random_graph(config, bits, int(seed), EFFICIENTVIT_WEIGHT_BITS)


def _same(a: str, b: str) -> bool:
    """A B network's plain name is that at 224 x 224."""
    return a.removesuffix("_r224") == b.removesuffix("_r224")


def _stored(config: Config | OperatorsConfig, bits: int, path: str) -> tuple[Graph, dict]:
    """Of an integer graph's file."""
    if isinstance(config, DeiTConfig):
        graph, metadata = checkpoint.load_graph(path)
        fits, found = graph.shape == config.shape(bits), f"{graph.shape.name} with {graph.shape.bits}"
    else:
        graph, metadata = efficientvit_checkpoint.load_graph(path)
        fits, found = _same(graph.name, config.name) and graph.bits == bits, f"{graph.name} with {graph.bits}"
    if not fits:
        raise InputError(f"the checkpoint must be {config.name} with {bits} bits: {path} is {found}; name that model and those bits")
    return graph, metadata


def load_graph_and_metadata(model: str, bits: int, source: str | None = None) -> tuple[Graph, dict]:
    """``source``: a path, ``random:SEED``, or None for the shipped checkpoint, else ``random:0``.

    A path is an integer graph (.npz), or a float network (``FLOAT_SUFFIXES``), which is converted: see ``model.quant.convert``.
    bits : of activations; weights have 1 bit (DeiT) or 8 (EfficientViT), a stored EfficientViT its own
    """
    config = network_of(model)
    check_bits(config, bits)
    if source is None:
        shipped = shipped_path(model, bits)
        source = str(shipped) if model in MODELS and shipped.exists() else f"{RANDOM_PREFIX}0"
    if source.startswith(RANDOM_PREFIX):
        return _random(config, bits, source.removeprefix(RANDOM_PREFIX)), {"source": source}
    if Path(source).suffix in FLOAT_SUFFIXES:
        from model.quant.convert import convert

        graph, metadata = convert(source, model, bits)
    else:
        graph, metadata = _stored(config, bits, source)
    return graph, {"source": source, **metadata}


def load_graph(model: str, bits: int, checkpoint: str | None = None) -> Graph:
    """See ``load_graph_and_metadata``."""
    return load_graph_and_metadata(model, bits, checkpoint)[0]
