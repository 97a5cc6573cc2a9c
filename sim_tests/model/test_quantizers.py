"""Quantizers: the values they allow, their scales and their gradients."""

import numpy as np
import pytest
import torch

from model import integer
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight, affine, round_clamp


def test_binary_weight_is_mean_magnitude_times_sign():
    weight = torch.tensor([[0.5, -1.5, 0.0, 2.0], [0.1, 0.1, -0.1, 0.1]])
    expected = torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.1, 0.1, -0.1, 0.1]])
    torch.testing.assert_close(BinaryWeight()(weight), expected)
    assert BinaryWeight.codes(weight).tolist() == [[1, 0, 1, 1], [1, 1, 0, 1]]


def test_binary_weight_passes_gradient_inside_the_clip_only():
    weight = torch.tensor([[0.5, -1.5]], requires_grad=True)
    BinaryWeight()(weight).backward(torch.tensor([[1.0, 1.0]]))
    # scale = 1. Straight through: 1, 0. Through the scale: (sum of signs) * sign / 2 = 0.
    assert weight.grad.tolist() == [[1.0, 0.0]]


def test_plane_weight_takes_odd_multiples():
    torch.manual_seed(0)
    weight, planes = torch.randn(5, 40), PlaneWeight()
    codes = planes.codes(weight).numpy()
    values = planes.scale(weight).numpy() * integer.plane_weights(codes, 8)
    np.testing.assert_allclose(planes(weight).numpy(), values, rtol=1e-5, atol=1e-7)
    assert np.abs(values - weight.numpy()).max() <= planes.scale(weight).max() * 1.001
    assert set(codes[np.arange(5), np.abs(weight.numpy()).argmax(1)].tolist()) <= {0, 255}


def test_round_clamp_gradient_stops_outside():
    x = torch.tensor([-0.7, -0.4, 1.6, 3.4, 3.6], requires_grad=True)
    y = round_clamp(x, 0, 3)
    y.sum().backward()
    assert y.tolist() == [0, 0, 2, 3, 3] and x.grad.tolist() == [0, 1, 1, 1, 0]


def test_affine_gradients():
    x, scale, offset = (
        torch.randn(3, 4, dtype=torch.float64),
        torch.tensor(1.5, dtype=torch.float64),
        torch.tensor(-2.0, dtype=torch.float64),
    )
    assert torch.autograd.gradcheck(affine, [t.requires_grad_() for t in (x, scale, offset)])


@pytest.mark.parametrize("bits", range(1, 9))
def test_calibrated_step_fits_a_gaussian(bits):
    """The mean squared error of the calibrated quantizer is within 5 % of the best over all steps."""
    torch.manual_seed(bits)
    x = 0.7 * torch.randn(20000)
    quantizer = LearnedStep.mid_rise(bits)
    quantizer.calibrate(x)

    def error(step: float) -> float:
        return float(((quantizer.codes(x / step + quantizer.zero) - quantizer.zero) * step - x).pow(2).mean())

    chosen = float(quantizer.step.detach())
    assert error(chosen) <= 1.05 * min(error(chosen * factor) for factor in np.linspace(0.6, 1.6, 41).tolist())


def test_step_gradient_is_that_of_lsq():
    """d value / d step = u - zero - x / step inside the range, and the bound outside."""
    quantizer = LearnedStep.mid_rise(2)
    for x in (0.3, 10.0, -10.0):
        quantizer.log_step.grad = None
        value = quantizer.step * (quantizer.codes(torch.tensor(x) / quantizer.step + quantizer.zero) - quantizer.zero)
        value.backward()
        u = float(quantizer.codes(torch.tensor(x) + quantizer.zero))
        expected = u - 1.5 - (x if abs(x) < 2 else 0.0)
        assert float(quantizer.log_step.grad) == pytest.approx(expected, abs=1e-6)


def test_offset_codes():
    quantizer = LearnedStep.above(4, -0.17)
    assert (quantizer.low, quantizer.high, quantizer.zero, quantizer.offset) == (0, 15, 0.0, -0.17)
