"""A layer, the depthwise one behind it, and the layer behind that, line by line: what is between them is never whole."""

from __future__ import annotations

from model.efficientvit.graph import Convolution
from rtl.efficientvit.program.attention import AttentionTasks
from rtl.efficientvit.program.depthwise import DepthwiseBand
from rtl.efficientvit.program.layout import ATTENTION_WORDS
from rtl.efficientvit.program.memories import Region
from rtl.efficientvit.program.pointwise import RESIDENT_WORDS
from rtl.efficientvit.program.ring import Band, Ring
from rtl.efficientvit.program.stem import StemWindows
from rtl.efficientvit.program.steps import Steps
from rtl.efficientvit.program.workspace import Workspace

#: Words of a band where a depthwise layer has few passes, so that it overlaps with what makes its input.
BAND_WORDS = 4
#: A layer of at least so many passes, with weights that stay, needs no bands.
MANY_PASSES = 4
#: Words per row, and passes at least, for what a depthwise layer has made and the next layer has not taken yet.
DEPTH_WORDS, DEPTH_PASSES = 128, 8


class ExpansionLayers:
    def __init__(self, workspace: Workspace, steps: Steps, attention: AttentionTasks):
        self.workspace, self.steps, self.attention = workspace, steps, attention
        self.ring = Ring(workspace.config.ring_depth)
        self.followed: set[int] = set()  # operators that are done with the depthwise layer before them

    def layer(self, convolution: Convolution, depthwise: Convolution) -> None:
        """Each line pair of the depthwise layer follows the steps that make its input."""
        workspace, operators = self.workspace, self.workspace.graph.operators
        attended = convolution.target in workspace.readers.attention
        stay = attended or workspace.readers.last_use[convolution.target] != operators.index(depthwise)
        if stay:
            workspace.place(convolution.target)
        bands = self._bands(convolution, depthwise)
        follower = self._follower(depthwise) if len(bands) == 1 else None
        self._place_depthwise(depthwise, follower)
        windows = StemWindows(workspace, convolution) if convolution.kernel > 1 else None
        for band in bands:
            region = self.attention.key_value_region(workspace.graph.tensors[convolution.target]) if attended else None
            source = _Source(self, convolution, band, windows, region, stay)
            self._line_pairs(source, DepthwiseBand(workspace, self.ring, depthwise, band), follower)
            if region is not None:
                self.attention.outers(convolution.target, band.tile, region)
        if windows is not None:
            workspace.free(windows.name)

    def _bands(self, convolution: Convolution, depthwise: Convolution) -> list[Band]:
        workspace, name = self.workspace, convolution.target
        tensor, total = workspace.graph.tensors[name], workspace.words(name)
        if name in workspace.readers.attention:
            size = ATTENTION_WORDS
        elif workspace.passes(tensor) >= MANY_PASSES and self.steps.weight_words(convolution) <= RESIDENT_WORDS // 2:
            size = total
        else:
            size = min(total, BAND_WORDS)
        return [self.ring.band(tensor, depthwise, first, min(size, total - first)) for first in range(0, total, size)]

    def _follower(self, depthwise: Convolution) -> Convolution | None:
        """The pointwise layer that alone reads a depthwise one's results, if its weights can stay."""
        readers = self.workspace.readers.of(depthwise.target)
        reader = readers[0]
        if len(readers) > 1 or not isinstance(reader, Convolution) or reader.groups > 1 or self.steps.weight_words(reader) > RESIDENT_WORDS:
            return None
        self.followed.add(self.workspace.graph.operators.index(reader))
        return reader

    def _place_depthwise(self, depthwise: Convolution, follower: Convolution | None) -> None:
        """Places for the depthwise layer's results, all of them or those that its follower has not taken yet, and for the follower's."""
        workspace, name = self.workspace, depthwise.target
        if follower is None:
            workspace.place(name)
            return
        passes = workspace.passes(workspace.graph.tensors[name])
        workspace.place(name, min(passes, max(DEPTH_PASSES, DEPTH_WORDS // workspace.words(name))))
        workspace.place_result(follower, workspace.graph.operators.index(follower))

    def _line_pairs(self, source: _Source, depthwise: DepthwiseBand, follower: Convolution | None) -> None:
        out, taken = depthwise.target, 0
        for line in range(0, out.height, 2):
            source.make(depthwise.input_lines(line))
            depthwise.line_pair(line)
            if follower is not None:
                lines = min(out.height, line + 2)
                complete = self.workspace.passes(out) if lines == out.height else lines * out.width // self.workspace.config.rows
                for pass_index in range(taken, complete):
                    for tile in self.steps.all_tiles(follower):
                        self.steps.step(follower, tile, pass_index, write=True)
                taken = complete
        source.make(source.tensor.height)


class _Source:
    """The layer in front, of one band: the passes made so far. ``stay``: its results stay in their rows, too."""

    def __init__(
        self, layers: ExpansionLayers, convolution: Convolution, band: Band, windows: StemWindows | None, region: Region | None, stay: bool
    ):
        self.layers, self.convolution, self.band, self.windows, self.region, self.stay = layers, convolution, band, windows, region, stay
        self.tensor = layers.workspace.graph.tensors[convolution.target]
        self._made = 0

    def make(self, lines: int) -> None:
        """The passes of the first ``lines`` lines, as far as they are not there."""
        needed = -(-lines * self.tensor.width // self.layers.workspace.config.rows)
        for pass_index in range(self._made, needed):
            self._pass(pass_index)
        self._made = max(self._made, needed)

    def _pass(self, pass_index: int) -> None:
        workspace, steps = self.layers.workspace, self.layers.steps
        if self.windows is not None:
            self.windows.make(pass_index)
        pixel = pass_index * workspace.config.rows
        pixels = range(pixel, pixel + workspace.pixels(self.tensor, pass_index))
        for tile in steps.tiles(self.convolution, *self.band.tile):
            task = steps.step(self.convolution, tile, pass_index, write=self.stay)
            task.payload |= self.band.step_fields(self.tensor, pixel, tile[0])
            self.layers.ring.write(task, self.band, self.tensor, pixels, tile)
            if self.region is not None:
                self.layers.attention.collect(task, self.region, pass_index)
