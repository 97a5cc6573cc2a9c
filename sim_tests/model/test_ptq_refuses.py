"""What quantization refuses, and what it keeps when asked."""

import pytest
import torch

from model.errors import InputError
from model.quant.calibration import calibrate
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import FoldedNetwork, fold, run
from model.quant.ptq import Techniques, quantize
from sim_tests.model.efficientvit_networks import network_of
from sim_tests.model.quantized import ATTENTION, BATCHES, IMAGES, sqnr


@pytest.mark.parametrize(
    ("wrong", "message"),
    (
        ({"bits": 3}, r"^bits must be 4\.\.8: 3 is not; choose 8, 6 or 4$"),
        ({"weight_bits": 9}, r"^weight_bits must be 4\.\.8: 9 is not"),
        ({"divisor": "log3"}, r"^divisor must be one of log2, log2_8bit, uniform, exact: 'log3' is not; choose one of these$"),
        ({"activation_range": "max"}, r"^activation_range must be one of mse, minmax: 'max' is not"),
        ({"constant_channels": "drop"}, r"^constant_channels must be one of refuse, keep: 'drop' is not"),
    ),
)
def test_wrong_techniques_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        Techniques(**wrong)


def test_constant_channels_are_named_or_kept():
    net = network_of()
    layer = net.stages[0].blocks[1].main.inverted_conv
    with torch.no_grad():
        layer.norm.weight[[3, 5]] = 0
    folded = fold(net)
    calibration = calibrate(folded, BATCHES, 16)
    message = (
        r"^channels must vary over the calibration images: 2 of 32 of stages\.0\.blocks\.1\.main\.inverted_conv do not \(3, 5\); give more"
    )
    with pytest.raises(InputError, match=message):
        quantize(folded, BATCHES, calibration, Techniques())
    kept = quantize(folded, BATCHES, calibration, Techniques(constant_channels="keep"))
    assert sqnr(run(folded, torch.from_numpy(IMAGES)), FakeQuantized(kept)(torch.from_numpy(IMAGES))) > 5


def folded_without_keys(*heads: int) -> FoldedNetwork:
    """Keys of these heads are 0; a head has 8 channels of q, of k and of v."""
    net = network_of()
    weight = net.stages[1].blocks[1].context_module.main.qkv.conv.weight
    with torch.no_grad():
        for head in heads:
            weight[head * 24 + 8 : head * 24 + 16] = 0
    return fold(net)


def test_a_tensor_of_zeros_is_named():
    net = network_of()
    with torch.no_grad():
        net.head.classifier[0].weight.zero_()
    folded = fold(net)
    with pytest.raises(InputError, match=r"^a tensor must vary over the calibration images: head\.classifier\.0 is 0 on all of them"):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())


def test_divisors_of_zero_are_named():
    """Keys that are never positive."""
    folded = folded_without_keys(0, 1)
    name = r"stages\.1\.blocks\.1\.context_module\.main\.attention scale 0"
    with pytest.raises(InputError, match=rf"^divisors must not all be zero over the calibration images: those of {name} are"):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())


def test_one_head_without_keys_is_quantized():
    folded = folded_without_keys(0)
    quantization = quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())
    seen = {}
    FakeQuantized(quantization)(torch.from_numpy(IMAGES), lambda name, tensor: seen.__setitem__(name, tensor))
    assert (seen[ATTENTION][:, :8].abs() <= quantization.tensors[ATTENTION].scale / 2).all() and seen[ATTENTION][:, 8:16].any()


def test_arguments_beyond_16_bits_are_named():
    net = network_of()
    with torch.no_grad():
        net.stages[0].blocks[1].main.depth_conv.norm.weight.mul_(1000)
    folded = fold(net)
    with pytest.raises(
        InputError, match=r"^Hardswish's argument must stay below 1229: that of stages\.0\.blocks\.1\.main\.depth_conv reaches"
    ):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())
