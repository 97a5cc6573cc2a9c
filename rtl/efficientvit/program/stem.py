"""Windows of the image: the operands of the stem's convolution."""

from __future__ import annotations

import numpy as np

from model.efficientvit.graph import Convolution
from rtl.efficientvit.isa import Opcode
from rtl.efficientvit.program.steps import windows_name
from rtl.efficientvit.program.tasks import Engine
from rtl.efficientvit.program.workspace import Workspace

#: Output lines of one WINDOW, and passes whose windows are kept.
WINDOW_LINES, WINDOW_PASSES = 4, 32


class StemWindows:
    """The windows of one image for one convolution, as far as they have been asked for."""

    def __init__(self, workspace: Workspace, convolution: Convolution):
        self.workspace, self.convolution = workspace, convolution
        self.name, self._lines = windows_name(convolution), 0
        workspace.orders[self.name] = workspace.orders[convolution.source]
        workspace.place(self.name, min(WINDOW_PASSES, workspace.passes(workspace.graph.tensors[convolution.target])))

    def make(self, pass_index: int) -> None:
        """WINDOWs up to the last line that a pass needs."""
        out, rows = self.workspace.graph.tensors[self.convolution.target], self.workspace.config.rows
        last = (min(out.pixels, (pass_index + 1) * rows) - 1) // out.width
        while self._lines <= last:
            self._window(min(WINDOW_LINES, out.height - self._lines))

    def _window(self, lines: int) -> None:
        """The next lines."""
        workspace = self.workspace
        out, image = (workspace.graph.tensors[name] for name in (self.convolution.target, self.convolution.source))
        rows, pixel = workspace.config.rows, self._lines * out.width
        passes = range(pixel // rows, (pixel + lines * out.width - 1) // rows + 1)
        region, region_end = (workspace.address(self.name, slot) for slot in (0, workspace.slots(self.name) - 1))
        pads = np.broadcast_to(image.zero, (image.channels,)).tolist() + [0] * (3 - image.channels)
        task = workspace.add(
            Engine.WINDOW, Opcode.WINDOW, self.convolution.name, lines * (out.width + 3) + 12, first=pixel == 0, lines=lines,
            row=pixel % rows, address=workspace.address(self.name, passes[0]), region=region, region_end=region_end,
            **{f"pad_{channel}": pads[channel] for channel in range(3)},
        )  # fmt: skip
        for pass_index in passes:
            workspace.write(task, self.name, pass_index)
        self._lines += lines
