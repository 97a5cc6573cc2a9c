"""The stress network: accuracy in float as it was, plain quantization broken, the engine not; and what each pathology leaves as it was."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import data, zoo
from model.efficientvit.interpreter import logits_of
from model.efficientvit.lower import lower
from model.evaluate import percent_correct, torch_accuracy
from model.nets.efficientvit import LiteMLA, MBConv
from model.nets.pretrained import float_network
from model.quant import stress
from model.quant.calibration import calibrate
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import fold
from model.quant.ptq import Techniques, migrated_tensors, quantize, shifted_tensors
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

CHECKPOINT = zoo.CHECKPOINTS / "efficientvit_micro_stress.safetensors"
PLAIN = Techniques(migration=False, shifting=False, divisor="uniform")
CALIBRATION = 128


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(images_of(SMALL, 8))


@pytest.fixture(scope="module")
def shipped():
    return float_network("efficientvit_micro", str(CHECKPOINT))


def quantized(net, techniques, count):
    """Calibrated on the first of the test images, which are shipped."""
    folded, calibration_images = fold(net), [data.fashion_mnist("test")[0][:count]]
    return quantize(folded, calibration_images, calibrate(folded, calibration_images, count), techniques)


def first_block(net):
    return next(module for module in net.modules() if isinstance(module, MBConv))


def changed(net, images, change):
    """(before, after): what the first MBConv makes of its input, and that it is fed with."""
    made = copy.deepcopy(net)
    inputs = []
    hook = first_block(net).register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    net.forward_bytes(images)
    hook.remove()
    change(made, first_block(made))
    return first_block(net)(inputs[0]), first_block(made)(inputs[0])


@torch.no_grad()
def test_offsets_are_undone_where_hardswish_was_linear(images):
    """A channel whose argument is above 3 already: nothing changes but rounding."""
    net = network_of()
    first_block(net).depth_conv.norm.bias[3] += 60

    def change(made, block):
        argument = stress.arguments_of(made, [block.depth_conv], images)[0]
        value = functional.hardswish(argument)
        argument[:, torch.arange(argument.shape[1]) != 3] -= 1000  # dead: the one that is left is chosen
        assert stress.offset(block, argument, spans=100 / float((value.amax((0, 2, 3)) - value.amin((0, 2, 3))).median())) == 3

    before, after = changed(net, images, change)
    assert float((before - after).abs().max()) < 1e-3 * float(before.abs().max())


@torch.no_grad()
def test_widened_channels_lose_little_and_range_wide(images):
    net, gain = network_of(), 32.0
    chosen = []

    def change(made, block):
        chosen.extend(stress.widen(block, stress.arguments_of(made, [block.inverted_conv], images)[0], gain, 2))
        seen = functional.hardswish(stress.arguments_of(made, [block.inverted_conv], images)[0]).amax((0, 2, 3))
        assert float(seen[chosen].min()) > 10 * float(seen.median())

    before, after = changed(net, images, change)
    assert len(set(chosen)) == 2 and 0 < float((before - after).square().mean()) < 0.01 * float(before.square().mean())


@torch.no_grad()
def test_gains_of_heads_cancel_and_spread_the_divisors(images):
    net = network_of()
    made = copy.deepcopy(net)
    for attention in (module for module in made.modules() if isinstance(module, LiteMLA)):
        attention.epsilon = 1e-15
        stress.spread(attention, 1 / 32, 0)
    for attention in (module for module in net.modules() if isinstance(module, LiteMLA)):
        attention.epsilon = 1e-15
    before, after = net.forward_bytes(images), made.forward_bytes(images)
    assert float((before - after).abs().max()) < 1e-4 * float(before.abs().max())
    calibrations = [calibrate(fold(each), [images.numpy()], 8).attentions for each in (net, made)]
    for name, scales in calibrations[0].items():
        for a, b in zip(scales, calibrations[1][name], strict=True):
            expected = a.divisor / torch.tensor([1.0] + [32.0] * (len(a.divisor) - 1))
            np.testing.assert_allclose(b.divisor, expected, rtol=1e-4)


def test_shipped_network_has_all_three(shipped):
    assert CHECKPOINT.stat().st_size < 1_000_000
    folded = fold(shipped)
    calibration = calibrate(folded, [data.fashion_mnist("test")[0][:64]], 64)
    for name in migrated_tensors(folded):
        assert float(calibration.extents[name].high.max()) > 8 * float(calibration.extents[name].high.median()), name
    for name in shifted_tensors(folded):
        extent = calibration.extents[name]
        offset = int(extent.high.argmax())
        assert float(extent.low[offset]) > 3 * float((extent.high - extent.low).median()), name
    for scales in calibration.attentions.values():
        for scale in scales:
            counts = scale.divisor_counts.sum(0).nonzero().flatten()
            assert int(counts.max() - counts.min()) > 8 * 10  # eighths of an octave


def test_collapse_and_cure_on_a_slice(shipped):
    images, labels = (part[-500:] for part in data.fashion_mnist("test"))
    accuracy = torch_accuracy(shipped.forward_bytes, images, labels)
    plain, full = (torch_accuracy(FakeQuantized(quantized(shipped, t, CALIBRATION)), images, labels) for t in (PLAIN, Techniques()))
    assert accuracy > 90 and plain < 65 and full > accuracy - 2.5


@pytest.mark.slow
def test_collapse_and_cure_on_all_test_images(shipped):
    """Calibrated on test images here, for they are shipped; the benchmark uses training images."""
    images, labels = data.fashion_mnist("test")
    plain_net = float_network("efficientvit_micro")
    before, after = (torch_accuracy(net.forward_bytes, images, labels) for net in (plain_net, shipped))
    assert abs(after - before) <= 0.3
    broken = torch_accuracy(FakeQuantized(quantized(shipped, PLAIN, 512)), images, labels)
    cured = percent_correct(logits_of(lower(quantized(shipped, Techniques(), 512)), images, batch=200), labels)
    assert broken < 60 and cured > after - 1.0


@pytest.mark.slow
def test_command_makes_the_shipped_network(tmp_path, shipped, capsys):
    if not data.DEBIAN_FOLDER.exists():
        pytest.skip("training images are not installed")
    assert stress.main(["--out", str(tmp_path / "again.safetensors")]) == 0
    again = float_network("efficientvit_micro", str(tmp_path / "again.safetensors")).state_dict()
    for name, tensor in shipped.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-4, atol=1e-4)


def test_command_refuses_in_one_line(tmp_path, capsys):
    assert stress.main(["--checkpoint", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
