"""The bundle of a TILE: what must be in memory before it starts. LOADs on the DMA queue, PARAMETER last, and STREAM on its own."""

from __future__ import annotations

from functools import partial

from model.graph import DeitGraph, Linear, Norm
from rtl.config import AcceleratorConfig
from rtl.program import memory
from rtl.program.buffers import Buffers
from rtl.program.check import require
from rtl.program.emitter import Emitter
from rtl.program.isa import Counter, LoadTarget, Opcode
from rtl.program.tiling import Tile

NORM_BUFFERS = 2
TABLE_BUFFERS = 2
TABLE_ENTRIES = 256
#: What the sequencer can count.
FEWEST_WORDS, FEWEST_INPUTS = 3, 2


class BundleEmitter(Emitter):
    """``window`` gives blobs their place in the WEIGHTS window. ``placed``: where parameters and weights are in it, and their stride."""

    def __init__(self, graph: DeitGraph, config: AcceleratorConfig, window: memory.Window) -> None:
        super().__init__()
        self.graph, self.config = graph, config
        self.window = window
        self.placed: dict[Linear, tuple[int, int, int]] = {}
        self.weights, self.norms, self.tables = Buffers(config.weight_buffers), Buffers(NORM_BUFFERS), Buffers(TABLE_BUFFERS)

    @property
    def tiles(self) -> int:
        """TILEs in the program so far: the number of the next one."""
        return self.posted[Counter.TILES_DONE]

    def bundle(self, tile: Tile, linear: Linear, name: str) -> dict[str, int]:
        """LOADs and STREAM of one tile. Returns the payload fields that name what it reads."""
        assert tile.words <= self.config.tile_words, name
        require(tile.words >= FEWEST_WORDS, f"a tile must have at least {FEWEST_WORDS} words", tile.words, "choose other tile_words")
        require(linear.inputs >= FEWEST_INPUTS, f"a tile must have at least {FEWEST_INPUTS} inputs", linear.inputs, "choose other inputs")
        fields = {"planes": linear.planes, "activations": linear.inputs}
        if tile.norm is not None:
            fields["norm_address"] = self._norm(tile.norm, tile.norm_index, name)
        if linear.table is not None:
            fields |= {"table_enable": 1, "table_set": self._table(linear, tile.table_index, name)}
        return fields | {"weight_address": self._weights(tile, linear, name)}

    def positions(self, channels: tuple[int, int], slot: int, waits: dict[Counter, int], name: str) -> None:
        """``channels`` (first, count) of the position table, to image slot ``slot``."""
        first, count = channels
        beats, table = memory.position_beats(count, self.config), self.graph.positions[:, first : first + count]
        offset = self.window.add(beats * memory.BEAT_BYTES, partial(memory.pack_positions, table, self.config))
        self._load(LoadTarget.POSITION, offset, beats, first, waits, f"{name} positions", image=slot)

    def _load(
        self, target: LoadTarget, offset: int, items: int, address: int, waits: dict[Counter, int], comment: str, image: int = 0
    ) -> None:
        """LOAD from ``offset`` in the WEIGHTS window."""
        self.emit(Opcode.LOAD, waits, comment=comment, target=target, offset=offset, items=items, address=address, image=image)

    def _norm(self, norm: Norm, index: int | None, name: str) -> int:
        """Address of gamma and beta, loaded unless they are there."""
        size = self.config.shape.embed_dim
        slot, fresh, done = self.norms.place(index, self.tiles)
        if fresh:
            offset = self.window.add(memory.NORM_BYTES * size, partial(memory.pack_norm, norm))
            self._load(LoadTarget.NORM, offset, size, slot * size, {Counter.TILES_DONE: done}, f"{name} norm")
        return slot * size

    def _table(self, linear: Linear, index: int | None, name: str) -> int:
        """The set that holds the table, loaded unless it is there."""
        assert linear.table is not None
        slot, fresh, done = self.tables.place(index, self.tiles)
        if fresh:
            offset, waits = self.window.add(memory.TABLE_BYTES, partial(memory.pack_table, linear.table)), {Counter.TILES_DONE: done}
            self._load(LoadTarget.TABLE, offset, TABLE_ENTRIES, slot * TABLE_ENTRIES, waits, f"{name} table")
        return slot

    def _weights(self, tile: Tile, linear: Linear, name: str) -> int:
        """PARAMETER, the last of the bundle, and STREAM, unless they are there. Returns the address of the first word."""
        slot, fresh, done = self.weights.place(linear, self.tiles)
        address, waits = slot * self.config.tile_words, {Counter.TILES_DONE: done}
        if not fresh:
            return address
        if linear not in self.placed:
            stride = memory.weight_stride(linear, self.config)
            parameters = self.window.add(memory.PARAMETER_BYTES * linear.outputs, partial(memory.pack_parameters, linear))
            words_at = self.window.add(stride * self.config.weight_ports, partial(memory.pack_weights, linear, self.config))
            self.placed[linear] = parameters, words_at, stride
        parameters, words_at, stride = self.placed[linear]
        self.emit(Opcode.LOAD, waits, Counter.TILE_LOADED, f"{name} parameters", target=LoadTarget.PARAMETER,
                  offset=parameters, items=linear.outputs, address=address)  # fmt: skip
        self.emit(Opcode.STREAM, waits, Counter.TILE_STREAMED, f"{name} weights", offset=words_at, stride=stride, items=tile.words,
                  address=address)  # fmt: skip
        return address
