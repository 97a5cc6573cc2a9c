"""Folding changes the form of the network, not its function."""

import dataclasses

import pytest
import torch

from model.configs import EFFICIENTVIT_CONFIGS
from model.errors import InputError
from model.nets.efficientvit import EfficientVit
from model.quant.folded import FoldedAttention, FoldedConvolution, fold, run, sources_of
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of


@pytest.mark.parametrize("config", (SMALL, dataclasses.replace(SMALL, image_size=28, mean=(0.3,), std=(0.4,), head_dim=16)))
def test_run_equals_the_float_network(config):
    """Borders too: padding is the real mean pixel, not its nearest byte."""
    net, images = network_of(config), torch.from_numpy(images_of(config, 6, seed=1))
    with torch.no_grad():
        expected = net.forward_bytes(images)
    torch.testing.assert_close(run(fold(net), images), expected, atol=2e-5, rtol=1e-4)


def test_observer_sees_the_tensors_of_the_network():
    net, images = network_of(), torch.from_numpy(images_of(SMALL, 2))
    expected, seen = {}, {}
    for name, module in net.named_modules():
        if name == "stem" or name.endswith((".context_module", ".local_module", ".depth_conv")):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: expected.__setitem__(name, output))
    with torch.no_grad():
        net.forward_bytes(images)
    run(fold(net), images, lambda name, tensor: seen.__setitem__(name, tensor))
    names = {"stem": "stem.res0.main.point_conv"}
    for name, tensor in expected.items():
        last = {"context_module": ".main.proj", "local_module": ".main.point_conv"}.get(name.rsplit(".", 1)[-1], "")
        torch.testing.assert_close(seen[names.get(name, name + last)], tensor, atol=2e-5, rtol=1e-4)
    assert next(iter(seen)) == "image" and list(seen)[-1] == "logits"
    assert seen["image"].shape == (2, 3, 30, 30) and seen["logits"].shape == (2, 7, 1, 1)


def test_operators_are_in_order_and_complete():
    net = EfficientVit(EFFICIENTVIT_CONFIGS["efficientvit_b1"])
    folded = fold(net)
    made = {"image"}
    for operator in folded.operators:
        assert made.issuperset(sources_of(operator)), operator.name
        made.add(operator.target)
    assert len(made) == len(folded.operators) + 1 == 86
    convolutions = [operator for operator in folded.operators if isinstance(operator, FoldedConvolution)]
    assert sum(operator.weight.numel() for operator in convolutions) == sum(p.numel() for p in net.parameters() if p.ndim > 1)
    assert sum(isinstance(operator, FoldedAttention) for operator in folded.operators) == 7
    assert sum(operator.shortcut is not None for operator in convolutions) == 1 + 1 + 2 + 2 * 7


def test_weights_that_are_not_finite_are_named():
    net = network_of()
    net.stages[0].blocks[1].main.depth_conv.norm.running_var[2] = torch.nan
    with pytest.raises(InputError, match=r"^weights must be finite: stages\.0\.blocks\.1\.main\.depth_conv\.norm\.running_var holds NaN"):
        fold(net)
