"""The machines among which the planner chooses: per family, the useful settings, and a bound below which no machine's cycles lie.

A setting is useful where no cheaper one gives the same cycles. Rows count only through the passes that a network's tokens or pixels take,
so that of all row numbers with the same passes the smallest is enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple, Protocol

from model.efficientvit.graph import Convolution, EfficientVitGraph
from model.graph import DeitGraph, DeitShape
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS
from rtl.efficientvit.preset import preset as efficientvit_preset
from rtl.errors import InputError
from rtl.flow.machine import Config
from rtl.program.memory import BEAT_BYTES
from rtl.program.tiling import SHORTEST_FILL
from rtl.row_units import RowUnits
from rtl.shapes import MOST_INPUTS

#: Passes of a program's TILE, at most: a field of the instruction.
MOST_PASSES = 15
#: Tiles that the weight memory holds: the next one arrives, one is asked for, one is used.
WEIGHT_BUFFERS = 3
#: Weight planes of the patch embedding and the heads; other layers have one.
WIDE_PLANES = 8
#: More rows must save so much of the products, or they are not worth a look.
WORTH = 0.02
#: Of a row's activation memory, where the preset's are not enough.
MOST_MEMORY_WORDS = 1024


class Space(Protocol):
    """``precisions``: activation bits, the highest first."""

    precisions: Sequence[int]

    def machines(self, bits: int) -> Iterator[Sequence[Config]]:
        """Every useful machine at a precision, fitting or not, in groups of which no machine takes less of a board than the first. Raises
        InputError where a law of the hardware leaves none."""
        ...

    def larger(self, config: Any) -> Config | None:
        """What takes the place of a machine whose memories do not hold the network; None: nothing does."""
        ...

    def fullest(self, config: Any) -> Config:
        """The same array with the most around it, which is no slower (but for `rtl.plan.planner.SLACK`). The machine itself: nothing can be
        added."""
        ...

    def least_cycles(self, config: Any, memory_bytes: float) -> float:
        """Of an image, in a stream of them. ``memory_bytes``: per cycle, sustained."""
        ...


class DeitSpace:
    """Rows, inputs, attention lanes, words of a weight tile, weight ports, key/value copies and image slots of a DeiT's machine.

    network : bits -> its graph, of which only shapes are read        precisions, rows : only these        hp_ports : AXI ports of the board
    """

    def __init__(
        self, network: Callable[[int], DeitGraph], *, precisions: Sequence[int] | None = None, rows: int | None = None,
        strategy: str = "lut_table", hp_ports: int = 4,
    ):  # fmt: skip
        self.network, self.rows, self.strategy, self.hp_ports = network, rows, strategy, hp_ports
        self.precisions = range(8, 0, -1) if precisions is None else precisions

    def machines(self, bits: int) -> Iterator[Sequence[AcceleratorConfig]]:
        shape, found, refused = self.network(bits).shape, False, InputError("no machine")
        for rows, inputs in product(self._rows(shape.tokens), self._inputs(shape)):
            for lanes in range(2, max(2, min(rows, shape.head_dim)) + 1, 2):
                try:
                    first = AcceleratorConfig(
                        shape=shape, rows=rows, inputs=inputs, lanes=lanes, tile_words=self._tile_words(shape)[0],
                        weight_buffers=WEIGHT_BUFFERS, strategy=self.strategy,
                    )  # fmt: skip
                    AttentionConfig.of(first)
                except InputError as error:  # a law of attention or of the array: no such machine
                    refused = error
                    continue
                found = True
                yield self._memories(first)
        if not found:
            raise refused

    def larger(self, config: AcceleratorConfig) -> None:
        """Nothing: its memories are made for the network."""

    def fullest(self, config: AcceleratorConfig) -> AcceleratorConfig:
        """Two images, two layers' keys and values, all the weight ports that can be."""
        for weight_ports in reversed(self._ports()):
            with contextlib.suppress(InputError):  # a word is not cut by so many
                return replace(config, weight_ports=weight_ports, images=2, key_value_copies=2)
        return config

    def least_cycles(self, config: AcceleratorConfig, memory_bytes: float) -> float:
        """The array, the attention and the memory each work alone: the longest is what an image takes at least."""
        cut = config.inputs, config.tile_words, config.hidden_tile, config.heads_per_tile
        work = _Work.of(config.shape, config.passes, *cut, RowUnits(config).timing.hazard)
        weight_bytes = work.weight_words * config.inputs // 8
        stream = max(weight_bytes / (BEAT_BYTES * config.weight_ports), (weight_bytes + self._other_bytes(config.shape)) / memory_bytes)
        return max(work.array, stream, self._attending(config, work))

    @staticmethod
    def _attending(config: AcceleratorConfig, work: _Work) -> float:
        """Two images: the attention works on one after the other, and idles until the first has keys, and from its own end on, for the last
        block and the heads. One image: the array works beside the attention on later heads' keys, and, while the last pass attends, on the
        other passes (`rtl.program.order`); the rest of the attention is waited for."""
        attention, shape = AttentionConfig.of(config), config.shape
        busy = shape.depth * shape.heads * config.passes * (attention.score_cycles + attention.output_cycles)
        if config.images == 1:
            last_pass = busy / config.passes if config.passes > 1 else 0
            return work.array + max(0, busy - last_pass - work.later_keys)
        return busy + work.heads + (work.first_keys + work.block) / config.images

    @staticmethod
    def _other_bytes(shape: Any) -> int:
        """Of an image: its pixels, positions, norms, and a requantizer for every output channel."""
        embed = shape.embed_dim
        outputs = embed + shape.depth * (5 * embed + shape.hidden_dim) + shape.classes
        pixels = shape.image_size**2 * shape.channels
        return pixels + 2 * embed * shape.tokens + 4 * embed * (2 * shape.depth + 1) + 8 * outputs

    def _rows(self, tokens: int) -> list[int]:
        """Even, as the attention wants them: for each number of passes the fewest."""
        if self.rows is not None:
            return [self.rows]
        fewest = {-(-tokens // passes) for passes in range(1, MOST_PASSES + 1)}
        return sorted({min(rows + rows % 2, 254) for rows in fewest})

    @staticmethod
    def _inputs(shape: Any) -> list[int]:
        """embed_dim, and twice that for long patches: FC2's K-tiles are filled as slowly as they get longer, so more is of no use."""
        widths = (shape.embed_dim, 2 * shape.embed_dim) if 2 * shape.embed_dim <= MOST_INPUTS else (shape.embed_dim,)
        return [width for width in widths if width == shape.embed_dim or shape.hidden_dim % min(width, shape.hidden_dim) == 0]

    @staticmethod
    def _tile_words(shape: Any) -> list[int]:
        """q, k, v of one head or all outputs of a layer at the least; and of as many heads as the attention is best fed with."""
        least = max(3 * shape.head_dim, shape.embed_dim)
        return sorted({least, 2 * least, 3 * shape.embed_dim} & set(range(least, max(768, 3 * 64, least) + 1)))

    def _memories(self, config: AcceleratorConfig) -> list[AcceleratorConfig]:
        """The same array with more and more around it."""
        found = []
        for images, copies, weight_ports, tile in product((1, 2), (1, 2), self._ports(), self._tile_words(config.shape)):
            with contextlib.suppress(InputError):
                found.append(replace(config, tile_words=tile, weight_ports=weight_ports, images=images, key_value_copies=copies))
        return found

    def _ports(self) -> list[int]:
        return [ports for ports in (1, 3) if ports < self.hp_ports]


class _Tile(NamedTuple):
    """Weight words, activations and passes of a tile of an image, and how many of them there are. ``free``: its results are in no row."""

    words: int
    activations: int
    passes: int
    count: int = 1
    free: bool = False

    def cycles(self, hazard: int) -> int:
        """At least. Steps last as long as their words or as the next one's fill, and on one pass they wait for each other's results: see
        `rtl.plan.deit_cycles`."""
        fill = -(-self.activations // SHORTEST_FILL) * SHORTEST_FILL
        alone = 0 if self.free else self.words + hazard + fill
        return max(self.passes * max(self.words, fill), alone)


class _Work(NamedTuple):
    """Of an image, at least, in cycles of the array: all that it does; until the first keys; the keys that come after those of a block's
    first heads; a block behind its attention; the heads. And the words of all its weights."""

    array: float
    first_keys: float
    later_keys: float
    block: float
    heads: float
    weight_words: int

    @classmethod
    @lru_cache(maxsize=1024)
    def of(
        cls, shape: DeitShape, passes: int, inputs: int, tile_words: int, hidden_tile: int, heads_per_tile: int, hazard: int
    ) -> _Work:  # fmt: skip
        """Of the tiles that `rtl.program.tiling` cuts a network into; those of layers count for all of them."""
        wide, embed, tile = tile_words // WIDE_PLANES, shape.embed_dim, hidden_tile
        patch = [
            _Tile(WIDE_PLANES * min(wide, embed - first), min(inputs, shape.patch_dim - part), passes)
            for first, part in product(range(0, embed, wide), range(0, shape.patch_dim, inputs))
        ] + ([_Tile(embed, SHORTEST_FILL, passes)] if wide < embed else [])
        groups = [min(heads_per_tile, shape.heads - first) for first in range(0, shape.heads, heads_per_tile)]
        qkv = [_Tile(3 * shape.head_dim * group, embed, passes, shape.depth) for group in groups]
        hidden = shape.depth * (shape.hidden_dim // tile)
        block = [_Tile(embed, embed, passes, shape.depth), _Tile(tile, embed, passes, hidden), _Tile(embed, tile, passes, hidden)]
        heads = [
            _Tile(WIDE_PLANES * min(wide, shape.classes - first), embed, 1, 1 + shape.distilled, free=True)
            for first in range(0, shape.classes, wide)
        ]

        def cycles(tiles: Sequence[_Tile]) -> float:
            return sum(tile.count * tile.cycles(hazard) for tile in tiles)

        return cls(
            array=cycles(patch + qkv + block + heads),
            first_keys=cycles(patch) + qkv[0].cycles(hazard),
            later_keys=cycles(qkv[1:]),
            block=cycles(block) / shape.depth,
            heads=cycles(heads),
            weight_words=sum(tile.count * tile.words for tile in patch + qkv + block + heads),
        )


class EfficientVitSpace:
    """Rows of an EfficientViT's machine; its memories follow from the network (`rtl.efficientvit.preset`).

    49 rows are most worth their place: tensors of 224 x 224 networks are whole passes of them.

    dsp_clock : of the rows' slices; at 2 a row has half as many, and 500 MHz beside 250 are unproven
    """

    ROWS = range(16, 65)

    def __init__(
        self, network: Callable[[int], EfficientVitGraph], *, precisions: Sequence[int] | None = None, rows: int | None = None,
        dsp_clock: int = 1,
    ):  # fmt: skip
        self.network, self.rows, self.dsp_clock = network, rows, dsp_clock
        self.precisions = range(8, 3, -1) if precisions is None else precisions

    def machines(self, bits: int) -> Iterator[Sequence[EfficientVitMachine]]:
        graph = self.network(bits)
        least = float("inf")
        for rows in self.ROWS if self.rows is None else (self.rows,):
            cycles = self._products(graph, rows)
            if cycles <= least * (1 - WORTH):
                least = cycles
                yield (efficientvit_preset(graph, rows=rows, dsp_clock=self.dsp_clock),)

    def larger(self, config: EfficientVitMachine) -> EfficientVitMachine | None:
        """Two block memories instead of one for every so many bits of a row's activations."""
        return replace(config, memory_words=MOST_MEMORY_WORDS) if config.memory_words < MOST_MEMORY_WORDS else None

    def fullest(self, config: EfficientVitMachine) -> EfficientVitMachine:
        """Itself: its memories hold the network or do not."""
        return config

    def least_cycles(self, config: EfficientVitMachine, memory_bytes: float) -> float:
        """The array without a wait."""
        return self._products(self.network(config.bits), config.rows)

    @staticmethod
    def _products(graph: EfficientVitGraph, rows: int) -> int:
        """Cycles of all convolutions that the array does: for every pass, a pair of channels per word of inputs."""
        total = 0
        for operator in graph.operators:
            if not isinstance(operator, Convolution) or operator.depthwise or graph.tensors[operator.target].pixels == 1:
                continue
            words = 1 if operator.groups > 1 or operator.kernel > 1 else -(-operator.weight.shape[1] // WORD_CHANNELS)
            outputs = -(-operator.outputs // WORD_CHANNELS)
            total += -(-graph.tensors[operator.target].pixels // rows) * PAIRS * outputs * words
        return total
