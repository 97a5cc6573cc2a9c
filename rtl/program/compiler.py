"""The compiler: integer graph -> program and memory image, for one configuration. Deterministic: the same graph gives the same bytes.

``rtl.program.order`` says which tile of which image comes when. Before each TILE comes its bundle: on the DMA queue POSITION (patch tiles),
NORM and TABLE when new, PARAMETER; on the STREAM queue its weights. The queues run ahead of the array, limited only by buffers. INPUT, on
a queue of its own, comes as soon as its slot is free. STORE belongs to no tile: it slips in after a bundle whose own buffer is free no
sooner than it may start, so it never holds up loading, and after that of a projection, because before it positions keep the DMA busy.

Synchronisation. Every wait is met by posts of instructions *earlier in the program*, so no queue depth can deadlock.

* TILE n waits ``TILE_STREAMED`` for its weights and ``TILE_LOADED`` for the last LOAD of its bundle; the DMA queue is in order, so all that
  came before has landed too: the STORE of the logits that a head tile overwrites. A patch tile waits ``INPUT_LOADED`` for its pixels.
* The projection waits for the ATTENDs of its passes; a QKV tile, which overwrites keys and values, for the ATTENDs that read those places.
* LOAD and STREAM into a buffer wait until the last tile that used it is done (``TILES_DONE``); INPUT until the last tile that reads the
  slot's activations is, POSITION until the last that reads its residuals.
* ATTEND waits until the QKV tiles before it are done: those of the whole layer, where o goes to the activations that hold q. STORE waits
  until the image's head tiles are done.
* Row-local hazards between consecutive TILEs are the hardware's: no counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.graph import DeitGraph
from model.integer import REQUANTIZE_SHIFTS
from rtl.config import AcceleratorConfig
from rtl.program.bundle import BundleEmitter
from rtl.program.check import check_graph, check_shape, require
from rtl.program.image import LOGIT_BYTES
from rtl.program.isa import Counter, Instruction, Opcode
from rtl.program.memory import BEAT_BYTES, Outline, Window, WindowBuilder, aligned
from rtl.program.order import Pixels, Run, ordered
from rtl.program.tiling import SHORTEST_FILL, Attend, Tile, Write


@dataclass(frozen=True, kw_only=True)
class Step:
    """A TILE or ATTEND as reports and comparisons see it: for ``images`` images from number ``image`` on, one after the other.

    instruction : its index in the program
    """

    name: str
    instruction: int
    opcode: Opcode
    writes: tuple[Write, ...]
    image: int
    images: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledProgram:
    """Everything that a run needs besides the images.

    images : how many images one run takes
    program, weights : contents of the PROGRAM and WEIGHTS windows
    image_bytes : size of the IMAGE window. Image i: (image_size, image_size, channels) bytes from ``image_offsets[i]``
    result_bytes : size of the RESULT window. Image i: ``classes`` s16 logits, little-endian, from ``result_offsets[i]``
    steps : one per TILE and ATTEND, in program order
    """

    images: int
    instructions: tuple[Instruction, ...]
    program: bytes
    weights: bytes
    image_bytes: int
    image_offsets: tuple[int, ...]
    result_bytes: int
    result_offsets: tuple[int, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A STORE of ``image`` that has no place in the program yet. ``done``: tiles that must be done before it starts."""

    image: int
    done: int


def compile_graph(graph: DeitGraph, config: AcceleratorConfig, images: int = 1) -> CompiledProgram:
    """One program that runs ``images`` images through ``graph``. Raises InputError when the graph breaks a rule of the hardware."""
    check_graph(graph, config)
    window = WindowBuilder()
    compiler = _compiled(graph, config, images, window)
    weights, pixels = window.image(), image_pixels(config)
    require(len(weights) < 1 << 32, "the weight image must be below 4 GiB", len(weights), "choose a smaller network")
    return CompiledProgram(
        images=images,
        instructions=tuple(compiler.instructions),
        program=b"".join(instruction.encode() for instruction in compiler.instructions),
        weights=weights,
        image_bytes=(images - 1) * compiler.image_stride + aligned(pixels, BEAT_BYTES),
        image_offsets=tuple(image * compiler.image_stride for image in range(images)),
        result_bytes=images * compiler.result_stride,
        result_offsets=tuple(image * compiler.result_stride for image in range(images)),
        steps=tuple(compiler.steps),
    )


def outlines(graph: DeitGraph, config: AcceleratorConfig, images: Sequence[int]) -> list[tuple[Instruction, ...]]:
    """The instructions of `compile_graph`, for plans, of a program for each number of images: no constant is looked at or packed, so their
    places in the WEIGHTS window are not those of the program. Raises InputError when the shape breaks a rule of the hardware."""
    check_shape(graph, config)
    return [tuple(_compiled(graph, config, count, Outline()).instructions) for count in images]


def _compiled(graph: DeitGraph, config: AcceleratorConfig, images: int, window: Window) -> _Compiler:
    """The whole program, as its compiler holds it."""
    require(images >= 1, "images must be at least 1", images, "use 1")
    compiler = _Compiler(graph, config, images, window)
    for event in ordered(graph, config, images):
        if isinstance(event, Pixels):
            compiler.pixels(event.image)
        elif not isinstance(event, Run):
            compiler.logits(event.image)
        elif isinstance(event.item, Attend):
            compiler.attend(event.item, event.image, event.alone)
        else:
            compiler.tile(event.item, event.image, event.images)
    compiler.end()
    return compiler


class _Compiler(BundleEmitter):
    """The program so far.

    residual_free : per image slot, tiles that must be done before new positions may come
    readers : per place of the key/value memory, ATTENDs that must be done before it may be overwritten
    attended : per image slot and pass, ATTENDs that must be done before its projection
    output : per image slot, the slot whose activations they write
    """

    def __init__(self, graph: DeitGraph, config: AcceleratorConfig, images: int, window: Window) -> None:
        super().__init__(graph, config, window)
        self.images = images
        self.steps: list[Step] = []
        self.waiting: list[_Waiting] = []
        self.residual_free = [0] * config.images
        self.attended = [[0] * config.passes for _ in range(config.images)]
        self.output = [0] * config.images
        self.readers = [0] * config.key_value_heads
        self.image_stride = aligned(image_pixels(config))
        self.result_stride = aligned(LOGIT_BYTES * config.shape.classes, BEAT_BYTES)

    def slot(self, image: int) -> int:
        return image % self.config.images

    # -- pixels and logits ----------------------------------------------------------------------------------------------------------------

    def pixels(self, image: int) -> None:
        offset, count = image * self.image_stride, image_pixels(self.config)
        done = self.tiles if image >= self.config.images else 0
        self.emit(Opcode.INPUT, {Counter.TILES_DONE: done}, Counter.INPUT_LOADED, f"pixels @{image}",
                  offset=offset, items=count, image=self.slot(image))  # fmt: skip

    def logits(self, image: int) -> None:
        self.residual_free[self.slot(image)] = self.tiles
        self.waiting.append(_Waiting(image=image, done=self.tiles))

    def _release(self, items: list[_Waiting]) -> None:
        """Give these a place in the program: here."""
        for item in items:
            self.waiting.remove(item)
            waits, offset = {Counter.TILES_DONE: item.done}, item.image * self.result_stride
            self.emit(Opcode.STORE, waits, comment=f"logits @{item.image}", offset=offset, items=self.config.shape.classes,
                      image=self.slot(item.image))  # fmt: skip

    # -- tiles ----------------------------------------------------------------------------------------------------------------------------

    def tile(self, tile: Tile, image: int, images: int) -> None:
        """The tile's bundle, then the TILE, then what slips in."""
        name = f"{tile.name} @{image}"
        if tile.norm is self.graph.norm:  # a head: the logit memories are free once they are stored
            self._release(list(self.waiting))
        waits = {Counter.ATTENTIONS_DONE: self._attentions(tile, image)}
        slot = self.slot(image)
        fields = dict(tile.fields, planes=1, activations=SHORTEST_FILL, source_image=self.output[slot] if tile.after_attention else slot)
        if tile.positions:
            first = tile.positions[0] == 0  # the first tile's come before the pixels, the others behind them: all share the load bus
            waits_for = {Counter.TILES_DONE: self.residual_free[slot], Counter.INPUT_LOADED: 0 if first else image + 1}
            self.positions(tile.positions, slot, waits_for, name)
            waits[Counter.INPUT_LOADED] = image + 1
        if tile.heads:
            fields["key_value_head"] = self._place(tile.heads[0], image)
        if tile.linear is not None:
            fields |= self.bundle(tile, tile.linear, name)
            waits |= {counter: self.posted[counter] for counter in (Counter.TILE_LOADED, Counter.TILE_STREAMED)}
        self._step(tile.name, Opcode.TILE, tile.writes, image, images)
        self.emit(Opcode.TILE, waits, Counter.TILES_DONE, name, words=tile.words, image=slot, images=images,
                  first_pass=tile.passes.start, passes=len(tile.passes), **fields)  # fmt: skip
        free = self.tiles - self.config.weight_buffers
        self._release([item for item in self.waiting if item.done <= free and tile.after_attention])

    def _attentions(self, tile: Tile, image: int) -> int:
        """ATTENDs that must be done before the tile."""
        if tile.after_attention:
            return max(self.attended[self.slot(image)][index] for index in tile.passes)
        return max((self.readers[self._place(head, image)] for head in tile.heads), default=0)

    def _place(self, head: int, image: int) -> int:
        """Of a head's keys and values in their memory."""
        copy = self.slot(image) if self.config.key_value_copies == 2 else 0
        return copy * self.config.shape.heads + head

    # -- attention ------------------------------------------------------------------------------------------------------------------------

    def attend(self, item: Attend, image: int, alone: bool) -> None:
        """``alone``: o goes to the slot that is idle."""
        shape, layer, slot = self.config.shape, item.layer, self.slot(image)
        self.output[slot] = slot ^ alone
        self._step(item.name, Opcode.ATTEND, item.writes, image, 1)
        self.emit(
            Opcode.ATTEND,
            {Counter.TILES_DONE: self.tiles},
            Counter.ATTENTIONS_DONE,
            f"{item.name} @{image}",
            image=slot,
            output_image=self.output[slot],
            first_head=item.heads[0],
            heads=len(item.heads),
            key_value_head=self._place(item.heads[0], image),
            first_pass=item.passes.start,
            passes=len(item.passes),
            keys=shape.tokens,
            score_multiplier=layer.score_multiplier,
            score_shift=REQUANTIZE_SHIFTS.index(layer.score_shift),
            dividend=layer.dividend,
        )
        count = self.posted[Counter.ATTENTIONS_DONE]
        self.attended[slot][item.passes.start : item.passes.stop] = [count] * len(item.passes)
        for head in item.heads:
            self.readers[self._place(head, image)] = count

    # -- the end --------------------------------------------------------------------------------------------------------------------------

    def _step(self, name: str, opcode: Opcode, writes: tuple[Write, ...], image: int, images: int) -> None:
        step = Step(name=name, instruction=len(self.instructions), opcode=opcode, writes=writes, image=image, images=images)
        self.steps.append(step)

    def end(self) -> None:
        """STORE what is left, END."""
        self._release(list(self.waiting))
        self.emit(Opcode.END, {}, comment="end")
        require(self.tiles < 1 << 16, "a program must have fewer than 65536 tiles", self.tiles, "use fewer images")


def image_pixels(config: AcceleratorConfig) -> int:
    """Bytes of one image: (image_size, image_size, channels)."""
    return config.shape.image_size**2 * config.shape.channels
