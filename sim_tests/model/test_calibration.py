"""Statistics batch by batch are those of all images at once; bad calibration images are named."""

import math

import numpy as np
import pytest
import torch

from model.errors import InputError
from model.quant.calibration import (
    DIVISOR_BINS_PER_OCTAVE,
    DIVISOR_LOG2_LOW,
    Histogram,
    calibrate,
    divisor_counts,
    histogram_of,
    transformed_histograms,
)
from model.quant.folded import fold, run, split_heads
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

IMAGES = images_of(SMALL, 12)
ATTENTION = "stages.1.blocks.1.context_module.main.attention"


def batches(size: int, images: np.ndarray = IMAGES) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


@pytest.fixture(scope="module")
def folded():
    return fold(network_of())


def test_extents_and_histograms_are_those_of_all_images_at_once(folded):
    seen = {}
    run(folded, torch.from_numpy(IMAGES), lambda name, tensor: seen.__setitem__(name, tensor))
    calibration = calibrate(folded, batches(5), 12)
    assert calibration.images == 12 and set(calibration.extents) == set(seen) == {*calibration.histograms, "image"}
    for name, tensor in seen.items():
        extent = calibration.extents[name]
        torch.testing.assert_close(extent.low.float(), tensor.amin((0, 2, 3)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(extent.high.float(), tensor.amax((0, 2, 3)), atol=1e-5, rtol=1e-5)
        assert extent.size == tuple(tensor.shape[2:])
    for name, histogram in calibration.histograms.items():
        assert histogram.counts.sum() == seen[name].numel()
        step = (histogram.high - histogram.low) / len(histogram.counts)
        for part in (0.01, 0.5, 0.99):  # between the neighbours in rank, give or take a bin
            ordered, rank = seen[name].flatten().sort().values, part * seen[name].numel()
            low, high = (float(ordered[min(max(int(at), 0), len(ordered) - 1)]) for at in (rank - 2, rank + 1))
            assert low - step <= histogram.quantile(part) <= high + step


def test_histogram_counts_like_numpy():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=70_001).astype(np.float32))
    counts = histogram_of(x, -2.0, 3.0).numpy()
    expected = np.histogram(np.clip(x.numpy(), -2, 3), bins=len(counts), range=(-2, 3))[0]
    assert counts.sum() == len(x) and np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 8
    assert Histogram(low=-2.0, high=3.0, counts=torch.from_numpy(counts)).centres[0] == pytest.approx(-2 + 2.5 / len(counts))


def test_transformed_histograms(folded):
    name, seen = "stages.0.blocks.1.main.depth_conv", {}
    run(folded, torch.from_numpy(IMAGES), lambda key, tensor: seen.__setitem__(key, tensor))
    channels = seen[name].shape[1]
    migration, centre = torch.linspace(0.5, 2, channels).double(), torch.linspace(-1, 1, channels).double()
    made = transformed_histograms(folded, batches(4), calibrate(folded, batches(4), 12), {name: (migration, centre)})
    expected = (seen[name] - centre.float()[:, None, None]) / migration.float()[:, None, None]
    assert set(made) == {name} and made[name].counts.sum() == expected.numel()
    assert made[name].low == pytest.approx(float(expected.min()), abs=1e-5)
    assert made[name].high == pytest.approx(float(expected.max()), abs=1e-5)
    mean = float((made[name].counts * made[name].centres).sum() / made[name].counts.sum())
    assert mean == pytest.approx(float(expected.mean()), abs=(made[name].high - made[name].low) / len(made[name].counts))


def test_attention_statistics(folded):
    seen = {}
    run(folded, torch.from_numpy(IMAGES), lambda name, tensor: seen.__setitem__(name, tensor))
    calibration = calibrate(folded, batches(5), 12)
    operator = next(operator for operator in folded.operators if operator.name == ATTENTION)
    assert len(calibration.attentions[ATTENTION]) == 2
    for source, statistics in zip(operator.sources, calibration.attentions[ATTENTION], strict=True):
        q, k, v = (part.double() for part in split_heads(seen[source], SMALL.head_dim))
        state, total = torch.einsum("bhnd,bhne->bhde", k, v), k.sum(2)
        divisor = torch.einsum("bhnd,bhd->bhn", q, total)
        torch.testing.assert_close(statistics.state, state.abs().amax((0, 2, 3)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(statistics.total, total.amax((0, 2)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(statistics.divisor, divisor.amax((0, 2)), rtol=1e-4, atol=1e-4)
        assert (statistics.divisor_counts.sum(1) == divisor[:, 0].numel()).all()


def test_divisors_are_counted_in_eighths_of_an_octave():
    counts = divisor_counts(torch.tensor([[[0.0, 1.0, 3.0, 3.1]]]))
    at_one = -DIVISOR_LOG2_LOW * DIVISOR_BINS_PER_OCTAVE
    assert counts[0, 0] == 1 and counts[0, at_one] == 1
    assert counts[0, at_one + math.floor(8 * math.log2(3))] == 1 and counts[0, at_one + math.floor(8 * math.log2(3.1))] == 1


def test_bad_images_are_named(folded):
    with pytest.raises(InputError, match=r"^calibration asks for 13 images: there are 12; give more or ask for fewer$"):
        calibrate(folded, batches(5), 13)
    with pytest.raises(
        InputError, match=r"^small is calibrated on uint8 images of shape \(30, 30, 3\): uint8 \(28, 30, 3\) is not; resize$"
    ):
        calibrate(folded, batches(5, IMAGES[:, 2:]), 12)
    with pytest.raises(InputError, match="float64"):
        calibrate(folded, batches(5, IMAGES.astype(float)), 12)


def test_activations_that_are_not_finite_are_named():
    net = network_of()
    net.stages[0].blocks[0].main.inverted_conv.conv.weight.data.fill_(1e38)
    with pytest.raises(InputError, match=r"^activations must be finite: stages\.0\.blocks\.0\.main\.inverted_conv holds NaN or infinity"):
        calibrate(fold(net), batches(5), 12)
