"""The engine's quantizers beside torch's own fake quantization.

Where the semantics coincide: scale, zero point, saturation, per tensor and per channel. Where they do not: torch rounds ties to even, the
integers half up; torch multiplies by the reciprocal of the scale in float32, so that near a tie the two may differ by a code as well.
"""

import numpy as np
import pytest
import torch

from model.quant.quantization import TensorQuantization
from model.quant.ranges import format_of, nearest_weight, weight_scale, zero_of

#: In codes: so near to a tie, both results are right.
NEAR_TIE = 1e-3


def away_from_ties(units: torch.Tensor) -> torch.Tensor:
    return ((units - units.floor()) - 0.5).abs() > NEAR_TIE


def tensor_of(scale: float, zero: int, bits: int, symmetric: bool, migration: torch.Tensor, centre: torch.Tensor) -> TensorQuantization:
    low, high = format_of(bits, symmetric)
    zeros = torch.full_like(migration, zero)
    return TensorQuantization(scale=scale, zero=zeros, migration=migration, centre=centre, low=low, high=high, size=(8, 8))


@pytest.mark.parametrize("symmetric", (False, True))
@pytest.mark.parametrize("bits", (4, 6, 8))
def test_activations_per_tensor(bits, symmetric):
    rng = np.random.default_rng(bits)
    x = torch.from_numpy(rng.normal(0.7, 2, (4, 5, 8, 8))).float()
    scale = 7.3 / ((1 << bits) - 1)
    zero = zero_of(-2.1, scale, bits, symmetric)
    one, nothing = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    ours = tensor_of(scale, zero, bits, symmetric, one, nothing)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero, *format_of(bits, symmetric))
    codes, clear = ours.codes(x), away_from_ties(x / scale)
    assert clear.float().mean() > 0.99 and codes.min() == ours.low and codes.max() == ours.high
    torch.testing.assert_close(ours.values(codes)[clear], theirs[clear], rtol=1e-5, atol=1e-5)


def test_migrated_and_shifted_activations_are_per_channel_affine():
    """Migration is a scale per channel; shifting, an offset around the quantizer."""
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(4, 1, (4, 5, 8, 8))).float()
    migration, centre = torch.tensor([0.1, 0.5, 1, 3.7, 20], dtype=torch.float64), torch.tensor([0, 1.5, 4, -2, 3.3], dtype=torch.float64)
    ours = tensor_of(0.11, 83, 8, False, migration, centre)
    shifted = x - centre.float()[:, None, None]
    theirs = torch.fake_quantize_per_channel_affine(shifted, (0.11 * migration).float(), torch.full((5,), 83, dtype=torch.int32), 1, 0, 255)
    clear = away_from_ties(shifted / (0.11 * migration).float()[:, None, None])
    real = ours.values(ours.codes(x))
    torch.testing.assert_close(real[clear], (theirs + centre.float()[:, None, None])[clear], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ("minmax", "mse"))
@pytest.mark.parametrize("bits", (4, 8))
def test_weights_per_output_channel(bits, rule):
    weight = torch.from_numpy(np.random.default_rng(bits).laplace(0, 0.1, (16, 8, 3, 3))).float()
    scale, limit = weight_scale(weight, bits, rule), (1 << (bits - 1)) - 1
    integers = nearest_weight(weight, scale, bits)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale.float(), torch.zeros(16, dtype=torch.int32), 0, -limit, limit)
    clear = away_from_ties(weight / scale.float()[:, None, None, None])
    assert integers.abs().max() == limit and clear.float().mean() > 0.99
    torch.testing.assert_close((integers * scale[:, None, None, None]).float()[clear], theirs[clear], rtol=1e-5, atol=1e-6)


def test_ties_are_where_they_differ():
    """A scale that is a power of two makes ties exact: half up here, to even there."""
    x = (torch.arange(-8, 8).float() + 0.5)[None, None, :, None] / 4
    one, nothing = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    ours = tensor_of(0.25, 128, 8, False, one, nothing).codes(x).flatten() - 128
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.25, 128, 0, 255).flatten() * 4
    assert ours.tolist() == list(range(-7, 9))
    assert theirs.tolist() == [round(k + 0.5) for k in range(-8, 8)]
