"""An EfficientVitGraph as a compressed ``.npz`` without pickles: a JSON header with its structure, and every array in its own width."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoint import read_archive, read_header
from model.efficientvit import graph as graphs
from model.efficientvit.bounds import check_graph
from model.errors import InputError
from model.integer import Saturation

FORMAT = "popvit-efficientvit-2"
_KINDS = {
    "weight": np.int8, "bias": np.int32, "multiplier": np.uint16, "shift": np.uint8, "gamma": np.int16,
    "beta": np.int32,
    "zero": np.int16, "state_multiplier": np.uint16, "state_shift": np.uint8, "sum_multiplier": np.uint16, "sum_shift": np.uint8,
}  # fmt: skip
_CLASSES = {
    kind.__name__: kind
    for kind in (
        graphs.Tensor, graphs.Hardswish, graphs.Shortcut, graphs.Requantizer, graphs.Convolution, graphs.Divisor, graphs.Scale,
        graphs.LinearAttention, graphs.Pool, graphs.LayerNorm, Saturation,
    )
}  # fmt: skip


def save_graph(path: Path | str, graph: graphs.EfficientVitGraph, metadata: Mapping[str, object] | None = None) -> None:
    """Writes ``graph`` and JSON-like ``metadata``. The same graph gives the same bytes."""
    check_graph(graph)
    arrays: dict[str, np.ndarray] = {}
    header = {
        "format": FORMAT,
        "name": graph.name,
        "bits": graph.bits,
        "weight_bits": graph.weight_bits,
        "tensors": {name: _described(tensor, f"tensor {name}", arrays) for name, tensor in graph.tensors.items()},
        "operators": [_described(operator, operator.name, arrays) for operator in graph.operators],
        "metadata": dict(metadata or {}),
    }
    np.savez_compressed(path, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)


def _described(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """JSON of a value; arrays go to ``arrays`` and leave their name."""
    if isinstance(value, np.ndarray):
        arrays[name] = value.astype(_KINDS[name.rsplit(".", 1)[-1]])
        return {"array": name}
    if isinstance(value, tuple):
        return [_described(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
    if is_dataclass(value):
        parts = {field.name: _described(getattr(value, field.name), f"{name}.{field.name}", arrays) for field in fields(value)}
        return {"class": type(value).__name__, **parts}
    return value.item() if isinstance(value, np.generic) else value


def _restored(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return tuple(_restored(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        name = value["array"]
        array, kind = arrays[name], _KINDS[name.rsplit(".", 1)[-1]]
        if array.dtype != kind:
            raise TypeError(f"{name} is {array.dtype}")
        return array if kind == np.int8 else array.astype(np.int64)
    return _CLASSES[value["class"]](**{name: _restored(part, arrays) for name, part in value.items() if name != "class"})


def load_graph(path: Path | str) -> tuple[graphs.EfficientVitGraph, dict]:
    """The graph, every shape, type and bound checked, and its metadata."""
    arrays = read_archive(path)
    header = read_header(path, arrays, FORMAT)
    try:
        graph = graphs.EfficientVitGraph(
            name=header["name"],
            bits=header["bits"],
            weight_bits=header["weight_bits"],
            tensors={name: _restored(tensor, arrays) for name, tensor in header["tensors"].items()},
            operators=tuple(_restored(operator, arrays) for operator in header["operators"]),
        )
        return check_graph(graph), dict(header.get("metadata", {}))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"a checkpoint must hold what its header names: {path} does not ({type(error).__name__}: {str(error)[:60]})"
        raise InputError(f"{said}; quantize the network again") from None
