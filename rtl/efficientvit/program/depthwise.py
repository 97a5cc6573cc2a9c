"""Commands of the depthwise engine: a layer's, and its line pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.efficientvit.graph import Convolution, Requantizer, Tensor
from rtl.efficientvit import depth_command
from rtl.efficientvit.isa import HARDSWISH_BASE, PAIRS, WORD_CHANNELS, Opcode
from rtl.efficientvit.program.layout import EMPTY
from rtl.efficientvit.program.pack_depthwise import BEAT_BYTES, WORD_BYTES, pack_parameters, pack_weights, weight_words
from rtl.efficientvit.program.ring import Band, Ring
from rtl.efficientvit.program.tasks import Block, Engine, Event, Task
from rtl.efficientvit.program.workspace import Workspace
from rtl.units.depthwise_parameters import QUARTERS

#: Input lines that a DEPTH_LINES names.
DEPTH_LINES = 7
LAYER_CYCLES = 8


class DepthwiseBand:
    """A depthwise layer on one band of its input. ``source``, ``target``: its tensors."""

    def __init__(self, workspace: Workspace, ring: Ring, depthwise: Convolution, band: Band):
        self.workspace, self.ring, self.depthwise, self.band = workspace, ring, depthwise, band
        self.source, self.target = (workspace.graph.tensors[name] for name in (depthwise.source, depthwise.target))
        self._layer = self._layer_command()
        self._before: Task | None = None

    @property
    def _half(self) -> bool:
        """The input fills half a word."""
        return self.source.channels <= PAIRS

    def input_lines(self, line: int) -> int:
        """Lines of the input, from the first one on, that the line pair from ``line`` on needs."""
        lines = 2 if line + 1 < self.target.height else 1
        return min(self.source.height, self.depthwise.stride * (line + lines - 1) + self.depthwise.kernel // 2 + 1)

    def line_pair(self, line: int) -> None:
        """Output lines ``line`` and the next one, if there is one."""
        depthwise, band = self.depthwise, self.band
        sweeps = 1 if self._half else 2 * band.words
        cycles = sweeps * depth_command.sweep_cycles(depthwise.kernel, self.source.width)
        task = self.workspace.add(Engine.DEPTH, Opcode.DEPTH_LINES, depthwise.name, cycles)
        task.layer = self._layer
        if self._before is not None:
            task.after.add((self._before, Event.ORDER))
        self._before = task
        second = line + 1 < self.target.height
        self._read_lines(task, line, second)
        task.payload["second"] = second
        for lane in range(1 + second):
            self._write_line(task, line + lane, lane)
        task.makes = ("lines", depthwise.target, band.first, band.words, line)

    def _read_lines(self, task: Task, line: int, second: bool) -> None:
        depthwise = self.depthwise
        top = depthwise.stride * line - depthwise.kernel // 2
        used = depthwise.kernel + (depthwise.stride if second else 0)
        for place, y in enumerate(range(top, top + DEPTH_LINES)):
            if 0 <= y < self.source.height and place < used:
                task.payload[f"bank_{place}"], task.payload[f"address_{place}"] = self.band.place(0, y)
                self.ring.read(task, self.band, self.source, y)
            else:
                task.payload["outside"] |= 1 << place

    def _write_line(self, task: Task, line: int, lane: int) -> None:
        name, rows, width = self.depthwise.target, self.workspace.config.rows, self.target.width
        pixel = line * width
        passes = range(pixel // rows, (pixel + width - 1) // rows + 1)
        addresses = [self.workspace.write(task, name, pass_index, *self.band.tile) for pass_index in passes]
        task.payload |= {f"row_{lane}": pixel % rows, f"target_{lane}": addresses[0]}

    def _layer_command(self) -> Task:
        """What line pairs of this band need before them: no task of its own, `schedule` says where it comes."""
        workspace, depthwise, band = self.workspace, self.depthwise, self.band
        source, target, hardswish = self.source, self.target, depthwise.requantizer.hardswish
        task = workspace.task(
            Engine.DEPTH, Opcode.DEPTH_LAYER, depthwise.name, LAYER_CYCLES, kernel_5=depthwise.kernel == 5, stride_2=depthwise.stride == 2,
            width=source.width, words=band.words, half=self._half, pad=source.zero, zero=target.zero, low=target.limits.low,
            hardswish=hardswish is not None, fraction=0 if hardswish is None else hardswish.fraction - HARDSWISH_BASE,
            pitch=workspace.words(depthwise.target), **self._region(),
        )  # fmt: skip
        task.weights, task.parameters = self._blocks(source)
        return task

    def _region(self) -> dict[str, int]:
        """From the last pass that is kept, back to the first one."""
        name, slots = self.depthwise.target, self.workspace.slots(self.depthwise.target)
        first, last = (self.workspace.address(name, slot, self.band.first) for slot in (0, slots - 1))
        return {"region_end": last, "rewind": (first - last) % (1 << depth_command.TARGET)}

    def _blocks(self, source: Tensor) -> tuple[Block, Block]:
        """Weights and parameters."""
        workspace, depthwise, (first, words) = self.workspace, self.depthwise, self.band.tile
        channels = PAIRS if self._half else words * WORD_CHANNELS
        name = f"{depthwise.name} words {first}..{first + words - 1}"

        def chosen() -> tuple[np.ndarray, np.ndarray]:
            """Channels in the order of their places, and their weights; where a place is empty, any channel and no weight."""
            order = workspace.orders[depthwise.source][first * WORD_CHANNELS :][:channels]
            found = np.where(order == EMPTY, 0, order)
            return found, np.where((order == EMPTY)[:, None, None, None], 0, depthwise.weight[found])

        def weights() -> bytes:
            return pack_weights(chosen()[1])

        def parameters() -> bytes:
            found, weight = chosen()
            return pack_parameters(_chosen(depthwise.requantizer, found), weight, int(source.zero), workspace.config.bits)

        kept = weight_words(channels, depthwise.kernel)
        return (
            workspace.block((name, "weights"), lambda: Block(f"{name} weights", kept, kept * WORD_BYTES, weights)),
            workspace.block(
                (name, "parameters"),
                lambda: Block(f"{name} parameters", channels // QUARTERS, channels * BEAT_BYTES, parameters),
            ),
        )


def _chosen(requantizer: Requantizer, channels: np.ndarray) -> Requantizer:
    """That of some channels, in another order."""
    hardswish = requantizer.hardswish
    if hardswish is not None:
        hardswish = replace(
            hardswish, bias=hardswish.bias[channels], multiplier=hardswish.multiplier[channels], shift=hardswish.shift[channels]
        )
    return replace(
        requantizer, bias=requantizer.bias[channels], multiplier=requantizer.multiplier[channels], shift=requantizer.shift[channels],
        hardswish=hardswish,
    )  # fmt: skip
