"""What the rooms of the compiler share: the tasks so far, their blocks, and where tensors lie in the rows' memories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from model.efficientvit.graph import Convolution, EfficientVitGraph, Tensor
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAYLOAD, WORD_CHANNELS, Opcode
from rtl.efficientvit.program.layout import channel_orders
from rtl.efficientvit.program.memories import RowCells, RowMemory
from rtl.efficientvit.program.readers import Readers, sources_of
from rtl.efficientvit.program.tasks import Block, Engine, Task
from rtl.errors import InputError

#: Payloads of nothing but zeros.
BLANK = {opcode: dict.fromkeys((name for name, _ in layout), 0) for opcode, layout in PAYLOAD.items()}


class Workspace:
    """
    readers : who reads what        orders : per tensor, the channel at every place of its words
    tasks : of all images so far, in canonical order        counts : of them, by engine        number : the image at hand
    """

    def __init__(self, graph: EfficientVitGraph, config: EfficientVitMachine):
        self.graph, self.config = graph, config
        self.readers, self.orders = Readers(graph), channel_orders(graph)
        self.tasks: list[Task] = []
        self.counts = Counter()
        self.number = 0
        self._memory, self._cells = RowMemory(config.memory_words), RowCells(config.memory_words)
        self._slots: dict[str, int] = {}
        self._blocks: dict[object, Block] = {}

    # Tasks

    def task(self, engine: Engine, opcode: Opcode, name: str, cycles: int, **fields: int) -> Task:
        """A task of the image at hand, for whoever gives it its place. Fields left out are 0."""
        known = BLANK[opcode]
        assert fields.keys() <= known.keys(), fields.keys() - known.keys()
        return Task(engine, opcode, name, cycles, known | fields, self.number)

    def add(self, engine: Engine, opcode: Opcode, name: str, cycles: int, **fields: int) -> Task:
        """A task behind those that there are."""
        task = self.task(engine, opcode, name, cycles, **fields)
        self.tasks.append(task)
        self.counts[engine] += 1
        return task

    def block(self, key: tuple, make: Callable[[], Block]) -> Block:
        """The block of this key, made once."""
        if key not in self._blocks:
            self._blocks[key] = make()
        return self._blocks[key]

    # Sizes

    def passes(self, tensor: Tensor) -> int:
        return -(-tensor.pixels // self.config.rows)

    def pixels(self, tensor: Tensor, pass_index: int) -> int:
        """Of one pass."""
        return min(self.config.rows, tensor.pixels - pass_index * self.config.rows)

    def words(self, name: str) -> int:
        return len(self.orders[name]) // WORD_CHANNELS

    # Tensors in the rows' memories

    def _key(self, name: str) -> tuple[str, int]:
        return name, self.number

    def place(self, name: str, slots: int | None = None) -> None:
        """A place for a tensor. ``slots``: passes that are kept, else all.

        Raises
        ------
        InputError : there is none
        """
        self._slots[name] = slots or self.passes(self.graph.tensors[name])
        if self._memory.place(self._key(name), self._slots[name] * self.words(name)) is None:
            raise InputError(
                f"activations must fit {self.config.memory_words} words per row: {name} does not; "
                "tiling through DDR is not done yet; use a smaller image"
            )

    def place_result(self, convolution: Convolution, index: int) -> None:
        """A layer's place: that of its shortcut, if nobody reads that after this operator."""
        target, shortcut = convolution.target, convolution.requantizer.shortcut
        if shortcut is None or self.readers.last_use[shortcut.source] != index:
            self.place(target)
        else:
            self._slots[target] = self._slots[shortcut.source]
            self._memory.share(self._key(shortcut.source), self._key(target))

    def free(self, name: str) -> None:
        self._memory.free(self._key(name))

    def free_sources(self, index: int) -> None:
        """What the operator was the last to read."""
        for name in sources_of(self.graph.operators[index]):
            if self.readers.last_use[name] == index and self._memory.holds(self._key(name)):
                self.free(name)

    def slots(self, name: str) -> int:
        """Passes of a tensor that are kept."""
        return self._slots[name]

    def address(self, name: str, pass_index: int, word: int = 0) -> int:
        return self._memory.base(self._key(name)) + pass_index % self._slots[name] * self.words(name) + word

    def read(self, task: Task, name: str, pass_index: int, first: int = 0, words: int = 1, stride: int = 1) -> int:
        """``task`` reads words of a pass, every ``stride``-th. Returns the first one's address."""
        origin = self.address(name, pass_index, first)
        self._cells.read(range(origin, origin + words * stride, stride), task, (self._key(name), pass_index))
        return origin

    def write(self, task: Task, name: str, pass_index: int, first: int = 0, words: int = 1) -> int:
        """``task`` writes words of a pass. Returns the first one's address."""
        origin = self.address(name, pass_index, first)
        self._cells.write(range(origin, origin + words), task, (self._key(name), pass_index))
        return origin
