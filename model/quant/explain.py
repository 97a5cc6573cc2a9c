"""What quantization does to a network, layer by layer, and what each technique is worth.

``model.quant.explain_tables`` tells it on a terminal, ``model.quant.explain_page`` as a page with plots. All of it is measured on the
fake-quantized network, from the calibration images: signal-to-noise ratios on the first
NOISE_IMAGES of them; accuracy on labelled images, where there are some.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.efficientvit.graph import IMAGE, LOGITS
from model.evaluate import torch_accuracy
from model.quant.calibration import DIVISOR_BINS_PER_OCTAVE, DIVISOR_LOG2_LOW, AttentionStatistics, Batches, Calibration, Extent, calibrate
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import FoldedAttention, FoldedNetwork, run
from model.quant.ptq import Techniques, migrated_tensors, quantize, shifted_tensors
from model.quant.quantization import Quantization, ScaleQuantization, TensorQuantization

NOISE_IMAGES = 16
#: Ratios are told up to here: beyond, two float sums differ by their own rounding.
MOST_DB = 150.0
#: Name of a row, and what it sets: what none of them names is as asked for.
ABLATION: dict[str, dict[str, Any]] = {
    "none, uniform divisors": dict(migration=False, shifting=False, divisor="uniform"),
    "none": dict(migration=False, shifting=False, divisor="exact"),
    "CM": dict(migration=True, shifting=False, divisor="exact"),
    "FS": dict(migration=False, shifting=True, divisor="exact"),
    "CM + FS": dict(migration=True, shifting=True, divisor="exact"),
    "CM + FS, uniform divisors": dict(migration=True, shifting=True, divisor="uniform"),
    "CM + FS, log2 divisors of 8 bits": dict(migration=True, shifting=True, divisor="log2_8bit"),
    "CM + FS, log2 divisors": dict(migration=True, shifting=True, divisor="log2"),
}
PLAIN = "none, uniform divisors"


@dataclass(frozen=True, kw_only=True)
class LayerNoise:
    """dB. total : all of the tensor's energy over all of its noise, what the layers before it added included.

    channel : the median channel's, its mean left out of its energy: a wide or shifted channel hides in ``total`` what happens to the others
    own : as ``channel``, of what the tensor's own codes add to the float tensor
    """

    total: float
    channel: float
    own: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelRanges:
    """A migrated or shifted tensor. before, after : (channels, 2) least and greatest value, then of ``(x - centre) / migration``.

    step_before : what one code is worth with all techniques off; step_after : as asked for, of the transformed tensor
    """

    name: str
    technique: str
    before: np.ndarray
    after: np.ndarray
    step_before: float
    step_after: float

    @property
    def codes_before(self) -> float:
        """That the median channel is spread over."""
        return float(np.median(np.ptp(self.before, axis=1))) / self.step_before

    @property
    def codes_after(self) -> float:
        return float(np.median(np.ptp(self.after, axis=1))) / self.step_after


@dataclass(frozen=True, kw_only=True, eq=False)
class DivisorHistogram:
    """Of one scale of an attention. low : log2 of the first bin, bins of an octave, in steps of an 8-bit uniform divisor; counts : (bins,)

    window : first and last exponent of the log2 divisor, in the same unit
    """

    name: str
    low: int
    counts: np.ndarray
    window: tuple[float, float]

    def below(self, log2: int) -> float:
        """Part of the divisors below ``2**log2`` steps."""
        return float(self.counts[: max(0, log2 - self.low)].sum() / self.counts.sum())


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    name: str
    logits_db: float
    accuracy: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """layers, plain : noise by tensor, as asked for and with all techniques off. accuracies in percent of ``labelled`` images, or None.

    noise : by row of the ablation, then by tensor
    """

    model: str
    techniques: Techniques
    images: int
    labelled: int
    float_accuracy: float | None
    layers: dict[str, LayerNoise]
    plain: dict[str, LayerNoise]
    ranges: tuple[ChannelRanges, ...]
    divisors: tuple[DivisorHistogram, ...]
    ablation: tuple[AblationRow, ...]
    noise: dict[str, dict[str, LayerNoise]]


def decibels(signal: float, noise: float) -> float:
    if signal <= 0:
        return 0.0
    return MOST_DB if noise <= 0 else min(MOST_DB, 10 * math.log10(signal / noise))


@dataclass
class _Energies:
    """Sums over images and pixels, (channels,)."""

    count: float
    value: Tensor
    square: Tensor
    noise: Tensor
    own: Tensor

    def noise_ratios(self) -> LayerNoise:
        varying = (self.square - self.value.square() / self.count).clamp_min(0)

        def median(noise: Tensor) -> float:
            alive = [decibels(float(s), float(n)) for s, n in zip(varying, noise, strict=True) if s > 1e-9 * float(varying.max())]
            return float(np.median(alive)) if alive else 0.0

        return LayerNoise(
            total=decibels(float(self.square.sum()), float(self.noise.sum())), channel=median(self.noise), own=median(self.own)
        )


def _energies(real: Tensor, quantized: Tensor, tensor: TensorQuantization) -> _Energies:
    over = (0, 2, 3)
    real, own = real.double(), tensor.values(tensor.codes(real.double()))
    return _Energies(
        count=real[:, 0].numel(), value=real.sum(over), square=real.square().sum(over),
        noise=(quantized.double() - real).square().sum(over), own=(own - real).square().sum(over),
    )  # fmt: skip


def layer_noise(quantization: Quantization, batches: Batches, images: int = NOISE_IMAGES) -> dict[str, LayerNoise]:
    """Of every tensor but the image, in execution order, over the first ``images`` images, or all if there are fewer."""
    fake, sums, seen = FakeQuantized(quantization), {}, 0
    for batch in batches:
        part, real = torch.from_numpy(np.array(batch[: images - seen])), {}
        run(quantization.folded, part, real.__setitem__)

        def observe(name: str, x: Tensor, real: dict[str, Tensor] = real) -> None:
            if name != IMAGE:
                new, before = _energies(real.pop(name), x, quantization.tensors[name]), sums.get(name)
                values = [getattr(new, field.name) + (getattr(before, field.name) if before else 0) for field in dataclasses.fields(new)]
                sums[name] = _Energies(*values)

        fake(part, observe)
        seen += len(part)
        if seen >= images:
            break
    return {name: energies.noise_ratios() for name, energies in sums.items()}


def _ranges(extent: Extent, tensor: TensorQuantization | None = None) -> np.ndarray:
    limits = torch.stack([extent.low, extent.high], dim=1)
    if tensor is not None:
        limits = (limits - tensor.centre[:, None]) / tensor.migration[:, None]
    return limits.numpy()


def channel_ranges(folded: FoldedNetwork, calibration: Calibration, plain: Quantization, full: Quantization) -> tuple[ChannelRanges, ...]:
    """Of every tensor that can be migrated or shifted."""
    kinds = dict.fromkeys(migrated_tensors(folded), "migration") | dict.fromkeys(shifted_tensors(folded), "shifting")
    return tuple(
        ChannelRanges(
            name=operator.target, technique=kinds[operator.target], before=_ranges(calibration.extents[operator.target]),
            after=_ranges(calibration.extents[operator.target], full.tensors[operator.target]),
            step_before=plain.tensors[operator.target].scale, step_after=full.tensors[operator.target].scale,
        )
        for operator in folded.operators if operator.target in kinds
    )  # fmt: skip


def divisor_histogram(name: str, statistics: AttentionStatistics, scale: ScaleQuantization, source: float) -> DivisorHistogram:
    """All heads, each in steps of its own 8-bit divisor: 8 is the largest. ``source``: scale of (q, k, v)."""
    step = source**2 / scale.sum_ratio / scale.divisor_ratio
    bins = torch.arange(statistics.divisor_counts.shape[1], dtype=torch.float64)
    octave = (DIVISOR_LOG2_LOW + (bins + 0.5) / DIVISOR_BINS_PER_OCTAVE - step.log2()[:, None]).floor().long()
    used = octave[statistics.divisor_counts > 0]
    low = max(int(used.min()), -16)
    counts = torch.bincount((octave.clamp(low, int(used.max())) - low).flatten(), weights=statistics.divisor_counts.flatten())
    first = scale.low + math.log2(scale.divisor_ratio)
    return DivisorHistogram(name=name, low=low, counts=counts.numpy(), window=(first, first + 15))


def divisor_histograms(folded: FoldedNetwork, calibration: Calibration, quantization: Quantization) -> tuple[DivisorHistogram, ...]:
    return tuple(
        divisor_histogram(f"{operator.name} scale {index}", statistics, scale, quantization.tensors[source].scale)
        for operator in folded.operators if isinstance(operator, FoldedAttention)
        for index, (source, statistics, scale) in enumerate(
            zip(operator.sources, calibration.attentions[operator.name], quantization.attentions[operator.name], strict=True)
        )
    )  # fmt: skip


Labelled = tuple[np.ndarray, np.ndarray]


class _Cases:
    """The network quantized in several ways, with the noise of its layers; each once."""

    def __init__(self, folded: FoldedNetwork, batches: Batches, calibration: Calibration):
        self.folded, self.batches, self.calibration = folded, batches, calibration
        self.made: dict[Techniques, tuple[Quantization, dict[str, LayerNoise]]] = {}

    def __call__(self, techniques: Techniques) -> tuple[Quantization, dict[str, LayerNoise]]:
        if techniques not in self.made:
            quantization = quantize(self.folded, self.batches, self.calibration, techniques)
            self.made[techniques] = quantization, layer_noise(quantization, self.batches)
        return self.made[techniques]


def explain(
    folded: FoldedNetwork,
    batches: Batches,
    techniques: Techniques,
    images: int,
    *,
    labelled: Labelled | None = None,
    calibration: Calibration | None = None,
) -> Diagnosis:
    """Calibrates on the first ``images`` of ``batches`` where ``calibration`` is not given, quantizes once for each row of ABLATION.

    labelled : uint8 images and labels; every row runs on all of them
    """
    calibration = calibration or calibrate(folded, batches, images)
    cases = _Cases(folded, batches, calibration)
    settings = {name: dataclasses.replace(techniques, **values) for name, values in ABLATION.items()}
    (full, layers), (plain, plain_layers) = cases(techniques), cases(settings[PLAIN])
    rows = []
    for name, (quantization, noise) in ((name, cases(setting)) for name, setting in settings.items()):
        accuracy = None if labelled is None else torch_accuracy(FakeQuantized(quantization), *labelled)
        rows.append(AblationRow(name=name, logits_db=noise[LOGITS].total, accuracy=accuracy))
    log2 = cases(dataclasses.replace(techniques, divisor="log2"))[0]
    return Diagnosis(
        model=folded.config.name, techniques=techniques, images=calibration.images, labelled=0 if labelled is None else len(labelled[0]),
        float_accuracy=None if labelled is None else torch_accuracy(lambda part: run(folded, part), *labelled),
        layers=layers, plain=plain_layers, ranges=channel_ranges(folded, calibration, plain, full),
        divisors=divisor_histograms(folded, calibration, log2), ablation=tuple(rows),
        noise={name: cases(setting)[1] for name, setting in settings.items()},
    )  # fmt: skip
