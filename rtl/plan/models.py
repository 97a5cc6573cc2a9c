"""What the planner knows of a machine before it is built: predicted cycles (`rtl.plan.cycles`) and resources (`rtl.plan.resources`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtl.config import AcceleratorConfig
from rtl.flow.ddr import Memory
from rtl.flow.estimate import Resources
from rtl.flow.machine import Config
from rtl.flow.simulate import IMAGES_PER_RUN
from rtl.plan import cycles, resources

#: Images of an EfficientViT's program that show its period: of the second pair.
_PERIOD_IMAGES = 4


@dataclass(frozen=True, kw_only=True)
class PredictedModels:
    """network : bits -> graph, of which only shapes are read        memory : behind the machine"""

    network: Callable[[int], Any]
    memory: Memory

    def program(self, config: Config, images: int = IMAGES_PER_RUN) -> cycles.Prediction:
        """Of a program of so many images: by default, of as many as `simulate` puts into one."""
        return cycles.predict(self.network(config.bits), config, images, self.memory)

    def cycles_per_image(self, config: Config) -> float:
        """About that of a program of ``IMAGES_PER_RUN`` images, from a shorter one: a DeiT's pairs follow each other nearly without
        overlap (what there is makes the longer program up to 3 % faster), an EfficientViT's at a period that the second pair shows."""
        if isinstance(config, AcceleratorConfig):
            return self.program(config, config.images).cycles_per_image
        found = self.program(config, _PERIOD_IMAGES)
        assert found.cycles_per_further_image is not None
        return (found.cycles + (IMAGES_PER_RUN - _PERIOD_IMAGES) * found.cycles_per_further_image) / IMAGES_PER_RUN

    def bytes_per_image(self, config: Config) -> float:
        """From and to the memory, in the program of `cycles_per_image`."""
        found = self.program(config, config.images if isinstance(config, AcceleratorConfig) else _PERIOD_IMAGES)
        return found.ddr_bytes / found.images

    def resources(self, config: Config) -> Resources:
        return resources.predict(config)["total"]
