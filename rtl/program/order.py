"""The order in which tiles and ATTENDs of several images enter the program.

Images run in groups of ``config.images`` (a pair): image i in slot ``i % config.images``. Group (A, B): patch A, QKV(0) A, patch B,
QKV(0) B; then for each layer block A, block B, where a block is projection, FC1 j, FC2 j ..., and the QKV tiles of the next layer; last the
heads, each tile for A and B. ATTENDs follow the last QKV tile of their layer: the attention of A runs while the array works on B, and vice
versa. An image without a partner overlaps with itself instead: its ATTENDs write to the activations of the idle slot, so each may start as
soon as its own QKV tile is done; and while the last pass of its tokens still attends, projection and FC1 0 work on the others. FC2 0 of the
first pass hides the statistics of the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.program.tiling import Attend, Tile, attends, block_tiles, head_tiles, joined, patch_tiles, qkv_tiles, split


@dataclass(frozen=True, kw_only=True)
class Run:
    """``item`` for ``images`` images from number ``image`` on. ``alone``: the other slot is idle."""

    item: Tile | Attend
    image: int
    images: int = 1
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """From here on nothing reads the activations of the slot of ``image`` any more: its pixels may come."""

    image: int


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The head tiles of ``image`` are all in the program."""

    image: int


class _Cut:
    """All tiles of the network, cut once for all images."""

    def __init__(self, graph: DeitGraph, config: AcceleratorConfig):
        self.passes = config.passes
        self.patch = tuple(patch_tiles(graph, config))
        layers = list(enumerate(graph.layers))
        self.qkv = [list(zip(qkv_tiles(layer, index, config), attends(layer, index, config), strict=True)) for index, layer in layers]
        self.block = [tuple(block_tiles(layer, index, config)) for index, layer in layers]
        self.head = tuple(head_tiles(graph, config))

    def attention(self, layer: int, image: int, alone: bool) -> Iterator[Run]:
        """QKV tiles and ATTENDs."""
        tiles, attends = zip(*self.qkv[layer], strict=True)
        if alone:  # the first heads at once; the others, which wait for the first, the last pass apart
            first, *others = attends
            last = self.passes - 1
            items = (tiles[0], first, *tiles[1:], *split(joined(others), last)) if others else (*tiles, *split(first, last))
        else:
            items = (*tiles, *attends)
        yield from (Run(item=item, image=image, alone=alone) for item in items)

    def feed_forward(self, layer: int, image: int, alone: bool) -> Iterator[Run]:
        """Projection and feed-forward."""
        tiles: Sequence[Tile] = self.block[layer]
        if alone and self.passes > 1:  # the last pass apart: the others need not wait for its attention
            (projection, last_projection), (fc1, last_fc1) = (split(tile, self.passes - 1) for tile in tiles[:2])
            first_fc2, fc2 = split(tiles[2], 1)
            tiles = (projection, fc1, last_projection, first_fc2, last_fc1, fc2, *tiles[3:])
        yield from (Run(item=tile, image=image) for tile in tiles)


def ordered(graph: DeitGraph, config: AcceleratorConfig, images: int) -> Iterator[Run | Pixels | Logits]:
    """Everything that ``images`` images do, in program order."""
    cut, depth = _Cut(graph, config), config.shape.depth
    yield Pixels(image=0)
    for first in range(0, images, config.images):
        group = range(first, min(first + config.images, images))
        alone = len(group) < config.images
        for image in group:
            yield from (Run(item=tile, image=image) for tile in cut.patch)
            if first == 0 and image + 1 < len(group):
                yield Pixels(image=image + 1)
            if depth:
                yield from cut.attention(0, image, alone)
            else:
                yield from _released(image, config, images)
        for layer in range(depth):
            for image in group:
                yield from cut.feed_forward(layer, image, alone)
                if layer + 1 < depth:
                    yield from cut.attention(layer + 1, image, alone)
                else:
                    yield from _released(image, config, images)
        yield from (Run(item=tile, image=first, images=len(group)) for tile in cut.head)
        yield from (Logits(image=image) for image in group)


def _released(image: int, config: AcceleratorConfig, images: int) -> Iterator[Pixels]:
    """The next image in the slot of ``image``, if there is one."""
    if image + config.images < images:
        yield Pixels(image=image + config.images)
