"""Predicted cycles of a network on a machine: what `plan` and the search ask. Both families, one answer.

Nothing is packed and no constant is looked at: a graph of `model.skeleton` gives the same prediction as one with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.efficientvit.graph import EfficientVitGraph
from model.graph import DeitGraph
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.program import compiler as efficientvit_compiler
from rtl.flow.ddr import Memory
from rtl.plan import deit_cycles, efficientvit_cycles
from rtl.program import compiler

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
    if isinstance(graph, DeitGraph):
        assert isinstance(config, AcceleratorConfig)
        instructions = compiler.outline(graph, config, images)
        found = deit_cycles.schedule(instructions, config, memory)
        period = None
    else:
        assert isinstance(config, EfficientVitMachine)
        instructions = efficientvit_compiler.outline(graph, config, images)
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
