"""Statistics of a FoldedNetwork over calibration images, batch by batch: no activation outlives its batch.

``calibrate`` goes through the images twice: channel ranges, then a histogram of every tensor within its range. What quantization
transforms (channel-wise migration, filter-wise shifting) needs one more pass, ``transformed_histograms``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from model.efficientvit.graph import IMAGE
from model.errors import InputError
from model.quant.folded import FoldedAttention, FoldedNetwork, run, split_heads

#: uint8 (batch, height, width, channels), to be gone through more than once: a list, or an object that begins again.
Batches = Iterable[np.ndarray]
HISTOGRAM_BINS = 4096
#: Divisors are counted in eighths of an octave, from 2**-40 on; smaller ones, 0 too, in the first bin.
DIVISOR_BINS_PER_OCTAVE, DIVISOR_LOG2_LOW, DIVISOR_OCTAVES = 8, -40, 80
#: Elements that are counted at a time.
_PIECE = 1 << 15
#: Work that lasts longer than this shows its progress, seconds.
_PATIENCE = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Extent:
    """low, high : (channels,) least and greatest value of each channel. size : (height, width)"""

    low: Tensor
    high: Tensor
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """``counts`` of equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: Tensor

    @property
    def centres(self) -> Tensor:
        width = (self.high - self.low) / len(self.counts)
        return self.low + (torch.arange(len(self.counts), dtype=torch.float64) + 0.5) * width

    def quantile(self, part: float) -> float:
        passed = int(torch.searchsorted(self.counts.cumsum(0), part * float(self.counts.sum())))
        return float(self.centres[min(passed, len(self.counts) - 1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionStatistics:
    """One scale of an attention, in real values. state, total, divisor : (heads,) largest magnitude of S = K^T V, of the sum of K, and of
    the divisors Q . sum of K. divisor_counts : (heads, bins) of log2 of the divisors, see DIVISOR_BINS_PER_OCTAVE. quotient : largest."""

    state: Tensor
    total: Tensor
    divisor: Tensor
    divisor_counts: Tensor
    quotient: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """images : how many. extents, histograms : by tensor. attentions : by attention's name, one for each of its scales."""

    images: int
    extents: dict[str, Extent]
    histograms: dict[str, Histogram]
    attentions: dict[str, tuple[AttentionStatistics, ...]]


def with_progress(steps: Iterable[np.ndarray], text: str, total: int) -> Iterator[np.ndarray]:
    """``steps``, with a bar on stderr as soon as they have taken two seconds. ``total``: images."""
    began = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(), auto_refresh=False) as progress:
        bar = progress.add_task(text, total=total, visible=False)
        for step in steps:
            yield step
            progress.update(bar, advance=len(step), visible=time.monotonic() - began > _PATIENCE)
            progress.refresh()


def each_batch(folded: FoldedNetwork, batches: Batches, text: str, images: int) -> Iterator[Tensor]:
    """The first ``images`` images. Raises InputError where there are fewer, or others than the network takes."""
    config, seen = folded.config, 0
    shape = (config.image_size, config.image_size, config.channels)
    for batch in with_progress(batches, text, images):
        if batch.dtype != np.uint8 or batch.shape[1:] != shape:
            raise InputError(
                f"{config.name} is calibrated on uint8 images of shape {shape}: {batch.dtype} {batch.shape[1:]} is not; resize"
            )
        part = batch[: images - seen]
        seen += len(part)
        yield torch.from_numpy(np.array(part))
        if seen == images:
            return
    raise InputError(f"calibration asks for {images} images: there are {seen}; give more or ask for fewer")


class _Extents:
    def __init__(self) -> None:
        self.extents: dict[str, Extent] = {}

    def observe(self, name: str, x: Tensor) -> None:
        low, high = x.amin((0, 2, 3)).double(), x.amax((0, 2, 3)).double()
        if not (torch.isfinite(low) & torch.isfinite(high)).all():
            raise InputError(
                f"activations must be finite: {name} holds NaN or infinity on the calibration images; check weights and images"
            )
        if name in self.extents:
            before = self.extents[name]
            low, high = torch.minimum(low, before.low), torch.maximum(high, before.high)
        self.extents[name] = Extent(low=low, high=high, size=(x.shape[2], x.shape[3]))


def histogram_of(x: Tensor, low: float, high: float) -> Tensor:
    """Counts of HISTOGRAM_BINS; what lies beyond goes into the outermost. By pieces that stay in cache: twice torch.histc's speed."""
    counts, per_unit = torch.zeros(HISTOGRAM_BINS, dtype=torch.int64), HISTOGRAM_BINS / (high - low)
    for part in x.flatten().split(_PIECE):
        index = part.sub(low).mul_(per_unit).long().clamp_(0, HISTOGRAM_BINS - 1)
        counts += torch.bincount(index, minlength=HISTOGRAM_BINS)
    return counts.double()


class _Histograms:
    """Of ``transform(name, tensor)`` between given limits; None: not that tensor."""

    def __init__(self, limits: dict[str, tuple[float, float]], transform: Callable[[str, Tensor], Tensor]):
        self.limits, self.transform = limits, transform
        self.counts = {name: torch.zeros(HISTOGRAM_BINS, dtype=torch.float64) for name in limits}

    def observe(self, name: str, x: Tensor) -> None:
        if name in self.limits:
            self.counts[name] += histogram_of(self.transform(name, x), *self.limits[name])

    def results(self) -> dict[str, Histogram]:
        return {name: Histogram(low=low, high=high, counts=self.counts[name]) for name, (low, high) in self.limits.items()}


def divisor_counts(divisor: Tensor) -> Tensor:
    """(batch, heads, pixels) -> (heads, bins)."""
    bins = DIVISOR_OCTAVES * DIVISOR_BINS_PER_OCTAVE
    position = (divisor.clamp_min(2.0 ** (DIVISOR_LOG2_LOW - 1)).log2() - DIVISOR_LOG2_LOW) * DIVISOR_BINS_PER_OCTAVE
    index = position.floor().long().clamp(0, bins - 1).transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(head, minlength=bins) for head in index]).double()


def attention_statistics(qkv: Tensor, operator: FoldedAttention) -> AttentionStatistics:
    q, k, v = split_heads(qkv, operator.head_dim)
    state, total = k.transpose(-1, -2) @ v, k.sum(-2)
    divisor = (q @ total[..., None])[..., 0]
    quotient = (q @ state) / (divisor[..., None] + operator.epsilon)
    return AttentionStatistics(
        state=state.abs().amax((0, 2, 3)).double(), total=total.amax((0, 2)).double(), divisor=divisor.amax((0, 2)).double(),
        divisor_counts=divisor_counts(divisor), quotient=float(quotient.abs().max()),
    )  # fmt: skip


def merged(a: AttentionStatistics, b: AttentionStatistics) -> AttentionStatistics:
    return AttentionStatistics(
        state=torch.maximum(a.state, b.state), total=torch.maximum(a.total, b.total), divisor=torch.maximum(a.divisor, b.divisor),
        divisor_counts=a.divisor_counts + b.divisor_counts, quotient=max(a.quotient, b.quotient),
    )  # fmt: skip


class _Attentions:
    def __init__(self, folded: FoldedNetwork):
        self.readers = {source: operator for operator in folded.operators if isinstance(operator, FoldedAttention)
                        for source in operator.sources}  # fmt: skip
        self.statistics: dict[str, AttentionStatistics] = {}

    def observe(self, name: str, x: Tensor) -> None:
        if name in self.readers:
            new = attention_statistics(x, self.readers[name])
            self.statistics[name] = merged(self.statistics[name], new) if name in self.statistics else new

    def results(self) -> dict[str, tuple[AttentionStatistics, ...]]:
        operators = {operator.name: operator for operator in self.readers.values()}
        return {name: tuple(self.statistics[source] for source in operator.sources) for name, operator in operators.items()}


def _limits(extent: Extent) -> tuple[float, float]:
    """Of the whole tensor; never empty."""
    low, high = float(extent.low.min()), float(extent.high.max())
    return low, max(high, low + max(abs(low), 1.0) * 1e-6)


def calibrate(folded: FoldedNetwork, batches: Batches, images: int) -> Calibration:
    """Statistics over the first ``images`` images.

    Raises InputError for fewer images, images of another shape, and activations that are not finite.
    """
    extents, attentions = _Extents(), _Attentions(folded)
    for batch in each_batch(folded, batches, "calibration: ranges", images):
        run(folded, batch, lambda name, x: (extents.observe(name, x), attentions.observe(name, x))[0])
    limits = {name: _limits(extent) for name, extent in extents.extents.items() if name != IMAGE}
    histograms = _Histograms(limits, lambda name, x: x)
    for batch in each_batch(folded, batches, "calibration: histograms", images):
        run(folded, batch, histograms.observe)
    return Calibration(images=images, extents=extents.extents, histograms=histograms.results(), attentions=attentions.results())


def transformed(extent: Extent, migration: Tensor, centre: Tensor) -> Extent:
    """The extent of ``(x - centre) / migration``."""
    return Extent(low=(extent.low - centre) / migration, high=(extent.high - centre) / migration, size=extent.size)


def transformed_histograms(
    folded: FoldedNetwork, batches: Batches, calibration: Calibration, transforms: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Histogram]:
    """Histograms of ``(x - centre) / migration``, for the (migration, centre) by tensor of ``transforms``, (channels,) each."""
    if not transforms:
        return {}
    limits = {name: _limits(transformed(calibration.extents[name], *transform)) for name, transform in transforms.items()}
    per_pixel = {name: (m.float()[:, None, None], c.float()[:, None, None]) for name, (m, c) in transforms.items()}

    def transform(name: str, x: Tensor) -> Tensor:
        migration, centre = per_pixel[name]
        return (x - centre) / migration

    histograms = _Histograms(limits, transform)
    for batch in each_batch(folded, batches, "calibration: migrated and shifted", calibration.images):
        run(folded, batch, histograms.observe)
    return histograms.results()
