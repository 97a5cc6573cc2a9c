"""What the array does for one image: the network cut into tiles, in order. No addresses, no counters: see ``rtl.program.compiler``.

Order: patch tiles; per layer QKV tiles (``heads_per_tile`` heads each), ATTEND, projection, then FC1 tile j followed by FC2 K-tile j for
each ``hidden_tile`` channels of the hidden layer, so that only one tile of the hidden layer ever lives; last the head on pass 0 alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from model.graph import DeitGraph, Layer, Linear, Norm
from rtl.config import AcceleratorConfig
from rtl.program.isa import Accumulate, Destination, Source


@dataclass(frozen=True, kw_only=True)
class Write:
    """A run of results of one step: ``count`` channels of ``tensor`` (named as in ``model.graph``) from channel ``first``."""

    tensor: str
    first: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """One TILE: ``linear`` is the tile's own slice, outputs in word order.

    writes : what each token of each pass writes, in output order; empty for K-tiles that only accumulate
    norm, norm_index : the LayerNorm of a NORMALIZED source and its number in program order
    table_index : number of ``linear.table`` in program order, or None
    fields : the remaining fields of the TILE payload; those left out are 0
    after_attention : how many ATTENDs must be done before the tile starts
    """

    name: str
    linear: Linear
    writes: tuple[Write, ...]
    passes: int
    fields: dict[str, int]
    norm: Norm | None = None
    norm_index: int | None = None
    table_index: int | None = None
    after_attention: int = 0

    @property
    def words(self) -> int:
        return self.linear.outputs * self.linear.planes


@dataclass(frozen=True, kw_only=True, eq=False)
class Attend:
    """One ATTEND: all heads and tokens of layer ``index``."""

    name: str
    index: int
    layer: Layer
    writes: tuple[Write, ...] = field(default=())


def tiles(graph: DeitGraph, config: AcceleratorConfig) -> Iterator[Tile | Attend]:
    """All steps of one image, in program order."""
    yield from _patch(graph, config)
    for index, layer in enumerate(graph.layers):
        yield from _qkv(layer, index, config)
        embed = config.shape.embed_dim
        yield Attend(name=f"{index}.attend", index=index, layer=layer, writes=(Write(tensor=f"{index}.attention", first=0, count=embed),))
        yield _projection(layer, index, config)
        yield from _feed_forward(layer, index, config)
    yield from _head(graph, config)


def rows_of(linear: Linear, outputs: np.ndarray, inputs: slice = slice(None)) -> Linear:
    """The Linear of chosen outputs (in that order) and a range of inputs."""
    return replace(
        linear,
        codes=linear.codes[outputs, inputs],
        multiplier=linear.multiplier[outputs],
        shift=linear.shift[outputs],
        bias=linear.bias[outputs],
    )


def _runs(total: int, limit: int) -> list[np.ndarray]:
    """Indices 0..total-1 in consecutive runs of at most ``limit``."""
    return [np.arange(first, min(first + limit, total)) for first in range(0, total, limit)]


def _patch(graph: DeitGraph, config: AcceleratorConfig) -> Iterator[Tile]:
    runs = _runs(config.shape.embed_dim, config.tile_words // graph.patch.planes)
    for number, run in enumerate(runs):
        yield Tile(
            name=f"patch[{number}]",
            linear=rows_of(graph.patch, run),
            writes=(Write(tensor="residual.embed", first=int(run[0]), count=len(run)),),
            passes=config.passes,
            fields={
                "source": Source.ACTIVATION,
                "destination": Destination.RESIDUAL,
                "base_channel": int(run[0]),
                "statistics_first": int(number == 0),
                "statistics_last": int(number == len(runs) - 1),
                "mask_enable": 1,
            },
        )


def _qkv(layer: Layer, index: int, config: AcceleratorConfig) -> Iterator[Tile]:
    embed, dim = config.shape.embed_dim, config.shape.head_dim
    for number, heads in enumerate(_runs(config.shape.heads, config.heads_per_tile)):
        first, count = int(heads[0]) * dim, len(heads) * dim
        outputs = np.concatenate([part * embed + first + np.arange(count) for part in range(3)])
        yield Tile(
            name=f"{index}.qkv[{number}]",
            linear=rows_of(layer.qkv, outputs),
            writes=tuple(Write(tensor=f"{index}.{part}", first=first, count=count) for part in "qkv"),
            passes=config.passes,
            norm=layer.norm1,
            norm_index=2 * index,
            fields={"source": Source.NORMALIZED, "destination": Destination.QKV, "base_channel": int(heads[0]), "heads": len(heads)},
        )


def _projection(layer: Layer, index: int, config: AcceleratorConfig) -> Tile:
    return Tile(
        name=f"{index}.projection",
        linear=layer.projection,
        writes=(Write(tensor=f"{index}.residual1", first=0, count=config.shape.embed_dim),),
        passes=config.passes,
        after_attention=index + 1,
        fields={"source": Source.ACTIVATION, "destination": Destination.RESIDUAL, "statistics_first": 1, "statistics_last": 1},
    )


def _feed_forward(layer: Layer, index: int, config: AcceleratorConfig) -> Iterator[Tile]:
    runs = _runs(config.shape.hidden_dim, config.hidden_tile)
    for number, run in enumerate(runs):
        yield Tile(
            name=f"{index}.fc1[{number}]",
            linear=rows_of(layer.fc1, run),
            writes=(Write(tensor=f"{index}.hidden", first=int(run[0]), count=len(run)),),
            passes=config.passes,
            norm=layer.norm2,
            norm_index=2 * index + 1,
            table_index=index,
            fields={"source": Source.NORMALIZED, "destination": Destination.ACTIVATION},
        )
        yield _fc2(layer, index, number, runs, config)


def _fc2(layer: Layer, index: int, number: int, runs: list[np.ndarray], config: AcceleratorConfig) -> Tile:
    last = number == len(runs) - 1
    outputs = np.arange(config.shape.embed_dim)
    inputs = slice(int(runs[number][0]), int(runs[number][-1]) + 1)
    return Tile(
        name=f"{index}.fc2[{number}]",
        linear=rows_of(layer.fc2, outputs, inputs),
        writes=(Write(tensor=f"{index}.residual2", first=0, count=len(outputs)),) if last else (),
        passes=config.passes,
        fields={
            "source": Source.ACTIVATION,
            "destination": Destination.RESIDUAL,
            "accumulate": _accumulate(number, len(runs)),
            "statistics_first": int(last),
            "statistics_last": int(last),
        },
    )


def _accumulate(number: int, count: int) -> Accumulate:
    if count == 1:
        return Accumulate.NONE
    if number == 0:
        return Accumulate.FIRST
    return Accumulate.LAST if number == count - 1 else Accumulate.MIDDLE


def _head(graph: DeitGraph, config: AcceleratorConfig) -> Iterator[Tile]:
    for number, run in enumerate(_runs(config.shape.classes, config.tile_words // graph.head.planes)):
        yield Tile(
            name=f"head[{number}]",
            linear=rows_of(graph.head, run),
            writes=(Write(tensor="logits", first=int(run[0]), count=len(run)),),
            passes=1,
            norm=graph.norm,
            norm_index=2 * config.shape.depth,
            fields={"source": Source.NORMALIZED, "destination": Destination.LOGITS, "base_channel": int(run[0])},
        )
