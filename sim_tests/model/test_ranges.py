"""Ranges of activations and weights: what histograms choose is the best on the data."""

import numpy as np
import pytest
import torch

from model.quant.calibration import Histogram, histogram_of
from model.quant.quantization import TensorQuantization
from model.quant.ranges import activation_scale, nearest_weight, weight_scale, zero_of


def counted(x: torch.Tensor) -> Histogram:
    low, high = float(x.min()), float(x.max())
    return Histogram(low=low, high=high, counts=histogram_of(x, low, high))


@pytest.mark.parametrize("symmetric", (False, True))
@pytest.mark.parametrize("bits", (4, 6, 8))
def test_mse_range_is_the_best_of_eighty_on_the_data_itself(bits, symmetric):
    """Histograms stand for the data: the cost of what they choose is the least, to a thousandth."""
    rng = np.random.default_rng(bits)
    x = torch.from_numpy(rng.laplace(0.5, 1, 40_960)).double()
    low, high = float(x.min()), float(x.max())
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    top = (1 << bits) - 1

    def cost(shrink: float) -> float:
        scale = shrink * (high - low) / (top - symmetric)
        zero = 1 << (bits - 1) if symmetric else int(np.floor(-shrink * low / scale + 0.5))
        quantized = scale * ((x / scale + 0.5).floor() + zero).clamp(int(symmetric), top) - scale * zero
        return float((x - quantized).abs().pow(2.4).sum())

    costs = [cost(1 - 0.01 * step) for step in range(80)]
    scale, least = activation_scale(counted(x.float()), bits, symmetric, "mse")
    assert cost(scale * (top - symmetric) / (high - low)) <= min(costs) * 1.001 < costs[0]
    assert least / low == pytest.approx(scale * (top - symmetric) / (high - low), rel=1e-5)
    assert activation_scale(counted(x.float()), bits, symmetric, "minmax")[0] == pytest.approx((high - low) / (top - symmetric), rel=1e-5)


def test_ranges_hold_zero():
    positive = Histogram(low=2.0, high=4.0, counts=torch.ones(64, dtype=torch.float64))
    assert activation_scale(positive, 8, False, "minmax") == (pytest.approx(4 / 255), 0.0) and zero_of(0.0, 4 / 255, 8, False) == 0
    negative = Histogram(low=-4.0, high=-2.0, counts=torch.ones(64, dtype=torch.float64))
    scale, low = activation_scale(negative, 8, False, "minmax")
    assert zero_of(low, scale, 8, False) == 255
    assert zero_of(-1.0, 0.1, 8, True) == 128


def test_weight_scales():
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 40, 3, 3))).float()
    weight[2] = 0
    full = weight_scale(weight, 4, "minmax")
    torch.testing.assert_close(full, weight.double().abs().amax((1, 2, 3)) / 7)

    def cost(scale: torch.Tensor) -> torch.Tensor:
        quantized = nearest_weight(weight, scale.clamp_min(1e-9), 4) * scale[:, None, None, None]
        return (weight - quantized).abs().pow(2.4).sum((1, 2, 3))

    best = weight_scale(weight, 4, "mse")
    every = torch.stack([cost(full * (1 - 0.01 * step)) for step in range(80)])
    alive = torch.tensor([0, 1, 3, 4])
    assert (cost(best)[alive] <= every.min(0).values[alive] * 1.001).all() and (cost(best)[alive] < cost(full)[alive]).all()
    assert nearest_weight(torch.tensor([[[[0.3125]]], [[[-9.0]]]]), torch.tensor([0.125, 0.125]).double(), 4).flatten().tolist() == [3, -7]


def test_quantizers_agree_with_torch():
    """Where the semantics coincide: everywhere but on ties, which torch rounds to even."""
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(4, 5, 6, 7))).float()
    one = torch.ones(5, dtype=torch.float64)
    tensor = TensorQuantization(scale=0.013, zero=91 * one, migration=one, centre=0 * one, low=0, high=255, size=(6, 7))
    torch.testing.assert_close(tensor.values(tensor.codes(x)), torch.fake_quantize_per_tensor_affine(x, 0.013, 91, 0, 255))
    weight = torch.from_numpy(rng.normal(size=(5, 4, 3, 3))).float()
    scale = weight_scale(weight, 6, "minmax") * 0.7
    mine = nearest_weight(weight, scale, 6) * scale[:, None, None, None]
    theirs = torch.fake_quantize_per_channel_affine(weight, scale.float(), torch.zeros(5, dtype=torch.int32), 0, -31, 31)
    torch.testing.assert_close(mine.float(), theirs)
