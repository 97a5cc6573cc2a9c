"""The network cut into tiles: what the array and the attention do for one image. No addresses, no counters, no order between images:
see ``rtl.program.order`` and ``rtl.program.compiler``.

FC1 tile j is followed by FC2 K-tile j, so that only one tile of the hidden layer ever lives. Patches longer than the row inputs take
K-tiles, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from model.graph import DeitGraph, Layer, Linear, Norm
from rtl.config import AcceleratorConfig
from rtl.program.isa import Accumulate, Destination, Mask, Source

#: A fill is padded to a multiple of this: the shortest there is.
SHORTEST_FILL = 16


@dataclass(frozen=True, kw_only=True)
class Write:
    """A run of results of one step: ``count`` channels of ``tensor`` (named as in ``model.graph``) from channel ``first``."""

    tensor: str
    first: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """One TILE.

    linear : the tile's own slice, outputs in word order; None for the tile that only gathers statistics. Tiles with the same
        one share its words in the weight buffer
    writes : what each token of each pass writes, in output order; empty for K-tiles that only accumulate
    norm, norm_index : the LayerNorm of a NORMALIZED source and its number in execution order
    table_index : number of ``linear.table`` in execution order, or None
    passes : of the row, whose tokens it works on
    positions : (first channel, channels) of the position table that the tile needs first, or None
    heads : those that a QKV tile makes, else empty        after_attention : it reads the attention of its passes
    fields : the remaining fields of the TILE payload; those left out are 0
    """

    name: str
    linear: Linear | None
    words: int
    writes: tuple[Write, ...]
    passes: range
    fields: dict[str, int]
    norm: Norm | None = None
    norm_index: int | None = None
    table_index: int | None = None
    positions: tuple[int, int] | None = None
    heads: range = range(0)
    after_attention: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Attend:
    """One ATTEND: the tokens of some passes attend to all, in some heads."""

    name: str
    layer: Layer
    heads: range
    passes: range
    writes: tuple[Write, ...]


def _tile(name: str, linear: Linear, writes: tuple[Write, ...], passes: range, fields: dict[str, int], **rest) -> Tile:
    return Tile(name=name, linear=linear, words=linear.outputs * linear.planes, writes=writes, passes=passes, fields=fields, **rest)


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


def _slice(run: np.ndarray) -> slice:
    return slice(int(run[0]), int(run[-1]) + 1)


def patch_tiles(graph: DeitGraph, config: AcceleratorConfig) -> Iterator[Tile]:
    """Patch embedding, ``tile_words // planes`` channels at a time; if these are not all, a last tile gathers the statistics."""
    shape = config.shape
    runs = _runs(shape.embed_dim, config.tile_words // graph.patch.planes)
    parts = _runs(shape.patch_dim, config.inputs)
    for number, run in enumerate(runs):
        for part, inputs in enumerate(parts):
            accumulate = _accumulate(part, len(parts))
            last = part == len(parts) - 1
            yield _tile(
                f"patch[{number}]" if len(parts) == 1 else f"patch[{number}.{part}]",
                rows_of(graph.patch, run, _slice(inputs)),
                (Write(tensor="residual.embed", first=int(run[0]), count=len(run)),) if last else (),
                range(config.passes),
                {
                    "source": Source.ACTIVATION,
                    "source_channel": int(inputs[0]),
                    "destination": Destination.RESIDUAL,
                    "accumulate": accumulate,
                    "base_channel": int(run[0]),
                    "statistics": int(last and len(runs) == 1),
                    "mask": Mask.ROWS_0_1 if shape.distilled else Mask.ROW_0,
                },
                positions=(int(run[0]), len(run)) if part == 0 else None,
            )
    if len(runs) > 1:
        yield Tile(
            name="statistics",
            linear=None,
            words=shape.embed_dim,
            writes=(Write(tensor="residual.embed", first=0, count=shape.embed_dim),),
            passes=range(config.passes),
            fields={"source": Source.ACTIVATION, "destination": Destination.RESIDUAL, "statistics": 1, "mask": Mask.ALL},
        )


def _head_runs(config: AcceleratorConfig) -> list[range]:
    return [range(int(run[0]), int(run[-1]) + 1) for run in _runs(config.shape.heads, config.heads_per_tile)]


def qkv_tiles(layer: Layer, index: int, config: AcceleratorConfig) -> Iterator[Tile]:
    embed, dim = config.shape.embed_dim, config.shape.head_dim
    for number, heads in enumerate(_head_runs(config)):
        first, count = heads[0] * dim, len(heads) * dim
        outputs = np.concatenate([part * embed + first + np.arange(count) for part in range(3)])
        yield _tile(
            f"{index}.qkv[{number}]",
            rows_of(layer.qkv, outputs),
            tuple(Write(tensor=f"{index}.{part}", first=first, count=count) for part in "qkv"),
            range(config.passes),
            {"source": Source.NORMALIZED, "destination": Destination.QKV, "base_channel": heads[0], "heads": len(heads)},
            norm=layer.norm1,
            norm_index=2 * index,
            heads=heads,
        )


def attends(layer: Layer, index: int, config: AcceleratorConfig) -> Iterator[Attend]:
    dim = config.shape.head_dim
    for number, heads in enumerate(_head_runs(config)):
        write = Write(tensor=f"{index}.attention", first=heads[0] * dim, count=len(heads) * dim)
        yield Attend(name=f"{index}.attend[{number}]", layer=layer, heads=heads, passes=range(config.passes), writes=(write,))


def joined(parts: list[Attend]) -> Attend:
    """Adjacent groups of heads as one."""
    first, last = parts[0], parts[-1]
    write = replace(first.writes[0], count=sum(part.writes[0].count for part in parts))
    return replace(first, heads=range(first.heads.start, last.heads.stop), writes=(write,))


Part = TypeVar("Part", Tile, Attend)


def split(item: Part, at: int) -> list[Part]:
    """The same for the passes below ``at``, then for the others; without a part that has none."""
    parts = item.passes[:at], item.passes[at:]
    return [replace(item, passes=passes) for passes in parts if passes]


def block_tiles(layer: Layer, index: int, config: AcceleratorConfig) -> Iterator[Tile]:
    """Projection and feed-forward."""
    yield _tile(
        f"{index}.projection",
        layer.projection,
        (Write(tensor=f"{index}.residual1", first=0, count=config.shape.embed_dim),),
        range(config.passes),
        {"source": Source.ACTIVATION, "destination": Destination.RESIDUAL, "statistics": 1},
        after_attention=True,
    )
    runs = _runs(config.shape.hidden_dim, config.hidden_tile)
    for number, run in enumerate(runs):
        yield _tile(
            f"{index}.fc1[{number}]",
            rows_of(layer.fc1, run),
            (Write(tensor=f"{index}.hidden", first=int(run[0]), count=len(run)),),
            range(config.passes),
            {"source": Source.NORMALIZED, "destination": Destination.ACTIVATION},
            norm=layer.norm2,
            norm_index=2 * index + 1,
            table_index=index,
        )
        yield _fc2(layer, index, number, runs, config)


def _fc2(layer: Layer, index: int, number: int, runs: list[np.ndarray], config: AcceleratorConfig) -> Tile:
    last = number == len(runs) - 1
    outputs = np.arange(config.shape.embed_dim)
    return _tile(
        f"{index}.fc2[{number}]",
        rows_of(layer.fc2, outputs, _slice(runs[number])),
        (Write(tensor=f"{index}.residual2", first=0, count=len(outputs)),) if last else (),
        range(config.passes),
        {
            "source": Source.ACTIVATION,
            "destination": Destination.RESIDUAL,
            "accumulate": _accumulate(number, len(runs)),
            "statistics": int(last),
        },
    )


def _accumulate(number: int, count: int) -> Accumulate:
    if count == 1:
        return Accumulate.NONE
    if number == 0:
        return Accumulate.FIRST
    return Accumulate.LAST if number == count - 1 else Accumulate.MIDDLE


def head_tiles(graph: DeitGraph, config: AcceleratorConfig) -> Iterator[Tile]:
    """The head on the class token (row 0), then, distilled, the other head on row 1, which is added."""
    heads = [("logits", graph.head)] if graph.head_distilled is None else [("head", graph.head), ("head_distilled", graph.head_distilled)]
    for row, (tensor, linear) in enumerate(heads):
        for number, run in enumerate(_runs(config.shape.classes, config.tile_words // linear.planes)):
            yield _tile(
                f"head_distilled[{number}]" if row else f"head[{number}]",
                rows_of(linear, run),
                (Write(tensor=tensor, first=int(run[0]), count=len(run)),),
                range(1),
                {
                    "source": Source.NORMALIZED,
                    "destination": Destination.LOGITS,
                    "base_channel": int(run[0]),
                    "logit_row": row,
                },
                norm=graph.norm,
                norm_index=2 * config.shape.depth,
            )
