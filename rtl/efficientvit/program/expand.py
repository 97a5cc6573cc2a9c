"""An integer graph as tasks, in an order in which each finds what it needs; what may overlap is left to `schedule`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from model.efficientvit.graph import Convolution, EfficientVitGraph, LinearAttention, Pool, Scale, Tensor
from model.integer import REQUANTIZE_SHIFTS
from rtl.efficientvit import depth_command
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import HARDSWISH_BASE, PAIRS, PAYLOAD, WORD_CHANNELS, Opcode
from rtl.efficientvit.program import pack
from rtl.efficientvit.program.head import HeadTasks
from rtl.efficientvit.program.layout import ATTENTION_WORDS, EMPTY, channel_orders, weight_matrix, words_of
from rtl.efficientvit.program.pack_depthwise import pack_parameters as pack_depth_parameters
from rtl.efficientvit.program.pack_depthwise import pack_weights as pack_depth_weights
from rtl.efficientvit.program.tasks import IMAGES_TOGETHER, BankCells, Block, Engine, Event, Regions, RowCells, RowMemory, Task
from rtl.errors import InputError

#: Weight words of one tile, at most: 64 KiB.
TILE_WORDS = 1024
#: A layer whose weights are more than this is run tile by tile, not pass by pass.
RESIDENT_WORDS = 4096
#: Bands of a depthwise layer with few passes, so that it overlaps with what makes its input.
BAND_WORDS = 4
#: Words of q in one score step: the divisors that a row keeps.
SCORE_WORDS = 16
RING_BANKS = 8
DEPTH_LINES = 7
#: Output lines of one WINDOW, and passes whose windows are kept.
WINDOW_LINES, WINDOW_PASSES = 4, 32
#: Words per row for what a depthwise layer has made and the next layer has not taken yet.
DEPTH_WORDS = 128
ENDLESS = 31
#: Lines of a ring that wraps: a multiple of its banks, below ENDLESS.
MOST_LINES = 24


@dataclass(frozen=True)
class Band:
    """Words ``first``.. of a tensor that a depthwise layer takes at a time, and where the expansion ring holds them: ``lines`` lines of
    ``pitch`` pixels from address ``base`` on; ``wraps``: they are fewer than the tensor's."""

    first: int
    words: int
    base: int
    lines: int
    pitch: int
    wraps: bool

    def place(self, x: int, y: int) -> tuple[int, int]:
        """(bank, address) of word ``first`` of a pixel."""
        flat = y % self.lines * self.pitch + x
        return flat % RING_BANKS, self.base + flat // RING_BANKS * self.words

    @property
    def ring_words(self) -> int:
        return self.lines * self.pitch // RING_BANKS * self.words if self.wraps else 0


class Expander:
    """``tasks``: of all images, in canonical order."""

    def __init__(self, graph: EfficientVitGraph, config: EfficientVitMachine):
        self.graph, self.config = graph, config
        self.orders = channel_orders(graph)
        self.tasks: list[Task] = []
        self.rows, self.cells = RowMemory(config.memory_words), RowCells(config.memory_words)
        self.ring = BankCells(RING_BANKS * config.ring_depth)
        self.ring_regions = Regions(config.ring_depth)
        self.key_values = Regions(config.key_value_depth)
        self.states = Regions(config.state_depth)
        self._blocks: dict[object, Block] = {}
        self.slots: dict[str, int] = {}
        self.head = HeadTasks(graph, self.add, self._block)
        self._state_of: dict[tuple[str, int, int], list] = {}
        self._pool_steps: dict[int, list[Task]] = defaultdict(list)
        self._followed: set[int] = set()
        self._window_lines = 0
        self._layer: Task | None = None
        self._line_before: Task | None = None
        self._depthwise = {
            operator.source: operator for operator in graph.operators if isinstance(operator, Convolution) and operator.depthwise
        }
        self._attention = {
            scale.source: (operator, index)
            for operator in graph.operators
            if isinstance(operator, LinearAttention)
            for index, scale in enumerate(operator.scales)
        }
        self._pooled = {operator.source for operator in graph.operators if isinstance(operator, Pool)}
        self.last_use = {name: index for index, operator in enumerate(graph.operators) for name in _sources(operator)}

    def images(self, count: int) -> None:
        """Adds the tasks of all images. From the first attention on, two images go side by side: their tensors are small there, each waits
        long for its depthwise layers and its states, and they share weights."""
        operators = self.graph.operators
        split = min((index for index, operator in enumerate(operators) if operator.target in self._attention), default=len(operators))
        pooled = min(index for index, operator in enumerate(operators) if operator.target in self._pooled)
        ends = [index + 1 for index in range(split, pooled) if not self._inside_attention(index)]
        parts = [range(first, last) for first, last in pairwise([split, *ends, len(operators)])]
        for first in range(0, count, IMAGES_TOGETHER):
            together = range(first, min(count, first + IMAGES_TOGETHER))
            for part, number in [(range(split), number) for number in together] + [(part, number) for part in parts for number in together]:
                self.number = number
                for index in part:
                    self._operator(index)

    def _inside_attention(self, index: int) -> bool:
        """Whether this operator must be followed by its image's next one: a state must have its readers before its place is given out
        again. Three states, of the first scale of two images and of the second one of the first, are wanted at a time; else images do not
        alternate inside an attention.
        """
        operators = self.graph.operators
        following = next((operator for operator in operators[index + 1 :] if isinstance(operator, LinearAttention)), None)
        if following is None:
            return False
        sources = [scale.source for scale in following.scales]
        state = PAIRS * (1 + min(SCORE_WORDS, self.words(sources[0]) // ATTENTION_WORDS))
        begun = operators[index].target in sources or operators[index].target == self._aggregated(sources)
        return begun and (3 * state > self.config.state_depth or operators[index + 1] is following)

    def _aggregated(self, sources: list[str]) -> str | None:
        """What the second scale's grouped layer reads."""
        return next((operator.source for operator in self.graph.operators if operator.target == sources[-1]), None)

    def _operator(self, index: int) -> None:
        operator = self.graph.operators[index]
        if index in self._followed or (isinstance(operator, Convolution) and operator.depthwise):
            pass  # done with the layer that makes its input
        elif isinstance(operator, Convolution):
            if self.graph.tensors[operator.target].pixels == 1:
                self.head.linear(operator)
            elif operator.target in self._depthwise:
                self._expanded(operator, self._depthwise[operator.target], index)
            else:
                self._pointwise(operator, index, pool=operator.target in self._pooled)
        elif isinstance(operator, LinearAttention):
            self._scores(operator, index)
        elif isinstance(operator, Pool):
            self.head.pool(operator, self._pool_steps.pop(self.number))
        else:
            self.head.norm(operator)
        self._free(index)

    # Tensors in the rows' memories

    def _key(self, name: str) -> tuple[str, int]:
        return name, self.number

    def _place(self, name: str, over: str | None = None, slots: int | None = None) -> None:
        """A place for a tensor; ``over`` another one, whose last reader makes it. ``slots``: passes that are kept, else all."""
        if over is not None:
            self.slots[name] = self.slots[over]
            self.rows.share(str(self._key(over)), str(self._key(name)))
            return
        self.slots[name] = slots or self.passes(self.graph.tensors[name])
        if self.rows.place(str(self._key(name)), self.slots[name] * self.words(name)) is None:
            raise InputError(
                f"activations must fit {self.config.memory_words} words per row: {name} does not; "
                "tiling through DDR is not done yet; use a smaller image"
            )

    def _free(self, index: int) -> None:
        """What the operator was the last to read."""
        for name in _sources(self.graph.operators[index]):
            if self.last_use[name] == index and self.rows.holds(str(self._key(name))):
                self.rows.free(str(self._key(name)))

    def passes(self, tensor: Tensor) -> int:
        return -(-tensor.pixels // self.config.rows)

    def words(self, name: str) -> int:
        return len(self.orders[name]) // WORD_CHANNELS

    def _address(self, name: str, pass_index: int, word: int = 0) -> int:
        return self.rows.base(str(self._key(name))) + pass_index % self.slots[name] * self.words(name) + word

    def _block(self, key: tuple, make) -> Block:
        if key not in self._blocks:
            self._blocks[key] = make()
        return self._blocks[key]

    def add(self, engine: Engine, opcode: Opcode, name: str, cycles: int, **fields: int) -> Task:
        known = dict.fromkeys((field for field, _ in PAYLOAD[opcode]), 0)
        assert fields.keys() <= known.keys(), fields.keys() - known.keys()
        task = Task(engine, opcode, name, cycles, known | {key: int(value) for key, value in fields.items()}, self.number)
        self.tasks.append(task)
        return task

    # Steps of the array

    def _step(self, convolution: Convolution, tile: tuple[int, int], pass_index: int, **fields: int) -> Task:
        """Output words ``tile`` (first, count) of one pass of a convolution."""
        target, stem = convolution.target, convolution.kernel > 1
        source = self._windows_name(convolution) if stem else convolution.source
        tensor = self.graph.tensors[target]
        first, count = tile
        grouped = convolution.groups > 1
        words = 1 if stem or grouped else self.words(source)
        requantizer = convolution.requantizer
        task = self.add(
            Engine.ARRAY, Opcode.STEP, convolution.name, PAIRS * count * words, words=words, outputs=count, grouped=grouped,
            source_stride=grouped, zero=tensor.zero, low=tensor.limits.low, pixels=self._pixels(tensor, pass_index), **fields,
        )  # fmt: skip
        origin = self._address(source, pass_index, first if grouped else 0)
        task.payload["source"] = origin
        self.cells.read(range(origin, origin + (count if grouped else words)), task, (self._key(source), pass_index))
        if requantizer.hardswish is not None:
            task.payload |= {"hardswish": 1, "fraction": requantizer.hardswish.fraction - HARDSWISH_BASE}
        if requantizer.shortcut is not None:
            shortcut = requantizer.shortcut.source
            address = self._address(shortcut, pass_index, first)
            task.payload |= {"shortcut_enable": 1, "shortcut": address, "shortcut_zero": int(self.graph.tensors[shortcut].zero)}
            self.cells.read(range(address, address + count), task, (self._key(shortcut), pass_index))
        task.weights, task.parameters = self._step_blocks(convolution, tile)
        task.makes = ("step", target, first, count, pass_index)
        return task

    def _pixels(self, tensor: Tensor, pass_index: int) -> int:
        return min(self.config.rows, tensor.pixels - pass_index * self.config.rows)

    def _step_blocks(self, convolution: Convolution, tile: tuple[int, int]) -> tuple[Block, Block]:
        first, count = tile
        grouped = convolution.groups > 1
        name = f"{convolution.name} words {first}..{first + count - 1}"

        def weights() -> Block:
            matrix = weight_matrix(convolution, self.orders[convolution.source], self.orders[convolution.target])
            part = matrix[first * WORD_CHANNELS : (first + count) * WORD_CHANNELS]
            if grouped:
                part = part[:, first * WORD_CHANNELS : (first + count) * WORD_CHANNELS]
            return Block(f"{name} weights", pack.pack_step_weights(part, grouped=grouped), pack.weight_words(part, grouped=grouped))

        def parameters() -> Block:
            order = self.orders[convolution.target]
            matrix = weight_matrix(convolution, self.orders[convolution.source], order)
            fields = pack.step_parameters(convolution, self.graph.tensors[convolution.source], matrix, order)
            part = {key: values[first * WORD_CHANNELS : (first + count) * WORD_CHANNELS] for key, values in fields.items()}
            return Block(f"{name} parameters", pack.pack_parameters(part), count * PAIRS)

        return self._block((name, "weights"), weights), self._block((name, "parameters"), parameters)

    def _write_rows(self, task: Task, target: str, pass_index: int, tile: tuple[int, int]) -> None:
        address = self._address(target, pass_index, tile[0])
        task.payload |= {"write": 1, "target": address}
        self.cells.write(range(address, address + tile[1]), task, (self._key(target), pass_index))

    def _tiles(self, convolution: Convolution) -> list[tuple[int, int]]:
        """(first word, words) of the output, each of at most TILE_WORDS weight words."""
        total = self.words(convolution.target)
        per_word = PAIRS * (1 if convolution.groups > 1 or convolution.kernel > 1 else self.words(convolution.source))
        size = max(1, min(total, TILE_WORDS // per_word))
        if convolution.target in self._attention:
            size = ATTENTION_WORDS
        return [(first, min(size, total - first)) for first in range(0, total, size)]

    def _pointwise(self, convolution: Convolution, index: int, *, pool: bool) -> None:
        """A layer whose results stay in their rows, or go to the pool, or, of attention's second scale, to the key/value memory too."""
        target, tiles = convolution.target, self._tiles(convolution)
        tensor = self.graph.tensors[target]
        if not pool:
            self._place_over(convolution, index)
        attended = target in self._attention
        tile_major = pool or attended or self._weight_words(convolution) > RESIDENT_WORDS
        passes = range(self.passes(tensor))
        order = [(tile, s) for tile in tiles for s in passes] if tile_major else [(tile, s) for s in passes for tile in tiles]
        region: tuple | None = None
        for tile, pass_index in order:
            task = self._step(convolution, tile, pass_index)
            if pool:
                task.payload |= {"pool": 1, "key_value": tile[0], "bank": int(pass_index == 0)}
                self._pool_steps[self.number].append(task)
                task.after |= {(other, Event.DONE) for other in self.head.pool_readers}
            else:
                self._write_rows(task, target, pass_index, tile)
            if attended:
                if pass_index == 0:
                    region = self._key_value_region(tensor)
                self._attend_step(task, region, pass_index)
                if pass_index == passes[-1]:
                    self._outers(target, tile, region)

    def _place_over(self, convolution: Convolution, index: int) -> None:
        """A layer's place: that of its shortcut, if nobody reads that any more."""
        shortcut = convolution.requantizer.shortcut
        over = shortcut is not None and self.last_use[shortcut.source] == index
        self._place(convolution.target, shortcut.source if over and shortcut is not None else None)

    def _weight_words(self, convolution: Convolution) -> int:
        return PAIRS * self.words(convolution.target) * (1 if convolution.groups > 1 else self.words(convolution.source))

    # A layer, and the depthwise one behind it

    def _bands(self, convolution: Convolution, depthwise: Convolution) -> list[Band]:
        tensor = self.graph.tensors[convolution.target]
        total = self.words(convolution.target)
        if convolution.target in self._attention:
            size = ATTENTION_WORDS
        elif self.passes(tensor) >= 4 and self._weight_words(convolution) <= RESIDENT_WORDS // 2:
            size = total
        else:
            size = min(total, BAND_WORDS)
        return [self._band(tensor, depthwise, first, min(size, total - first)) for first in range(0, total, size)]

    def _band(self, tensor: Tensor, depthwise: Convolution, first: int, words: int) -> Band:
        pitch = tensor.width | 1
        fits = [lines for lines in range(1, tensor.height + 1) if -(-lines * pitch // RING_BANKS) * words <= self.config.ring_depth]
        lines = fits[-1] if fits else 0
        wraps = lines < tensor.height
        if wraps:
            lines = min(lines - lines % RING_BANKS, MOST_LINES)
        if lines < min(tensor.height, depthwise.kernel + depthwise.stride + 1):
            raise InputError(
                f"lines of {tensor.width} pixels and {WORD_CHANNELS * words} channels must fit a ring of {self.config.ring_depth} "
                "words a bank: they do not; use a deeper ring"
            )
        return Band(first, words, -1, lines, pitch, wraps)

    def _expanded(self, convolution: Convolution, depthwise: Convolution, index: int) -> None:
        """Each line pair of the depthwise layer follows the steps that make its input."""
        tensor = self.graph.tensors[convolution.target]
        attended = convolution.target in self._attention
        stay = attended or self.last_use[convolution.target] != self.graph.operators.index(depthwise)
        if stay:
            self._place(convolution.target)
        bands = self._bands(convolution, depthwise)
        follower = self._follower(depthwise) if len(bands) == 1 else None
        words = self.words(depthwise.target)
        passes = self.passes(self.graph.tensors[depthwise.target])
        self._place(depthwise.target, slots=None if follower is None else min(passes, max(8, DEPTH_WORDS // words)))
        if follower is not None:
            self._place_over(follower, self.graph.operators.index(follower))
        if convolution.kernel > 1:
            self._place_windows(convolution)
        for shape in bands:
            size = -(-shape.lines * shape.pitch // RING_BANKS) * shape.words
            band = Band(shape.first, shape.words, self.ring_regions.base(size), shape.lines, shape.pitch, shape.wraps)
            region = self._key_value_region(tensor) if attended else None
            self._layer, self._line_before = self._depth_layer(depthwise, band), None
            self._line_pairs(convolution, depthwise, band, follower, stay, region)
            if region is not None:
                self._outers(convolution.target, (band.first, band.words), region)
        if convolution.kernel > 1:
            self.rows.free(str(self._key(self._windows_name(convolution))))

    def _follower(self, depthwise: Convolution) -> Convolution | None:
        """The pointwise layer that alone reads a depthwise one's results, if its weights can stay."""
        readers = [operator for operator in self.graph.operators if depthwise.target in _sources(operator)]
        reader = readers[0]
        if len(readers) > 1 or not isinstance(reader, Convolution) or reader.groups > 1 or self._weight_words(reader) > RESIDENT_WORDS:
            return None
        self._followed.add(self.graph.operators.index(reader))
        return reader

    def _line_pairs(
        self, convolution: Convolution, depthwise: Convolution, band: Band, follower: Convolution | None, stay: bool, region: tuple | None
    ) -> None:
        tensor, out = self.graph.tensors[convolution.target], self.graph.tensors[depthwise.target]
        made = taken = 0
        for line in range(0, out.height, 2):
            last = min(tensor.height, self._last_line(depthwise, line, out) + 1)
            needed = -(-last * tensor.width // self.config.rows)
            for pass_index in range(made, needed):
                self._band_steps(convolution, band, pass_index, stay, region)
            made = max(made, needed)
            self._depth_lines(depthwise, band, line)
            if follower is not None:
                lines = min(out.height, line + 2)
                complete = self.passes(out) if lines == out.height else lines * out.width // self.config.rows
                for pass_index in range(taken, complete):
                    for tile in self._tiles(follower):
                        task = self._step(follower, tile, pass_index)
                        self._write_rows(task, follower.target, pass_index, tile)
                taken = complete
        for pass_index in range(made, self.passes(tensor)):
            self._band_steps(convolution, band, pass_index, stay, region)

    def _last_line(self, depthwise: Convolution, line: int, out: Tensor) -> int:
        lines = 2 if line + 1 < out.height else 1
        return depthwise.stride * (line + lines - 1) + depthwise.kernel // 2

    def _band_steps(self, convolution: Convolution, band: Band, pass_index: int, stay: bool, region: tuple | None) -> None:
        if convolution.kernel > 1:
            self._windows(convolution, pass_index)
        tensor = self.graph.tensors[convolution.target]
        per_word = PAIRS * (1 if convolution.kernel > 1 else self.words(convolution.source))
        size = max(1, TILE_WORDS // per_word)
        if region is not None:
            size = ATTENTION_WORDS
        for first in range(band.first, band.first + band.words, size):
            tile = (first, min(size, band.first + band.words - first))
            task = self._step(convolution, tile, pass_index)
            if stay:
                self._write_rows(task, convolution.target, pass_index, tile)
            pixel = pass_index * self.config.rows
            y, x = divmod(pixel, tensor.width)
            bank, address = band.place(x, y)
            task.payload |= {
                "ring": 1, "bank": bank, "address": address + tile[0] - band.first, "column": x, "width": tensor.width, "pitch": band.words,
                "lines_left": band.lines - y % band.lines if band.wraps else ENDLESS, "ring_words": band.ring_words,
            }  # fmt: skip
            count = self._pixels(tensor, pass_index)
            self.ring.write(self._ring_cells(band, tensor, np.arange(pixel, pixel + count), tile), task)
            if region is not None:
                self._attend_step(task, region, pass_index)

    def _ring_cells(self, band: Band, tensor: Tensor, pixels: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
        y, x = np.divmod(pixels, tensor.width)
        flat = y % band.lines * band.pitch + x
        addresses = band.base + flat // RING_BANKS * band.words
        words = np.arange(tile[0], tile[0] + tile[1]) - band.first
        return ((flat % RING_BANKS * self.config.ring_depth + addresses)[:, None] + words).ravel()

    def _depth_layer(self, depthwise: Convolution, band: Band) -> Task:
        """The command that line pairs of this band need before them: no task of its own, `schedule` says where it comes."""
        source, target = self.graph.tensors[depthwise.source], self.graph.tensors[depthwise.target]
        hardswish = depthwise.requantizer.hardswish
        task = self.add(
            Engine.DEPTH, Opcode.DEPTH_LAYER, depthwise.name, 8, kernel_5=depthwise.kernel == 5, stride_2=depthwise.stride == 2,
            width=source.width, words=band.words, half=source.channels <= PAIRS, pad=source.zero, zero=target.zero, low=target.limits.low,
            hardswish=hardswish is not None, fraction=0 if hardswish is None else hardswish.fraction - HARDSWISH_BASE,
            pitch=self.words(depthwise.target), **self._region(depthwise.target, band.first),
        )  # fmt: skip
        self.tasks.pop()
        order = self.orders[depthwise.source][band.first * WORD_CHANNELS : (band.first + band.words) * WORD_CHANNELS]
        if source.channels <= PAIRS:
            order = order[:PAIRS]
        channels = np.where(order == EMPTY, 0, order)
        weight = np.where((order == EMPTY)[:, None, None, None], 0, depthwise.weight[channels])
        name = f"{depthwise.name} words {band.first}..{band.first + band.words - 1}"

        def weights() -> Block:
            packed = pack_depth_weights(weight)
            return Block(f"{name} weights", packed, len(packed) // 256)

        def parameters() -> Block:
            chosen = _chosen(depthwise.requantizer, channels)
            packed = pack_depth_parameters(chosen, weight, int(source.zero), self.config.bits)
            return Block(f"{name} parameters", packed, len(packed) // 64)

        task.weights, task.parameters = self._block((name, "weights"), weights), self._block((name, "parameters"), parameters)
        return task

    def _region(self, name: str, word: int) -> dict[str, int]:
        """From the last pass that is kept, back to the first one."""
        first, last = (self._address(name, index, word) for index in (0, self.slots[name] - 1))
        return {"region_end": last, "rewind": (first - last) % (1 << depth_command.TARGET)}

    def _depth_lines(self, depthwise: Convolution, band: Band, line: int) -> None:
        source, target = self.graph.tensors[depthwise.source], self.graph.tensors[depthwise.target]
        half = source.channels <= PAIRS
        sweeps = 1 if half else 2 * band.words
        task = self.add(
            Engine.DEPTH, Opcode.DEPTH_LINES, depthwise.name, sweeps * depth_command.sweep_cycles(depthwise.kernel, source.width)
        )
        task.layer = self._layer
        if self._line_before is not None:
            task.after.add((self._line_before, Event.ORDER))
        self._line_before = task
        top = depthwise.stride * line - depthwise.kernel // 2
        second = line + 1 < target.height
        used = depthwise.kernel + (depthwise.stride if second else 0)
        lines = range(top, top + DEPTH_LINES)
        outside = [not (0 <= y < source.height and place < used) for place, y in enumerate(lines)]
        task.payload["outside"] = sum(bit << place for place, bit in enumerate(outside))
        for place, y in enumerate(lines):
            if not outside[place]:
                task.payload[f"bank_{place}"], task.payload[f"address_{place}"] = band.place(0, y)
                pixels = np.arange(y * source.width, (y + 1) * source.width)
                self.ring.read(self._ring_cells(band, source, pixels, (band.first, band.words)), task)
        task.payload["second"] = second
        name = depthwise.target
        for lane in range(1 + second):
            pixel = (line + lane) * target.width
            first, last = pixel // self.config.rows, (pixel + target.width - 1) // self.config.rows
            task.payload |= {f"row_{lane}": pixel % self.config.rows, f"target_{lane}": self._address(name, first, band.first)}
            for pass_index in range(first, last + 1):
                address = self._address(name, pass_index, band.first)
                self.cells.write(range(address, address + band.words), task, (self._key(name), pass_index))
        task.makes = ("lines", name, band.first, band.words, line)

    # The stem

    def _windows_name(self, convolution: Convolution) -> str:
        return f"{convolution.name} windows"

    def _place_windows(self, convolution: Convolution) -> None:
        name = self._windows_name(convolution)
        self.orders[name] = self.orders[self.graph.operators[0].source]
        self.slots[name] = min(WINDOW_PASSES, self.passes(self.graph.tensors[convolution.target]))
        if self.rows.place(str(self._key(name)), self.slots[name]) is None:
            raise InputError(f"windows of the image must fit {self.config.memory_words} words per row: they do not; use a smaller image")
        self._window_lines = 0

    def _windows(self, convolution: Convolution, pass_index: int) -> None:
        """WINDOWs up to the last line that a pass needs."""
        out, image = self.graph.tensors[convolution.target], self.graph.tensors[convolution.source]
        name, rows = self._windows_name(convolution), self.config.rows
        base = self.rows.base(str(self._key(name)))
        last = (min(out.pixels, (pass_index + 1) * rows) - 1) // out.width
        while self._window_lines <= last:
            lines = min(WINDOW_LINES, out.height - self._window_lines)
            pixel = self._window_lines * out.width
            end = pixel + lines * out.width - 1
            pads = np.broadcast_to(image.zero, (image.channels,)).tolist() + [0] * (3 - image.channels)
            task = self.add(
                Engine.WINDOW, Opcode.WINDOW, convolution.name, lines * (out.width + 3) + 12, first=pixel == 0, lines=lines,
                row=pixel % rows, address=self._address(name, pixel // rows), region=base, region_end=base + self.slots[name] - 1,
                **{f"pad_{channel}": pads[channel] for channel in range(3)},
            )  # fmt: skip
            for index in range(pixel // rows, end // rows + 1):
                self.cells.write([self._address(name, index)], task, (self._key(name), index))
            self._window_lines += lines

    # Attention

    def _key_value_region(self, tensor: Tensor) -> tuple:
        return self.key_values.take(self.passes(tensor) * self.config.groups * 2)

    def _attend_step(self, task: Task, region: tuple, pass_index: int) -> None:
        base, before, _ = region
        task.payload |= {"attention": 1, "key_value": base + pass_index * self.config.groups * 2}
        task.after |= {(other, Event.DONE) for other in before}
        region[2].add(task)

    def _outers(self, source: str, tile: tuple[int, int], region: tuple) -> None:
        """K^T V of the heads of one tile, as soon as all its pixels have come."""
        operator, index = self._attention[source]
        scale, tensor = operator.scales[index], self.graph.tensors[source]
        wide = operator.head_dim == WORD_CHANNELS
        per_word = 1 if wide else 2
        tile_index = tile[0] // ATTENTION_WORDS
        chunk, word = divmod(tile_index, SCORE_WORDS)
        states = self._state_of.setdefault((operator.name, index, self.number), [])
        total = tensor.channels // (3 * operator.head_dim) // per_word
        if word == 0:
            states.append((self.states.take(PAIRS * (1 + min(SCORE_WORDS, total - chunk * SCORE_WORDS))), []))
        (base, before, _), outers = states[chunk]
        steps = {task for task in region[2] if task.engine is Engine.ARRAY}
        region[2].clear()
        for number in range(per_word):
            head = tile_index * per_word + number
            multipliers = {
                "state_multiplier": scale.state_multiplier[head], "state_shift": REQUANTIZE_SHIFTS.index(int(scale.state_shift[head])),
                "sum_multiplier": scale.sum_multiplier[head], "sum_shift": REQUANTIZE_SHIFTS.index(int(scale.sum_shift[head])),
            }  # fmt: skip
            task = self.add(
                Engine.OUTER, Opcode.OUTER, operator.name, max(tensor.pixels * (8 if wide else 2), 288 if wide else 76),
                address=region[0] + number, stride=2, pixels=tensor.pixels, wide=wide, base=base,
                place=word * per_word + number, **multipliers,
            )  # fmt: skip
            task.after |= {(step, Event.COLLECTED) for step in steps} | {(step, Event.WRITTEN) for step in before}
            region[2].add(task)
            if number:  # the even head of a word clears the other's place
                task.after.add((outers[-1], Event.ORDER))
            outers.append(task)

    def _scores(self, operator: LinearAttention, index: int) -> None:
        """Quotients of all heads: grouped steps with the states as weights."""
        self._place(operator.target)
        target = self.graph.tensors[operator.target]
        done = 0
        for number, scale in enumerate(operator.scales):
            if scale.divisor.kind != "log2":
                raise InputError(f"divisors must be of kind log2: {scale.divisor.kind} is not done yet in the machine; quantize with log2")
            total = words_of(self.graph.tensors[scale.source].channels // 3)
            block = self._block((operator.name, number, "parameters"), partial(_score_block, operator.name, number, scale))
            for chunk, ((base, _, readers), outers) in enumerate(self._state_of.pop((operator.name, number, self.number))):
                words = min(SCORE_WORDS, total - chunk * SCORE_WORDS)
                for pass_index in range(self.passes(target)):
                    origin = self._address(scale.source, pass_index, chunk * SCORE_WORDS * ATTENTION_WORDS)
                    tile = (done + chunk * SCORE_WORDS, words)
                    task = self.add(
                        Engine.ARRAY, Opcode.STEP, operator.name, PAIRS * (1 + words), weight_address=base, source=origin,
                        source_stride=ATTENTION_WORDS, words=1, outputs=words, score=1, zero=target.zero, low=target.limits.low,
                        exponent_low=scale.divisor.low, pixels=self._pixels(target, pass_index),
                    )  # fmt: skip
                    self.cells.read([origin + ATTENTION_WORDS * word for word in range(words)], task, (self._key(scale.source), pass_index))
                    self._write_rows(task, operator.target, pass_index, tile)
                    task.parameters = block
                    task.after |= {(outer, Event.DONE) for outer in outers}
                    readers.add(task)
                    task.makes = ("step", operator.target, *tile, pass_index)
            done += total


def _score_block(name: str, number: int, scale: Scale) -> Block:
    return Block(f"{name} scale {number} parameters", pack.pack_parameters(pack.score_parameters(scale)), PAIRS)


def _sources(operator) -> list[str]:
    if isinstance(operator, LinearAttention):
        return [scale.source for scale in operator.scales]
    names = [operator.source]
    if isinstance(operator, Convolution) and operator.requantizer.shortcut is not None:
        names.append(operator.requantizer.shortcut.source)
    return names


def _chosen(requantizer, channels: np.ndarray):
    """A depthwise requantizer of some channels, in another order."""
    hardswish = requantizer.hardswish
    if hardswish is not None:
        hardswish = replace(
            hardswish, bias=hardswish.bias[channels], multiplier=hardswish.multiplier[channels], shift=hardswish.shift[channels]
        )
    return replace(
        requantizer, bias=requantizer.bias[channels], multiplier=requantizer.multiplier[channels], shift=requantizer.shift[channels],
        hardswish=hardswish,
    )  # fmt: skip
