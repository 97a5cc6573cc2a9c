"""Each technique by its formula."""

import dataclasses

import pytest
import torch

from model.quant import representable
from model.quant.calibration import Extent, Histogram
from model.quant.folded import FoldedConvolution
from model.quant.ptq import Techniques, channel_centres, migration_factors, quantize
from sim_tests.model.quantized import BATCHES, MIGRATED, SHIFTED


def test_migration_factors():
    """Largest over typical, typical the greater of the 0.99 quantile and the mean of the largest; within [0.1, 64]."""
    high = torch.tensor([0.01, 1.0, 2.0, 400.0]).double()
    extent = Extent(low=-torch.ones(4).double(), high=high, size=(2, 2))
    flat = Histogram(low=-1.0, high=1.0, counts=torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(migration_factors(extent, flat), (high / high.mean()).clamp(0.1, 64))
    mostly_large = Histogram(low=0.0, high=400.0, counts=torch.ones(4000, dtype=torch.float64))
    torch.testing.assert_close(migration_factors(extent, mostly_large), (high / 396.0).clamp(0.1, 64), rtol=1e-3, atol=0)
    many = Extent(low=-torch.ones(1000).double(), high=torch.cat([torch.full((999,), 0.5), torch.tensor([80.0])]).double(), size=(2, 2))
    assert migration_factors(many, flat).max() == 64 and channel_centres(many)[-1] == 39.5


@pytest.mark.parametrize("name", ("migration", "shifting"))
def test_each_technique_can_be_switched_off(folded, calibration, name):
    all_of_them = quantize(folded, BATCHES, calibration, Techniques()).tensors
    without = quantize(folded, BATCHES, calibration, Techniques(**{name: False})).tensors
    field, tensor = {"migration": ("migration", MIGRATED), "shifting": ("centre", SHIFTED)}[name]
    neutral = 1.0 if name == "migration" else 0.0
    used = {key for key, quantized in all_of_them.items() if (getattr(quantized, field) != neutral).any()} - {"image"}
    assert tensor in used and all(key.endswith(tensor.rsplit(".", 1)[-1]) and not key.startswith("stem") for key in used) and len(used) == 4
    assert all((getattr(quantized, field) == neutral).all() for key, quantized in without.items() if key != "image")


def test_shifting_is_exact(folded, calibration):
    """Dequantized codes through the quantized weights: the bias, a whole number, holds all that the centres take away."""
    quantization = quantize(folded, BATCHES, calibration, Techniques())
    operator = next(op for op in folded.operators if isinstance(op, FoldedConvolution) and op.source == SHIFTED)
    convolution, source = quantization.convolutions[operator.name], quantization.tensors[SHIFTED]
    codes = torch.randint(0, 256, (2, len(source.zero), 3, 3)).double()
    sums = torch.einsum("oi,bihw->bohw", convolution.weight[:, :, 0, 0].double(), source.differences(codes))
    scales = quantization.accumulator_scales(SHIFTED, convolution)
    real = sums * scales[:, None, None] + convolution.bias[:, None, None]
    weight = convolution.weight[:, :, 0, 0] * convolution.weight_scale[:, None]
    expected = torch.einsum("oi,bihw->bohw", weight, source.values(codes)) + operator.bias.double()[:, None, None]
    assert ((real - expected).abs() <= 0.501 * scales[:, None, None]).all()
    extent = calibration.extents[SHIFTED]
    whole = source.centre / (3 / (1 << quantization.convolutions[SHIFTED].fraction))
    torch.testing.assert_close(whole, whole.round())
    assert ((source.centre - (extent.low + extent.high) / 2).abs() <= source.steps / 8).all()  # units are a quarter of a step at most


def test_migration_leaves_depthwise_integers_alone(folded, calibration):
    """A filter is scaled by its channel's factor, and so is its scale."""
    with_it, without = (quantize(folded, BATCHES, calibration, Techniques(migration=flag)) for flag in (True, False))
    assert torch.equal(with_it.convolutions[SHIFTED].weight, without.convolutions[SHIFTED].weight)
    factors = with_it.tensors[MIGRATED].migration
    torch.testing.assert_close(with_it.convolutions[SHIFTED].weight_scale, without.convolutions[SHIFTED].weight_scale * factors)
    assert factors.min() < 0.9 and factors.max() > 1.1


@pytest.mark.parametrize("techniques", (Techniques(), Techniques(symmetric=True, bits=6, weight_bits=5)))
def test_formats(folded, calibration, techniques):
    quantization = quantize(folded, BATCHES, calibration, techniques)
    middle, top, limit = 1 << (techniques.bits - 1), (1 << techniques.bits) - 1, (1 << (techniques.weight_bits - 1)) - 1
    for name, tensor in quantization.tensors.items():
        limits = (tensor.low, tensor.high)
        if name in ("logits", "head.classifier.0"):
            assert limits == (-32768, 32767) and (tensor.zero == 0).all()
        elif name == "image":
            assert limits == (0, top) and tensor.zero.tolist() == {8: [124, 116, 104], 6: [31, 29, 26]}[techniques.bits]
        elif techniques.symmetric or name.endswith((".qkv", ".aggreg.0.1")):
            assert limits == (1, top) and (tensor.zero == middle).all(), name
        else:
            assert limits == (0, top) and (tensor.zero == tensor.zero[0]).all() and 0 <= tensor.zero[0] <= top
    largest = max(int(convolution.weight.abs().max()) for convolution in quantization.convolutions.values())
    assert largest == limit and (quantization.bits, quantization.weight_bits) == (techniques.bits, techniques.weight_bits)


def test_rounded_weights_replace_the_nearest(folded, calibration):
    plain = quantize(folded, BATCHES, calibration, Techniques())
    other = (plain.convolutions[SHIFTED].weight - 1).clamp_min(-127)
    again = quantize(folded, BATCHES, calibration, Techniques(), {SHIFTED: other})
    assert torch.equal(again.convolutions[SHIFTED].weight, other)
    assert torch.equal(again.convolutions[SHIFTED].weight_scale, plain.convolutions[SHIFTED].weight_scale)
    assert torch.equal(again.convolutions[MIGRATED].weight, plain.convolutions[MIGRATED].weight)


def test_hardswish_fractions():
    x = torch.tensor([-5.0, 0.5, 2.9, 3.0, 7.0])
    results = torch.nn.functional.hardswish(x)
    assert [representable.hardswish_argument(float(y)) for y in results] == pytest.approx([0, 0.5, 2.9, 3, 7], rel=1e-5)
    fractions = [representable.hardswish_fraction("layer", argument) for argument in (5.0, 19.1, 19.3, 38.5, 154.0, 307.0)]
    assert fractions == [12, 12, 11, 10, 8, 8]
    assert representable.hardswish_fraction("layer", 5.0, torch.tensor([0.01, 0.04])) == 10
    assert dataclasses.replace(Techniques(), bits=4).bits == 4
