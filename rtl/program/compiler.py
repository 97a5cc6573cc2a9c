"""The compiler: integer graph -> program and memory image, for one configuration. Deterministic: the same graph gives the same bytes.

Order of the program: POSITION, PIXEL, then for each tile its LOADs (NORM and TABLE when new, PARAMETER, WEIGHT) followed by its TILE;
ATTEND between QKV and projection; STORE, END. The DMA queue runs ahead of the array, limited only by buffers, so LOADs prefetch.

Synchronisation. Every wait is met by posts of instructions *earlier in the program*, so no queue depth can deadlock; the ARRAY queue needs
``weight_buffers`` entries, or prefetch shortens.

* TILE n waits ``TILE_LOADED >= n + 1``: posted by the last LOAD of its bundle; the DMA queue is in order, so everything before has landed
  too (the input, for tile 0). The projection also waits for ATTENTIONS_DONE.
* A LOAD into a buffer waits until the last tile that used that buffer is done (``TILES_DONE``).
* ATTEND waits until the QKV tiles of its layer are done; STORE until all tiles are.
* Row-local hazards between consecutive TILEs are the hardware's: no counter.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from model.graph import DeitGraph
from model.integer import REQUANTIZE_SHIFTS
from rtl.config import AcceleratorConfig
from rtl.program import memory
from rtl.program.buffers import Ring
from rtl.program.check import check_graph, require
from rtl.program.isa import PAYLOAD, Instruction, LoadTarget, Opcode, Window
from rtl.program.tiling import Attend, Tile, Write, tiles

NORM_BUFFERS = 2
TABLE_BUFFERS = 2
TABLE_ENTRIES = 256
LOGIT_BYTES = 2
#: Bytes of one transfer on the memory bus.
BEAT_BYTES = 16


class Counter(enum.IntEnum):
    """Names of the hardware counters. NONE is never posted: waiting for it to reach 0 is no wait."""

    NONE = 0
    TILE_LOADED = 1  # bundles (weights, parameters, norm, table) in memory
    TILES_DONE = 2  # tiles whose results have all landed
    ATTENTIONS_DONE = 3


Wait = tuple[Counter, int]
NO_WAIT: Wait = (Counter.NONE, 0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A TILE or ATTEND as reports and comparisons see it. ``instruction``: its index in the program."""

    name: str
    instruction: int
    opcode: Opcode
    writes: tuple[Write, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledProgram:
    """Everything that a run needs besides the image.

    program, weights : contents of the PROGRAM and WEIGHTS windows
    image_bytes : size of the IMAGE window: (image_size, image_size, channels) bytes from offset 0, padded to whole beats
    result_bytes : size of the RESULT window: ``classes`` s16 logits, little-endian, from offset 0, padded to whole beats
    steps : one per TILE and ATTEND, in program order
    """

    instructions: tuple[Instruction, ...]
    program: bytes
    weights: bytes
    image_bytes: int
    result_bytes: int
    steps: tuple[Step, ...]


def compile_graph(graph: DeitGraph, config: AcceleratorConfig) -> CompiledProgram:
    """Compile ``graph`` for ``config``. Raises InputError when the graph breaks a rule of the hardware."""
    check_graph(graph, config)
    builder = _Builder(config)
    builder.inputs(graph)
    for item in tiles(graph, config):
        builder.attend(item) if isinstance(item, Attend) else builder.tile(item)
    builder.finish()
    return builder.result()


class _Builder:
    """The program so far. ``tile_count`` tiles and ``attend_count`` ATTENDs have been emitted."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.window = memory.WindowBuilder()
        self.instructions: list[Instruction] = []
        self.steps: list[Step] = []
        self.tile_count = self.attend_count = 0
        self.weight_ring, self.norm_ring, self.table_ring = Ring(config.weight_buffers), Ring(NORM_BUFFERS), Ring(TABLE_BUFFERS)

    def emit(self, opcode: Opcode, waits: tuple[Wait, ...] = (), post: Counter | None = None, comment: str = "", **payload: int) -> None:
        """Append an instruction; payload fields left out are 0."""
        (first, first_value), (second, second_value) = (*waits, NO_WAIT, NO_WAIT)[:2]
        self.instructions.append(
            Instruction(
                opcode=opcode,
                wait0_counter=first,
                wait0_value=first_value,
                wait1_counter=second,
                wait1_value=second_value,
                post_enable=int(post is not None),
                post_counter=post or 0,
                payload={name: int(payload.pop(name, 0)) for name, _ in PAYLOAD[opcode]},
                comment=comment,
            )
        )
        assert not payload, f"{opcode.name} has no fields {sorted(payload)}"

    def load(
        self, target: LoadTarget, blob: bytes, items: int, address: int, comment: str, done: int = 0, post: Counter | None = None
    ) -> None:
        """LOAD ``blob`` from the WEIGHTS window once ``done`` tiles are done."""
        waits = ((Counter.TILES_DONE, done),) if done else ()
        offset = self.window.add(blob)
        self.emit(Opcode.LOAD, waits, post, comment, window=Window.WEIGHTS, target=target, offset=offset, items=items, address=address)

    def inputs(self, graph: DeitGraph) -> None:
        """Position table and pixels of the image."""
        self.load(LoadTarget.POSITION, memory.pack_positions(graph.positions), graph.positions.size, 0, "positions")
        pixels = image_pixels(self.config)
        self.emit(Opcode.LOAD, comment="pixels", window=Window.IMAGE, target=LoadTarget.PIXEL, items=pixels)

    def tile(self, tile: Tile) -> None:
        """LOADs of the tile's bundle, then the TILE."""
        assert tile.words <= self.config.tile_words, tile.name
        norm_address = self._load_norm(tile)
        table_set = self._load_table(tile)
        weight_address = self._load_weights(tile)
        waits = ((Counter.TILE_LOADED, self.tile_count + 1), (Counter.ATTENTIONS_DONE, tile.after_attention))
        self._step(tile.name, Opcode.TILE, tile.writes)
        self.emit(
            Opcode.TILE,
            waits[: 2 if tile.after_attention else 1],
            Counter.TILES_DONE,
            tile.name,
            weight_address=weight_address,
            words=tile.words,
            planes=tile.linear.planes,
            passes=tile.passes,
            activations=tile.linear.inputs,
            norm_address=norm_address,
            table_enable=int(tile.linear.table is not None),
            table_set=table_set,
            **tile.fields,
        )
        self.tile_count += 1

    def _load_norm(self, tile: Tile) -> int:
        """Address of the tile's gamma and beta, loaded if they are not there yet; 0 without LayerNorm."""
        if tile.norm is None:
            return 0
        slot, fresh, done = self.norm_ring.place(tile.norm_index)
        embed = self.config.shape.embed_dim
        if fresh:
            self.load(LoadTarget.NORM, memory.pack_norm(tile.norm), embed, slot * embed, f"{tile.name} norm", done)
        self.norm_ring.used(self.tile_count)
        return slot * embed

    def _load_table(self, tile: Tile) -> int:
        """The tile's table set, loaded if it is not there yet; 0 without a table."""
        if tile.linear.table is None:
            return 0
        slot, fresh, done = self.table_ring.place(tile.table_index)
        if fresh:
            table = memory.pack_table(tile.linear.table)
            self.load(LoadTarget.TABLE, table, TABLE_ENTRIES, slot * TABLE_ENTRIES, f"{tile.name} table", done)
        self.table_ring.used(self.tile_count)
        return slot

    def _load_weights(self, tile: Tile) -> int:
        slot, _, done = self.weight_ring.place(self.tile_count)
        self.weight_ring.used(self.tile_count)
        address = slot * self.config.tile_words
        self.load(LoadTarget.PARAMETER, memory.pack_parameters(tile.linear), tile.words, address, f"{tile.name} parameters", done)
        words = memory.pack_weights(tile.linear, self.config.inputs)
        self.load(LoadTarget.WEIGHT, words, tile.words, address, f"{tile.name} weights", done, Counter.TILE_LOADED)
        return address

    def attend(self, item: Attend) -> None:
        shape, layer = self.config.shape, item.layer
        self._step(item.name, Opcode.ATTEND, item.writes)
        self.emit(
            Opcode.ATTEND,
            ((Counter.TILES_DONE, self.tile_count),),
            Counter.ATTENTIONS_DONE,
            item.name,
            heads=shape.heads,
            passes=self.config.passes,
            keys=shape.tokens,
            score_multiplier=layer.score_multiplier,
            score_shift=REQUANTIZE_SHIFTS.index(layer.score_shift),
            dividend=layer.dividend,
        )
        self.attend_count += 1

    def finish(self) -> None:
        """STORE the logits when every tile is done, then END."""
        self.emit(Opcode.STORE, ((Counter.TILES_DONE, self.tile_count),), comment="logits", items=self.config.shape.classes)
        self.emit(Opcode.END, comment="end")
        require(self.tile_count < 1 << 16, "a program must have fewer than 65536 tiles", self.tile_count, "use more tile_words")

    def _step(self, name: str, opcode: Opcode, writes: tuple[Write, ...]) -> None:
        self.steps.append(Step(name=name, instruction=len(self.instructions), opcode=opcode, writes=writes))

    def result(self) -> CompiledProgram:
        weights = self.window.image()
        require(len(weights) < 1 << 32, "the weight image must be below 4 GiB", len(weights), "choose a smaller network")
        return CompiledProgram(
            instructions=tuple(self.instructions),
            program=b"".join(instruction.encode() for instruction in self.instructions),
            weights=weights,
            image_bytes=whole_beats(image_pixels(self.config)),
            result_bytes=whole_beats(LOGIT_BYTES * self.config.shape.classes),
            steps=tuple(self.steps),
        )


def image_pixels(config: AcceleratorConfig) -> int:
    """Bytes of one image: (image_size, image_size, channels)."""
    return config.shape.image_size**2 * config.shape.channels


def whole_beats(size: int) -> int:
    """``size`` bytes rounded up: windows are checked in whole beats."""
    return -(-size // BEAT_BYTES) * BEAT_BYTES
