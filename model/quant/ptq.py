"""Post-training quantization of EfficientViT after Trio-ViT (papers/trio_vit.md, section 2): calibration in, `Quantization` out.

Channel-wise migration at the inputs of every MBConv's depthwise convolution, filter-wise shifting at those of its second pointwise one,
log2 divisors in the attention, symmetric weights per output channel, activations per tensor; each can be switched off on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.efficientvit.graph import IMAGE, LOGITS
from model.efficientvit.integer import DIVISOR_KINDS, WIDE, image_scale
from model.errors import InputError
from model.quant import representable
from model.quant.attention_scales import check_divisors, scale_quantization
from model.quant.calibration import Batches, Calibration, Extent, Histogram, transformed_histograms
from model.quant.folded import FoldedAttention, FoldedConvolution, FoldedLayerNorm, FoldedNetwork, FoldedOperator, FoldedPool
from model.quant.quantization import ConvolutionQuantization, Quantization, TensorQuantization, round_half_up
from model.quant.ranges import RANGES, activation_scale, format_of, nearest_weight, weight_scale, zero_of

#: Bounds of a migration factor, and the part of the tensor below its typical maximum (2.3).
MIGRATION_LOW, MIGRATION_HIGH, MIGRATION_QUANTILE = 0.1, 64.0, 0.99
#: The largest magnitude seen in calibration lands at this part of the 16-bit range.
WIDE_HEADROOM = 2
CONSTANT_CHANNELS = ("refuse", "keep")


@dataclass(frozen=True, kw_only=True)
class Techniques:
    """What to use. Raises InputError for a value out of range.

    bits, weight_bits : 4..8
    migration, shifting : channel-wise migration (2.3), filter-wise shifting (2.4)
    divisor : of the attention, see `model.efficientvit.graph.Divisor`
    symmetric : activations evenly about 0; else from their least to their greatest value. What feeds attention is symmetric always
    activation_range, weight_range : "mse", the range that costs least; "minmax", all of it
    constant_channels : "refuse" a migrated or shifted tensor with a channel that has one value on all images, or "keep" it
    """

    bits: int = 8
    weight_bits: int = 8
    migration: bool = True
    shifting: bool = True
    divisor: str = "log2"
    symmetric: bool = False
    activation_range: str = "mse"
    weight_range: str = "minmax"
    constant_channels: str = "refuse"

    def __post_init__(self) -> None:
        for name in ("bits", "weight_bits"):
            if not 4 <= getattr(self, name) <= 8:
                raise InputError(f"{name} must be 4..8: {getattr(self, name)} is not; choose 8, 6 or 4")
        choices = {"divisor": DIVISOR_KINDS, "activation_range": RANGES, "weight_range": RANGES, "constant_channels": CONSTANT_CHANNELS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}: {getattr(self, name)!r} is not; choose one of these")


def migrated_tensors(folded: FoldedNetwork) -> list[str]:
    """Inputs of the depthwise convolutions of MBConvs."""
    return [operator.target for operator in folded.operators if operator.name.endswith(".inverted_conv")]


def shifted_tensors(folded: FoldedNetwork) -> list[str]:
    """Inputs of the second pointwise convolutions of MBConvs; not of the stem's, which has no migration either."""
    names = [operator.target for operator in folded.operators if operator.name.endswith(".depth_conv")]
    return [name for name in names if not name.startswith("stem.")]


def migration_factors(extent: Extent, histogram: Histogram) -> Tensor:
    """(channels,): each channel's largest value over the tensor's typical one, within bounds."""
    typical = max(histogram.quantile(MIGRATION_QUANTILE), float(extent.high.mean()))
    if typical <= 0:
        return torch.ones_like(extent.high)
    return (extent.high / typical).clamp(MIGRATION_LOW, MIGRATION_HIGH)


def channel_centres(extent: Extent) -> Tensor:
    """(channels,): the middle of each channel's range."""
    return (extent.high + extent.low) / 2


def check_channels(name: str, extent: Extent) -> None:
    """Raises InputError where a channel has one value on all calibration images: what would be derived from its range is arbitrary."""
    constant = torch.nonzero(extent.low == extent.high).flatten().tolist()
    if constant:
        listed = ", ".join(map(str, constant[:8])) + (", ..." if len(constant) > 8 else "")
        raise InputError(
            f"channels must vary over the calibration images: {len(constant)} of {len(extent.low)} of {name} do not ({listed}); "
            "give more varied images or keep them: --constant-channels keep"
        )


def transforms_of(folded: FoldedNetwork, calibration: Calibration, techniques: Techniques) -> dict[str, tuple[Tensor, Tensor]]:
    """(migration, centre) of every tensor that has them."""
    migrated = migrated_tensors(folded) if techniques.migration else []
    shifted = shifted_tensors(folded) if techniques.shifting else []
    transforms = {}
    for name in (*migrated, *shifted):
        extent = calibration.extents[name]
        if techniques.constant_channels == "refuse":
            check_channels(name, extent)
        one, nothing = torch.ones_like(extent.high), torch.zeros_like(extent.high)
        factors = migration_factors(extent, calibration.histograms[name]) if name in migrated else one
        transforms[name] = factors, channel_centres(extent) if name in shifted else nothing
    return transforms


def wide_scale(extent: Extent) -> float:
    """Of a tensor of s16."""
    return WIDE_HEADROOM * float(torch.maximum(extent.high, -extent.low).max()) / WIDE.high


def bias_of(operator: FoldedConvolution, source: TensorQuantization, integers: Tensor, scale: Tensor) -> Tensor:
    """(outputs,) real: the folded bias, and what the source's centres add through the quantized weights, in whole units of the sums."""
    real = integers.double() * scale[:, None, None, None]
    shifted = (real * representable.per_input(source.centre / source.migration, operator)).sum((1, 2, 3))
    products = source.scale * scale
    return round_half_up((operator.bias.double() + shifted) / products) * products


class _Quantizer:
    """Walks the operators in order: what an operator makes of its input's scale bounds its output's, see ``representable``."""

    def __init__(self, folded: FoldedNetwork, calibration: Calibration, techniques: Techniques, batches: Batches):
        self.folded, self.calibration, self.techniques = folded, calibration, techniques
        self.transforms = transforms_of(folded, calibration, techniques)
        self.histograms = calibration.histograms | transformed_histograms(folded, batches, calibration, self.transforms)
        self.operands = {source for operator in folded.operators if isinstance(operator, FoldedAttention) for source in operator.sources}
        self.wide = {LOGITS} | {operator.source for operator in folded.operators if isinstance(operator, FoldedLayerNorm)}
        self.result = Quantization(
            folded=folded, bits=techniques.bits, weight_bits=techniques.weight_bits, tensors={IMAGE: self.image()}, convolutions={},
            attentions={}, norms={},
        )  # fmt: skip

    def image(self) -> TensorQuantization:
        """The upper bits of bytes; the zero point is the mean pixel's code, and the centre what rounding it takes away. A code stands for
        the mean of its pixels."""
        bits = self.techniques.bits
        step, first = image_scale(bits)
        mean = 255 * torch.tensor(self.folded.config.mean, dtype=torch.float64) - first
        zero = round_half_up(mean / step)
        side, centre = self.folded.config.image_size, zero * step - mean
        return TensorQuantization(
            scale=float(step), zero=zero, migration=torch.ones_like(mean), centre=centre, low=0, high=(1 << bits) - 1, size=(side, side)
        )

    def tensor(self, name: str, least: float = 0.0, gated: int | None = None) -> TensorQuantization:
        """least : bound of the scale from below. gated : Hardswish's fraction, where that makes the tensor."""
        extent, bits = self.calibration.extents[name], self.techniques.bits
        one, nothing = torch.ones_like(extent.high), torch.zeros_like(extent.high)
        if name in self.wide:
            scale, limits = max(wide_scale(extent), least), (WIDE.low, WIDE.high)
            return self.checked(name, scale, nothing, one, nothing, limits)
        symmetric = self.techniques.symmetric or name in self.operands
        scale, low = activation_scale(self.histograms[name], bits, symmetric, self.techniques.activation_range)
        migration, centre = self.transforms.get(name, (one, nothing))
        scale = max(scale, least)
        if gated is not None:
            scale, migration = representable.gated(scale, migration, gated)
            centre = representable.whole_centre(centre, gated)
        zero = nothing + zero_of(low, scale, bits, symmetric)
        return self.checked(name, scale, zero, migration, centre, format_of(bits, symmetric))

    def checked(
        self, name: str, scale: float, zero: Tensor, migration: Tensor, centre: Tensor, limits: tuple[int, int]
    ) -> TensorQuantization:
        extent = self.calibration.extents[name]
        if not bool((extent.low < 0).any() | (extent.high > 0).any()):
            raise InputError(f"a tensor must vary over the calibration images: {name} is 0 on all of them; give other images or weights")
        return TensorQuantization(
            scale=scale, zero=zero, migration=migration, centre=centre, low=limits[0], high=limits[1], size=extent.size
        )

    def convolution(self, operator: FoldedConvolution, rounded: Tensor | None) -> None:
        """``rounded`` : integer weights, or None for the nearest. The source's centres come back through the bias, by quantized weights."""
        source, bits = self.result.tensors[operator.source], self.techniques.weight_bits
        weight = operator.weight.double() * representable.per_input(source.migration, operator)
        scale = weight_scale(weight, bits, self.techniques.weight_range)
        scale = torch.maximum(scale, representable.least_weight_scale(scale, operator.bias.double(), source.scale))
        fraction = self.fraction(operator, source.scale * scale) if operator.hardswish else None
        if fraction is not None:
            scale = scale.clamp_max(representable.greatest_product(fraction) / source.scale)
        integers = nearest_weight(weight, scale, bits) if rounded is None else rounded.to(torch.int32)
        products, bias = source.scale * scale, bias_of(operator, source, integers, scale)
        self.result.convolutions[operator.name] = ConvolutionQuantization(weight=integers, weight_scale=scale, bias=bias, fraction=fraction)
        shortcut = 0.0 if operator.shortcut is None else self.result.tensors[operator.shortcut].scale
        least = representable.least_scale(products, operator.target in self.wide, operator.hardswish, shortcut)
        self.result.tensors[operator.target] = self.tensor(operator.target, least, fraction)

    def fraction(self, operator: FoldedConvolution | FoldedLayerNorm, products: Tensor | None = None) -> int:
        return representable.hardswish_fraction(operator.name, float(self.calibration.extents[operator.target].high.max()), products)

    def attention(self, operator: FoldedAttention) -> None:
        statistics, tensors = self.calibration.attentions[operator.name], self.result.tensors
        for index, part in enumerate(statistics):
            check_divisors(f"{operator.name} scale {index}", part)
        target = tensors[operator.target] = self.tensor(operator.target)
        self.result.attentions[operator.name] = tuple(
            scale_quantization(part, tensors[source].scale, target.scale, self.techniques.divisor)
            for source, part in zip(operator.sources, statistics, strict=True)
        )

    def quantize(self, operator: FoldedOperator, rounded: Tensor | None) -> None:
        if isinstance(operator, FoldedConvolution):
            self.convolution(operator, rounded)
        elif isinstance(operator, FoldedAttention):
            self.attention(operator)
        elif isinstance(operator, FoldedPool):
            source = self.result.tensors[operator.source]
            product = torch.tensor([source.scale / math.prod(source.size)])
            self.result.tensors[operator.target] = self.tensor(operator.target, representable.least_scale(product))
        else:
            fraction = self.fraction(operator)
            self.result.norms[operator.name] = fraction
            self.result.tensors[operator.target] = self.tensor(operator.target, gated=fraction)


def quantize(
    folded: FoldedNetwork,
    batches: Batches,
    calibration: Calibration,
    techniques: Techniques,
    rounded: Mapping[str, Tensor] | None = None,
) -> Quantization:
    """``batches``: those of ``calibration``. ``rounded``: integer weights of operators by name, for those that nearest rounding is not good
    enough for; they belong to the weight scales that the same call without them gives."""
    quantizer = _Quantizer(folded, calibration, techniques, batches)
    for operator in folded.operators:
        quantizer.quantize(operator, (rounded or {}).get(operator.name))
    return quantizer.result
