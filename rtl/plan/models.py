"""What the planner knows of a machine before it is built: predicted cycles (`rtl.plan.cycles`) and resources (`rtl.plan.resources`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rtl.config import AcceleratorConfig
from rtl.flow.ddr import Memory
from rtl.flow.estimate import Resources
from rtl.flow.machine import Config, with_bits
from rtl.flow.simulate import IMAGES_PER_RUN
from rtl.plan import cycles, resources
from rtl.plan.cycles import Prediction

#: Images of an EfficientViT's programs from which a longer one follows: one pair, and two.
_SHORT, _LONG = 2, 4
#: Instructions of the longer one up to which the whole program is predicted: that is little work, and small networks wait for their heads.
_FEW = 4000
#: Of the network whose program is predicted.
_BITS = 8


@dataclass(frozen=True, kw_only=True)
class PredictedModels:
    """network : bits -> graph, of which only shapes are read        memory : behind the machine"""

    network: Callable[[int], Any]
    memory: Memory
    _programs: dict[tuple[Any, tuple[int, ...]], list[Prediction]] = field(default_factory=dict)

    def program(self, config: Config) -> Prediction:
        """Of as many images as `simulate` puts into a program. A large EfficientViT's pairs follow each other at one distance, so that
        programs of one and of two pairs tell what more of them take."""
        if isinstance(config, AcceleratorConfig):
            return self._predicted(config, IMAGES_PER_RUN)[0]
        short, long = self._predicted(config, _SHORT, _LONG)
        if long.instructions <= _FEW:
            return self._predicted(config, IMAGES_PER_RUN)[0]
        more = (IMAGES_PER_RUN - _LONG) / (_LONG - _SHORT)

        def longer(one: float, two: float) -> int:
            return round(two + more * (two - one))

        return Prediction(
            cycles=longer(short.cycles, long.cycles),
            images=IMAGES_PER_RUN,
            cycles_per_further_image=(long.cycles - short.cycles) / (_LONG - _SHORT),
            account={name: longer(short.account[name], long.account[name]) for name in long.account},
            ddr_bytes=longer(short.ddr_bytes, long.ddr_bytes),
            instructions=longer(short.instructions, long.instructions),
        )

    def cycles_per_image(self, config: Config) -> float:
        """In the program of `program`; a DeiT's from a program of one pair, up to 3 % slower, as its pixels come behind nothing."""
        if isinstance(config, AcceleratorConfig):
            return self._predicted(config, config.images)[0].cycles_per_image
        return self.program(config).cycles_per_image

    def bytes_per_image(self, config: Config) -> float:
        """From and to the memory, in the program of `cycles_per_image`."""
        found = self._predicted(config, config.images)[0] if isinstance(config, AcceleratorConfig) else self.program(config)
        return found.ddr_bytes / found.images

    def resources(self, config: Config) -> Resources:
        return resources.predict(config)["total"]

    def _predicted(self, config: Config, *images: int) -> list[Prediction]:
        """A program for each number of images. A precision changes cycles by a few in a million (latencies): one prediction serves all."""
        config = with_bits(config, _BITS)
        key = config, images
        if key not in self._programs:
            self._programs[key] = cycles.predictions(self.network(_BITS), config, images, self.memory)
        return self._programs[key]
