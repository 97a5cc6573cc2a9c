"""Steps of the array: some output words of one pass of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.efficientvit.graph import Convolution, Requantizer
from rtl.efficientvit.isa import HARDSWISH_BASE, PAIRS, WORD_CHANNELS, Opcode
from rtl.efficientvit.program import pack
from rtl.efficientvit.program.layout import ATTENTION_WORDS, weight_matrix
from rtl.efficientvit.program.tasks import Block, Engine, Task
from rtl.efficientvit.program.workspace import Workspace

#: Weight words of one tile, at most: 64 KiB.
TILE_WORDS = 1024
#: Output words of a convolution: (first, count).
Tile = tuple[int, int]


def windows_name(convolution: Convolution) -> str:
    """What a convolution reads whose kernel is larger than a pixel: the stem, and windows that another engine makes."""
    return f"{convolution.name} windows"


@dataclass(frozen=True, kw_only=True)
class _Common:
    """Of all passes' steps of one tile: the tensor that they read and its words (first, count), and what does not depend on the pass."""

    source: str
    operands: Tile
    cycles: int
    fields: dict[str, int]
    weights: Block
    parameters: Block


class Steps:
    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._matrices: dict[str, np.ndarray] = {}
        self._commons: dict[tuple[str, Tile], _Common] = {}

    def weight_words(self, convolution: Convolution, outputs: int | None = None) -> int:
        """Of so many output words, or of all."""
        workspace = self.workspace
        count = workspace.words(convolution.target) if outputs is None else outputs
        return PAIRS * count * (1 if convolution.groups > 1 or convolution.kernel > 1 else workspace.words(convolution.source))

    def tiles(self, convolution: Convolution, first: int, words: int) -> list[Tile]:
        """Output words ``first``.. in tiles of at most TILE_WORDS weight words; of q, k and v, the words of a head or two."""
        size = max(1, TILE_WORDS // self.weight_words(convolution, 1))
        if convolution.target in self.workspace.readers.attention:
            size = ATTENTION_WORDS
        return [(start, min(size, first + words - start)) for start in range(first, first + words, size)]

    def all_tiles(self, convolution: Convolution) -> list[Tile]:
        return self.tiles(convolution, 0, self.workspace.words(convolution.target))

    def step(self, convolution: Convolution, tile: Tile, pass_index: int, *, write: bool) -> Task:
        """``write``: the results stay in their rows."""
        workspace, common, shortcut = self.workspace, self._common(convolution, tile), convolution.requantizer.shortcut
        pixels = workspace.pixels(workspace.graph.tensors[convolution.target], pass_index)
        task = workspace.add(Engine.ARRAY, Opcode.STEP, convolution.name, common.cycles, pixels=pixels, **common.fields)
        task.payload["source"] = workspace.read(task, common.source, pass_index, *common.operands)
        if shortcut is not None:
            task.payload["shortcut"] = workspace.read(task, shortcut.source, pass_index, *tile)
        task.weights, task.parameters = common.weights, common.parameters
        if write:
            self.write(task, convolution.target, tile, pass_index)
        task.makes = ("step", convolution.target, *tile, pass_index)
        return task

    def write(self, task: Task, target: str, tile: Tile, pass_index: int) -> None:
        task.payload |= {"write": 1, "target": self.workspace.write(task, target, pass_index, *tile)}

    def _common(self, convolution: Convolution, tile: Tile) -> _Common:
        """Made once."""
        key = convolution.name, tile
        if key not in self._commons:
            grouped, stem = convolution.groups > 1, convolution.kernel > 1
            source = windows_name(convolution) if stem else convolution.source
            words = 1 if stem or grouped else self.workspace.words(source)
            tensor, (_, count) = self.workspace.graph.tensors[convolution.target], tile
            fields = {
                "words": words, "outputs": count, "grouped": int(grouped), "source_stride": int(grouped), "zero": int(tensor.zero),
                "low": int(tensor.limits.low),
            }  # fmt: skip
            self._commons[key] = _Common(
                source=source,
                operands=tile if grouped else (0, words),
                cycles=PAIRS * count * words,
                fields=fields | self._requantize(convolution.requantizer),
                weights=self._weights(convolution, tile),
                parameters=self._parameters(convolution, tile),
            )
        return self._commons[key]

    def _requantize(self, requantizer: Requantizer) -> dict[str, int]:
        """Hardswish and shortcut."""
        fields, hardswish, shortcut = {}, requantizer.hardswish, requantizer.shortcut
        if hardswish is not None:
            fields |= {"hardswish": 1, "fraction": int(hardswish.fraction) - HARDSWISH_BASE}
        if shortcut is not None:
            fields |= {"shortcut_enable": 1, "shortcut_zero": int(self.workspace.graph.tensors[shortcut.source].zero)}
        return fields

    def _weights(self, convolution: Convolution, tile: Tile) -> Block:
        words, grouped = self.weight_words(convolution, tile[1]), convolution.groups > 1

        def weights() -> bytes:
            matrix, places = self._matrix(convolution), _places(tile)
            return pack.pack_step_weights(matrix[places, places] if grouped else matrix[places], grouped=grouped)

        return Block(f"{_name(convolution, tile)} weights", words, words * pack.WORD_BYTES, weights)

    def _parameters(self, convolution: Convolution, tile: Tile) -> Block:
        workspace, pairs = self.workspace, tile[1] * PAIRS

        def parameters() -> bytes:
            order = workspace.orders[convolution.target]
            fields = pack.step_parameters(convolution, workspace.graph.tensors[convolution.source], self._matrix(convolution), order)
            return pack.pack_parameters({key: values[_places(tile)] for key, values in fields.items()})

        return Block(f"{_name(convolution, tile)} parameters", pairs, pairs * pack.PAIR_BYTES, parameters)

    def _matrix(self, convolution: Convolution) -> np.ndarray:
        """See `weight_matrix`; made once."""
        if convolution.name not in self._matrices:
            orders = self.workspace.orders
            self._matrices[convolution.name] = weight_matrix(convolution, orders[convolution.source], orders[convolution.target])
        return self._matrices[convolution.name]


def _places(tile: Tile) -> slice:
    """Of a tile's channels, in their tensor."""
    first, count = tile
    return slice(first * WORD_CHANNELS, (first + count) * WORD_CHANNELS)


def _name(convolution: Convolution, tile: Tile) -> str:
    first, count = tile
    return f"{convolution.name} words {first}..{first + count - 1}"
