"""The configurations of a row's units, and the timing that follows from their latencies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rtl.config import AcceleratorConfig
from rtl.row_bus import RowTiming, statistics_token_bits
from rtl.tech import dsp48e2
from rtl.units.accumulate import Accumulate, AccumulateConfig
from rtl.units.layernorm import LayerNormNormalize, LayerNormNormalizeConfig
from rtl.units.layernorm_statistics import LayerNormStatisticsConfig
from rtl.units.lookup import LookupConfig
from rtl.units.requantize import Requantize, RequantizeConfig
from rtl.units.residual import Residual, ResidualConfig
from rtl.units.xnor_matmul import STRATEGIES, XnorMatmulConfig

#: Magnitude of the largest patch weight: 8 planes.
PATCH_WEIGHT = 255

#: Name -> what tables, adders and multipliers are made of.
TECHNOLOGIES = {"generic": dsp48e2.generic, "ultrascale": dsp48e2.ultrascale}


@dataclass(frozen=True)
class RowUnits:
    """Builds every unit's configuration from the accelerator's."""

    config: AcceleratorConfig

    @property
    def technology(self) -> object:
        return TECHNOLOGIES[self.config.technology]

    @cached_property
    def xnor_matmul(self) -> XnorMatmulConfig:
        return XnorMatmulConfig(
            inputs=self.config.inputs, bits=self.config.bits, strategy=STRATEGIES[self.config.strategy](technology=self.technology)
        )

    @cached_property
    def accumulate(self) -> AccumulateConfig:
        """Layers that take several K-tiles: FC2, and long patches, whose weights have 8 planes."""
        shape, activation = self.config.shape, (1 << self.config.bits) - 1
        hidden = shape.hidden_dim if shape.hidden_dim > self.config.hidden_tile else 0
        patch = shape.patch_dim if shape.patch_dim > self.config.inputs else 0
        return AccumulateConfig(
            inputs=self.config.inputs,
            bits=self.config.bits,
            channels=shape.embed_dim,
            passes=self.config.passes,
            largest=max(hidden * activation, patch * activation * PATCH_WEIGHT),
            technology=self.technology,
        )

    @cached_property
    def requantize(self) -> RequantizeConfig:
        return RequantizeConfig(bits=self.config.bits, technology=self.technology)

    @cached_property
    def table(self) -> LookupConfig:
        return LookupConfig(latency=1)

    @cached_property
    def residual(self) -> ResidualConfig:
        return ResidualConfig(choices=self.config.passes, technology=self.technology)

    @cached_property
    def statistics(self) -> LayerNormStatisticsConfig:
        tokens = 1 << statistics_token_bits(self.config)
        return LayerNormStatisticsConfig(embed_dim=self.config.shape.embed_dim, tokens=tokens, technology=self.technology)

    @cached_property
    def normalize(self) -> LayerNormNormalizeConfig:
        return LayerNormNormalizeConfig(bits=self.config.bits, choices=self.config.passes, technology=self.technology)

    @cached_property
    def timing(self) -> RowTiming:
        """Stage offsets; `rtl.row` is laid out by them."""
        assert self.table.latency == Residual.latency == 1
        normalize = LayerNormNormalize.OFFSETS
        value = 1  # residual memory
        fill_write = value + LayerNormNormalize.latency
        dot = self.xnor_matmul.latency - 1
        operands = dot + Accumulate.latency
        result = operands + Requantize.latency
        return RowTiming(
            fill_statistics=value + normalize["minus_mean2"],
            fill_gamma=value + normalize["gamma"],
            fill_activation=fill_write - 1,
            fill_write=fill_write,
            compute_delay=fill_write + self.xnor_matmul.fill_lead - 1,
            plane=dot + Accumulate.OFFSETS["plane_first"],
            bias=operands + Requantize.OFFSETS["bias"],
            multiplier=operands + Requantize.OFFSETS["multiplier"],
            shift=operands + Requantize.OFFSETS["shift"],
            limits=operands + Requantize.OFFSETS["limits"],
            residual=result + self.residual.offsets["select"],
            result=result,
            write=result + 1,
            finish=self.statistics.finish_latency,
        )
