"""A DeitGraph as a compressed ``.npz`` without pickles: binary weights packed eight to a byte, every other constant in its own width."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from model.bounds import check_graph, linears, norms
from model.errors import InputError
from model.graph import DeitGraph, DeitShape, Layer, Linear, Norm

FORMAT = "popvit-graph-1"
_PER_CHANNEL = {"multiplier": np.uint16, "shift": np.uint8, "bias": np.int32}
#: What numpy and zipfile raise on truncated and foreign files.
_DAMAGED = (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
_ATTENTION = ("score_multiplier", "score_shift", "dividend")


def save_graph(path: Path | str, graph: DeitGraph, metadata: Mapping[str, object] | None = None) -> None:
    """Writes ``graph`` and JSON-like ``metadata`` (accuracies, seed). The same graph gives the same bytes."""
    check_graph(graph)
    header = {"format": FORMAT, "shape": asdict(graph.shape), "metadata": dict(metadata or {})}
    arrays = {"header": np.array(json.dumps(header)), "positions": graph.positions.astype(np.int16)}
    for name, layer in linears(graph):
        arrays[f"{name}.codes"] = np.packbits(layer.codes, axis=1) if layer.planes == 1 else layer.codes
        arrays.update({f"{name}.{field}": getattr(layer, field).astype(kind) for field, kind in _PER_CHANNEL.items()})
        if layer.table is not None:
            arrays[f"{name}.table"] = layer.table
    for name, norm in norms(graph):
        arrays[f"{name}.gamma"], arrays[f"{name}.beta"] = norm.gamma.astype(np.int16), norm.beta.astype(np.int16)
    for index, layer in enumerate(graph.layers):
        arrays[f"{index}.attention"] = np.array([getattr(layer, field) for field in _ATTENTION], dtype=np.uint32)
    np.savez_compressed(path, allow_pickle=False, **arrays)


class _Reader:
    """Takes arrays out of an archive, each checked against the shape and type that the network needs."""

    def __init__(self, arrays: Mapping[str, np.ndarray], shape: DeitShape):
        self.arrays, self.shape = arrays, shape

    def take(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        array = self.arrays.get(name)
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        if array is None or array.shape != shape or array.dtype != kind:
            raise InputError(f"checkpoint tensor {name} must be {np.dtype(kind)} {shape}: found {found}; lower the network again")
        return array

    def linear(self, name: str, outputs: int, inputs: int, *, planes: int = 1, table: bool = False) -> Linear:
        if planes == 1:
            codes = np.unpackbits(self.take(f"{name}.codes", (outputs, -(-inputs // 8)), np.uint8), axis=1, count=inputs)
        else:
            codes = self.take(f"{name}.codes", (outputs, inputs), np.uint8)
        channels = {field: self.take(f"{name}.{field}", (outputs,), kind).astype(np.int64) for field, kind in _PER_CHANNEL.items()}
        return Linear(codes=codes, planes=planes, table=self.take(f"{name}.table", (256,), np.uint8) if table else None, **channels)

    def norm(self, name: str) -> Norm:
        gamma, beta = (self.take(f"{name}.{field}", (self.shape.embed_dim,), np.int16).astype(np.int64) for field in ("gamma", "beta"))
        return Norm(gamma=gamma, beta=beta)

    def layer(self, index: int) -> Layer:
        dim, hidden = self.shape.embed_dim, self.shape.hidden_dim
        attention = self.take(f"{index}.attention", (len(_ATTENTION),), np.uint32)
        return Layer(
            norm1=self.norm(f"{index}.norm1"),
            qkv=self.linear(f"{index}.qkv", 3 * dim, dim),
            **{field: int(value) for field, value in zip(_ATTENTION, attention, strict=True)},
            projection=self.linear(f"{index}.projection", dim, dim),
            norm2=self.norm(f"{index}.norm2"),
            fc1=self.linear(f"{index}.fc1", hidden, dim, table=True),
            fc2=self.linear(f"{index}.fc2", dim, hidden),
        )

    def graph(self) -> DeitGraph:
        shape = self.shape
        return DeitGraph(
            shape=shape,
            positions=self.take("positions", (shape.tokens, shape.embed_dim), np.int16).astype(np.int64),
            patch=self.linear("patch", shape.embed_dim, shape.patch_dim, planes=8),
            layers=tuple(self.layer(index) for index in range(shape.depth)),
            norm=self.norm("norm"),
            head=self.linear("head", shape.classes, shape.embed_dim, planes=8),
            head_distilled=self.linear("head_distilled", shape.classes, shape.embed_dim, planes=8) if shape.distilled else None,
        )


def read_archive(path: Path | str) -> dict[str, np.ndarray]:
    """Every array of an ``.npz``; InputError where it is missing, truncated or something else."""
    try:
        # From memory: numpy leaves files open that it cannot read.
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise InputError(f"a checkpoint must exist: {path} does not; give the path of an .npz file or random:SEED") from None
    except _DAMAGED as error:
        raise InputError(f"a checkpoint must be a whole .npz file: {path} is not ({type(error).__name__}); write it again") from None


def read_header(path: Path | str, arrays: Mapping[str, np.ndarray], wanted: str = FORMAT) -> dict:
    """The JSON header, format checked."""
    try:
        header = json.loads(arrays["header"].item())
        if header["format"] == wanted:
            return header
        found = header["format"]
    except (KeyError, TypeError, ValueError, AttributeError):
        found = "none"
    raise InputError(f"a checkpoint's format must be {wanted}: {path} has {str(found)[:40]}; write it with model.checkpoint.save_graph")


def _shape_of(path: Path | str, header: dict) -> DeitShape:
    try:
        shape = DeitShape(**header["shape"])
        dimensions = [value for field, value in asdict(shape).items() if field not in ("name", "distilled")]
        valid = isinstance(shape.distilled, bool) and all(isinstance(value, int) and value > 0 for value in dimensions)
    except (KeyError, TypeError):
        valid = False
    if not valid or shape.bits > 8 or shape.embed_dim % shape.heads:
        raise InputError(
            f"a checkpoint's shape must have positive dimensions: {path} has {str(header.get('shape'))[:80]}; lower the network again"
        )
    return shape


def load_graph(path: Path | str) -> tuple[DeitGraph, dict]:
    """The graph, every shape, type and bound checked, and its metadata."""
    arrays = read_archive(path)
    header = read_header(path, arrays)
    graph = _Reader(arrays, _shape_of(path, header)).graph()
    return check_graph(graph), dict(header.get("metadata", {}))
