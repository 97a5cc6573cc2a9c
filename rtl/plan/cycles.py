"""Predicted cycles of a network on a machine: what `plan` and the search ask. Both families, one answer.

Nothing is packed and no constant is looked at: a graph of `model.skeleton` gives the same prediction as one with weights.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from model.efficientvit.graph import EfficientVitGraph
from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.program import compiler as efficientvit_compiler
from rtl.flow.ddr import Memory
from rtl.plan import deit_cycles, efficientvit_cycles
from rtl.program import compiler
from rtl.program.instruction import Instruction

Graph = DeitGraph | EfficientVitGraph
Config = AcceleratorConfig | EfficientVitMachine


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One program, from its start to its END, as the accelerator's cycle counter counts.

    cycles : of all images        images : of the program        ddr_bytes : that it moves        instructions : of the program
    cycles_per_further_image : distance of images in a stream; None where images go in pairs or a program has too few of them
    account : where the cycles go, by the names of the accelerator's own account; their sum is ``cycles``
    """

    cycles: int
    images: int
    cycles_per_further_image: float | None
    account: Mapping[str, int]
    ddr_bytes: int
    instructions: int

    @property
    def cycles_per_image(self) -> float:
        return self.cycles / self.images


def predict(graph: Graph, config: Config, images: int, memory: Memory = Memory()) -> Prediction:
    """The program of ``images`` images of ``graph`` on the machine ``config`` with ``memory`` behind it.

    Raises
    ------
    InputError : the network does not fit the machine
    """
    return predictions(graph, config, (images,), memory)[0]


def predictions(graph: Graph, config: Config, images: Sequence[int], memory: Memory) -> list[Prediction]:
    """As `predict`, of several programs. An EfficientViT's are of whole pairs of images, but for the longest."""
    with _no_search_for_circles():
        if isinstance(graph, DeitGraph):
            assert isinstance(config, AcceleratorConfig)
            programs = compiler.outlines(graph, config, images)
        else:
            assert isinstance(config, EfficientVitMachine)
            programs = efficientvit_compiler.outlines(graph, config, images)
        return [_scheduled(program, config, count, memory) for program, count in zip(programs, images, strict=True)]


@contextmanager
def _no_search_for_circles() -> Iterator[None]:
    """Tasks and instructions come by the ten thousand, none refers to itself through others, and Python's search for those that do takes a
    quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _scheduled(instructions: Sequence[Instruction], config: Config, images: int, memory: Memory) -> Prediction:
    if isinstance(config, AcceleratorConfig):
        found, period = deit_cycles.schedule(instructions, config, memory), None
    else:
        found = efficientvit_cycles.schedule(instructions, config, memory)
        period = _period(found.stored)
    return Prediction(
        cycles=found.cycles,
        images=images,
        cycles_per_further_image=period,
        account=found.account,
        ddr_bytes=found.bytes_moved,
        instructions=len(instructions),
    )


def _period(stored: Sequence[float]) -> float | None:
    """As `rtl.flow.simulate.SimulationResult.cycles_per_further_image`."""
    ends = stored[1::2]
    return (ends[-2] - ends[0]) / (2 * (len(ends) - 2)) if len(ends) >= 3 else None
