"""AdaRound: the reconstruction error falls, and what comes out are integers beside the real weights, of every layer."""

import numpy as np
import pytest
import torch

from model.efficientvit.lower import lower
from model.errors import InputError
from model.quant.calibration import calibrate
from model.quant.folded import FoldedConvolution
from model.quant.ptq import Techniques, quantize
from model.quant.reconstruction import Rounding, reconstruct, unit_name, units, with_weights
from model.quant.representable import per_input
from sim_tests.model.efficientvit_networks import SMALL, images_of

IMAGES = images_of(SMALL, 12)
BATCHES = [IMAGES[:8], IMAGES[8:]]
TECHNIQUES = Techniques(weight_bits=4, constant_channels="keep")
ITERATIONS = 40


@pytest.fixture(scope="module")
def calibration(folded):
    return calibrate(folded, BATCHES, 12)


@pytest.fixture(scope="module")
def nearest(folded, calibration):
    return quantize(folded, BATCHES, calibration, TECHNIQUES)


@pytest.fixture(scope="module")
def reconstruction(nearest):
    return reconstruct(nearest, BATCHES, 12, ITERATIONS, seed=3)


def convolutions(folded):
    return {operator.name: operator for operator in folded.operators if isinstance(operator, FoldedConvolution)}


def test_units_are_residual_blocks_and_the_layers_outside(folded):
    names = [unit_name(unit[0]) for unit in units(folded)]
    assert names == [
        "stem.in_conv", "stem.res0", "stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0", "stages.1.blocks.1.context_module",
        "stages.1.blocks.1.local_module", "head.in_conv", "head.global_pool", "head.classifier.0", "head.classifier.1", "head.classifier.4",
    ]  # fmt: skip
    assert sum(map(len, units(folded))) == len(folded.operators)


def test_error_falls_at_four_bits(reconstruction):
    assert len(reconstruction.blocks) == 10
    ratios = {block.name: block.error / block.error_nearest for block in reconstruction.blocks}
    assert np.mean(list(ratios.values())) < 0.7 and max(ratios.values()) < 1, ratios


def test_integers_of_every_layer_within_one_step_of_floor(folded, nearest, reconstruction):
    """Those of depthwise and second pointwise layers are the integers of the migrated weights."""
    assert {"stages.0.blocks.1.main.depth_conv", "stages.0.blocks.1.main.point_conv"} <= set(reconstruction.rounded)
    changed = 0
    for name, integers in reconstruction.rounded.items():
        operator = convolutions(folded)[name]
        weight = operator.weight.double() * per_input(nearest.tensors[operator.source].migration, operator)
        floor = (weight / nearest.convolutions[name].weight_scale[:, None, None, None]).floor().clamp(-7, 7)
        step = integers - floor
        assert integers.dtype == torch.int32 and ((step == 0) | ((step == 1) & (integers <= 7))).all(), name
        changed += int((integers != nearest.convolutions[name].weight).sum())
    assert changed > 50


def test_rounding_begins_at_the_nearest(folded, nearest):
    for name, operator in convolutions(folded).items():
        rounding = Rounding(operator, nearest.convolutions[name], nearest.tensors[operator.source].migration, 4)
        torch.testing.assert_close(rounding.integers(), nearest.convolutions[name].weight, rtol=0, atol=0)
        torch.testing.assert_close(rounding.soft().weight, operator.weight, rtol=1e-4, atol=1e-5)


def test_biases_follow_as_in_the_engine(folded, calibration, nearest, reconstruction):
    """What the blocks are learnt with is what `quantize` makes of their weights, centres and all; and it can be lowered."""
    result = quantize(folded, BATCHES, calibration, TECHNIQUES, reconstruction.rounded)
    inside = with_weights(nearest, reconstruction.rounded)
    moved = 0
    for name, convolution in result.convolutions.items():
        torch.testing.assert_close(convolution.weight, inside.convolutions[name].weight, rtol=0, atol=0)
        torch.testing.assert_close(convolution.bias, inside.convolutions[name].bias, rtol=0, atol=0)
        moved += not torch.equal(convolution.bias, nearest.convolutions[name].bias)
    assert moved
    graph = lower(result)
    stored = {operator.name: operator for operator in graph.operators}
    for name, integers in reconstruction.rounded.items():
        np.testing.assert_array_equal(stored[name].weight, integers.numpy())


def test_the_same_seed_gives_the_same(nearest, reconstruction):
    again = reconstruct(nearest, BATCHES, 12, ITERATIONS, seed=3)
    assert again.blocks == reconstruction.blocks
    assert all(torch.equal(again.rounded[name], weight) for name, weight in reconstruction.rounded.items())


def test_too_few_images(nearest):
    with pytest.raises(InputError, match="calibration asks for 13 images: there are 12"):
        reconstruct(nearest, BATCHES, 13, 1)
