"""Progressive binarization: which weights are binary, and what they are worth."""

import pytest
import torch

from model.configs import deit_config_of
from model.nets.deit import DeiT
from model.quant.deit import QuantDeiT
from model.quant.quantizers import BinaryWeight
from model.training.networks import PartlyBinaryNetwork, RealNetwork, binary_layers, network_of
from model.training.plan import Plan, binary_share
from sim_tests.model.networks import SMALL, images_of


def network(seed: int = 0) -> PartlyBinaryNetwork:
    torch.manual_seed(5)
    return PartlyBinaryNetwork(DeiT(SMALL), seed)


def binary_ones(partly: PartlyBinaryNetwork) -> dict[str, torch.Tensor]:
    weights = dict(binary_layers(partly.net))
    return {name: weight != weights[name.removesuffix(".weight")].weight for name, weight in partly.mixed().items()}


def test_every_encoder_layer_becomes_binary_and_no_other():
    names = {name for name, _ in binary_layers(DeiT(SMALL))}
    assert names == {f"blocks.{block}.{layer}" for block in range(SMALL.depth) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}


def test_the_binary_set_only_grows():
    partly, before = network(), None
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        partly.share = share
        now = binary_ones(partly)
        for name, ones in now.items():
            assert abs(float(ones.float().mean()) - share) < 0.01
            assert before is None or bool((ones >= before[name]).all())
        before = now


def test_binary_weights_have_the_scale_of_their_row():
    partly = network()
    partly.share = 0.5
    for (name, mixed), (_, layer) in zip(partly.mixed().items(), binary_layers(partly.net), strict=True):
        ones = mixed != layer.weight
        torch.testing.assert_close(mixed[ones], BinaryWeight()(layer.weight)[ones])
        assert name.endswith(".weight") and bool(ones.any()) and not bool(ones.all())


def test_gradients_reach_real_and_binary_weights():
    partly = network()
    partly.share = 0.5
    partly(torch.from_numpy(images_of(SMALL, 4))).square().sum().backward()
    assert all(float((layer.weight.grad != 0).float().mean()) > 0.9 for _, layer in binary_layers(partly.net))


def test_nothing_and_everything_binary():
    partly, images = network(), torch.from_numpy(images_of(SMALL, 4))
    with torch.no_grad():
        torch.testing.assert_close(partly(images), RealNetwork(partly.net)(images))
        partly.share = 1.0
        binary = partly(images)
        for _, layer in binary_layers(partly.net):
            layer.weight.copy_(BinaryWeight()(layer.weight))
        torch.testing.assert_close(binary, RealNetwork(partly.net)(images))


def test_the_order_is_the_seed_s():
    first, again, other = (binary_ones_at_half(seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def binary_ones_at_half(seed: int) -> dict[str, torch.Tensor]:
    partly = network(seed)
    partly.share = 0.5
    return binary_ones(partly)


@pytest.mark.parametrize(("stage", "step", "share"), [("real", 7, 0.0), ("binary", 0, 0.1), ("binary", 9, 1.0), ("quantized", 0, 1.0)])
def test_share(stage, step, share):
    assert binary_share(stage, step, 10) == pytest.approx(share)


def test_modules_of_the_stages():
    plan, net = Plan(epochs=(1, 1, 1), learning_rates=(1e-3,) * 3), DeiT(deit_config_of("deit_micro"))
    kinds = [type(network_of(stage, plan, net)) for stage in plan.stages()]
    assert kinds == [RealNetwork, PartlyBinaryNetwork, QuantDeiT]
