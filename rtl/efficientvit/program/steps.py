"""Steps of the array: some output words of one pass of a convolution."""

from __future__ import annotations

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


class Steps:
    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._matrices: dict[str, np.ndarray] = {}

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
        workspace, target, (first, count) = self.workspace, convolution.target, tile
        tensor = workspace.graph.tensors[target]
        grouped, stem = convolution.groups > 1, convolution.kernel > 1
        source = windows_name(convolution) if stem else convolution.source
        words = 1 if stem or grouped else workspace.words(source)
        task = workspace.add(
            Engine.ARRAY, Opcode.STEP, convolution.name, PAIRS * count * words, words=words, outputs=count, grouped=grouped,
            source_stride=grouped, zero=tensor.zero, low=tensor.limits.low, pixels=workspace.pixels(tensor, pass_index),
        )  # fmt: skip
        operands = (first, count) if grouped else (0, words)
        task.payload["source"] = workspace.read(task, source, pass_index, *operands)
        self._requantize(task, convolution.requantizer, tile, pass_index)
        task.weights, task.parameters = self._blocks(convolution, tile)
        if write:
            self.write(task, target, tile, pass_index)
        task.makes = ("step", target, first, count, pass_index)
        return task

    def write(self, task: Task, target: str, tile: Tile, pass_index: int) -> None:
        task.payload |= {"write": 1, "target": self.workspace.write(task, target, pass_index, *tile)}

    def _requantize(self, task: Task, requantizer: Requantizer, tile: Tile, pass_index: int) -> None:
        """Hardswish and shortcut."""
        hardswish, shortcut = requantizer.hardswish, requantizer.shortcut
        if hardswish is not None:
            task.payload |= {"hardswish": 1, "fraction": hardswish.fraction - HARDSWISH_BASE}
        if shortcut is not None:
            address = self.workspace.read(task, shortcut.source, pass_index, *tile)
            zero = int(self.workspace.graph.tensors[shortcut.source].zero)
            task.payload |= {"shortcut_enable": 1, "shortcut": address, "shortcut_zero": zero}

    def _blocks(self, convolution: Convolution, tile: Tile) -> tuple[Block, Block]:
        """Weights and parameters."""
        first, count = tile
        workspace, grouped = self.workspace, convolution.groups > 1
        places = slice(first * WORD_CHANNELS, (first + count) * WORD_CHANNELS)
        order = workspace.orders[convolution.target]
        name = f"{convolution.name} words {first}..{first + count - 1}"

        def weights() -> bytes:
            matrix = self._matrix(convolution)
            return pack.pack_step_weights(matrix[places, places] if grouped else matrix[places], grouped=grouped)

        def parameters() -> bytes:
            fields = pack.step_parameters(convolution, workspace.graph.tensors[convolution.source], self._matrix(convolution), order)
            return pack.pack_parameters({key: values[places] for key, values in fields.items()})

        words, pairs = self.weight_words(convolution, count), count * PAIRS
        return (
            workspace.block((name, "weights"), lambda: Block(f"{name} weights", words, words * pack.WORD_BYTES, weights)),
            workspace.block((name, "parameters"), lambda: Block(f"{name} parameters", pairs, pairs * pack.PAIR_BYTES, parameters)),
        )

    def _matrix(self, convolution: Convolution) -> np.ndarray:
        """See `weight_matrix`; made once."""
        if convolution.name not in self._matrices:
            orders = self.workspace.orders
            self._matrices[convolution.name] = weight_matrix(convolution, orders[convolution.source], orders[convolution.target])
        return self._matrices[convolution.name]
