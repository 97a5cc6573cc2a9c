"""Layers whose results stay in their rows, or go to the pool."""

from __future__ import annotations

from model.efficientvit.graph import Convolution
from rtl.efficientvit.program.attention import AttentionTasks
from rtl.efficientvit.program.head import HeadTasks
from rtl.efficientvit.program.steps import Steps
from rtl.efficientvit.program.workspace import Workspace

#: A layer whose weights are more than this is run tile by tile, not pass by pass.
RESIDENT_WORDS = 4096


class PointwiseLayers:
    def __init__(self, workspace: Workspace, steps: Steps, attention: AttentionTasks, head: HeadTasks):
        self.workspace, self.steps, self.attention, self.head = workspace, steps, attention, head

    def pooled(self, convolution: Convolution) -> None:
        """Results go to the pool alone."""
        for tile in self.steps.all_tiles(convolution):
            for pass_index in range(self.workspace.passes(self.workspace.graph.tensors[convolution.target])):
                self.head.pool_step(self.steps.step(convolution, tile, pass_index, write=False), tile[0], pass_index)

    def attended(self, convolution: Convolution, index: int) -> None:
        """Attention's second scale: k and v go to the key/value memory too."""
        tensor = self.workspace.graph.tensors[convolution.target]
        self.workspace.place_result(convolution, index)
        for tile in self.steps.all_tiles(convolution):
            region = self.attention.key_value_region(tensor)
            for pass_index in range(self.workspace.passes(tensor)):
                self.attention.collect(self.steps.step(convolution, tile, pass_index, write=True), region, pass_index)
            self.attention.outers(convolution.target, tile, region)

    def layer(self, convolution: Convolution, index: int) -> None:
        """Any other one. ``index``: of the operator."""
        self.workspace.place_result(convolution, index)
        tiles = self.steps.all_tiles(convolution)
        passes = range(self.workspace.passes(self.workspace.graph.tensors[convolution.target]))
        if self.steps.weight_words(convolution) > RESIDENT_WORDS:
            order = [(tile, pass_index) for tile in tiles for pass_index in passes]
        else:
            order = [(tile, pass_index) for pass_index in passes for tile in tiles]
        for tile, pass_index in order:
            self.steps.step(convolution, tile, pass_index, write=True)
