"""The lowering arrow: the integer graph computes what the fake-quantized network computes."""

import dataclasses

import numpy as np
import pytest
import torch

from model import integer
from model.bounds import check_graph
from model.configs import CONFIGS, DeiTConfig
from model.errors import InputError
from model.interpreter import interpret
from model.lower import lower
from model.quant.deit import QuantDeiT
from model.quant.packed import load_quantized, save_quantized
from model.quant.quantizers import BinaryWeight
from sim_tests.model.networks import SMALL, images_of, quantized

DISTILLED = dataclasses.replace(SMALL, name="small_distilled", distilled=True)


def both_logits(bits: int, config: DeiTConfig = SMALL) -> tuple[np.ndarray, np.ndarray]:
    network, images = quantized(bits, config), images_of(SMALL, 100, seed=1)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy().astype(np.float64)
    got = interpret(lower(network, images_of(SMALL, 64)), images)["logits"].astype(np.float64)
    return expected, got * (expected * got).sum() / (got * got).sum()


@pytest.mark.parametrize(("bits", "correlation"), [(8, 0.999), (7, 0.999), (6, 0.997), (5, 0.99), (4, 0.98), (3, 0.95), (2, 0.9), (1, 0.8)])
def test_logits_follow_the_fake_quantized_network(bits, correlation):
    """Rounding ties move single codes; what a code weighs grows as the bits shrink, and so does the tolerance."""
    expected, got = both_logits(bits)
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > correlation


@pytest.mark.parametrize(("bits", "correlation"), [(8, 0.999), (6, 0.997), (4, 0.98), (1, 0.8)])
def test_distilled_logits_follow_the_fake_quantized_network(bits, correlation):
    expected, got = both_logits(bits, DISTILLED)
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > correlation


def head_logits(network: QuantDeiT, images: torch.Tensor) -> list[torch.Tensor]:
    x = network.embed(images)
    for quant, block in network.pairs():
        x = quant(x, block, False)
    return network.head_logits(x)


def test_each_head_of_a_distilled_network_follows_its_own():
    """Swapped heads or tokens would leave the sum of a symmetric network almost as it is; the parts tell them apart. One scale for both."""
    network, images = quantized(8, DISTILLED), images_of(SMALL, 100, seed=1)
    tensors = interpret(lower(network, images_of(SMALL, 64)), images)
    with torch.no_grad():
        parts = [part.numpy().astype(np.float64) for part in head_logits(network, torch.from_numpy(images))]
    scales = []
    for name, part in zip(("head", "head_distilled"), parts, strict=True):
        got = tensors[name].astype(np.float64)
        assert np.corrcoef(part.ravel(), got.ravel())[0, 1] > 0.999, name
        scales.append((part * got).sum() / (got * got).sum())
    assert scales[0] == pytest.approx(scales[1], rel=0.01)
    assert np.abs(tensors["logits"]).max() < 32767


@pytest.mark.parametrize("config", (SMALL, DISTILLED))
def test_eight_bits_follow_the_float_network(config):
    """With weights that are binary already, 8 bits lose little: tokens and heads are where the float network, hence timm, has them."""
    network = quantized(8, config)
    images = torch.from_numpy(images_of(config, 64))
    with torch.no_grad():
        for _, block in network.pairs():
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                layer.weight.copy_(BinaryWeight()(layer.weight))
        network(images, calibrating=True)
        got, expected = network(images), network.net.forward_bytes(images)
    assert np.corrcoef(got.numpy().ravel(), expected.numpy().ravel())[0, 1] > 0.99
    assert (got - expected).std() < 0.15 * expected.std()


def test_eight_bit_logits_are_close():
    expected, got = both_logits(8)
    assert np.abs(expected - got).max() < 0.12 * expected.std()
    assert (expected.argmax(1) == got.argmax(1)).mean() >= 0.97


def test_first_tensors_are_equal_up_to_ties():
    """Before errors add up: patches are the same, norm1 codes differ by at most one, in few places."""
    network, images = quantized(8), images_of(SMALL, 20, seed=2)
    tensors = interpret(lower(network, images_of(SMALL, 64)), images)
    torch_patches = network.patches(torch.from_numpy(images)).numpy()
    np.testing.assert_array_equal(tensors["patches"], torch_patches)
    with torch.no_grad():
        x, block = network.embed(torch.from_numpy(images)), network.net.blocks[0]
        real = torch.nn.functional.layer_norm(x, (SMALL.embed_dim,), block.norm1.weight, block.norm1.bias, 1e-6)
        quant = network.blocks[0].norm1
        codes = quant.codes(real / quant.step + quant.zero).numpy()
    difference = np.abs(codes - tensors["0.norm1"])
    assert difference.max() <= 1 and (difference > 0).mean() < 0.1


def test_constants_that_do_not_fit_are_named():
    graph = lower(quantized(4), images_of(SMALL, 16))
    bias = graph.patch.bias.copy()
    bias[3] = 1 << 26
    with pytest.raises(InputError, match=r"^patch bias must lie in \[-67108864, 67108863\]: 67108864 does not; retrain"):
        check_graph(dataclasses.replace(graph, patch=dataclasses.replace(graph.patch, bias=bias)))
    bias[3] = (1 << 26) - 1
    with pytest.raises(InputError, match=r"^patch accumulator \+ bias must lie in"):
        check_graph(dataclasses.replace(graph, patch=dataclasses.replace(graph.patch, bias=bias)))
    norm = dataclasses.replace(graph.norm, gamma=graph.norm.gamma + 40000)
    with pytest.raises(InputError, match=r"^norm gamma must lie in \[-32768, 32767\]"):
        check_graph(dataclasses.replace(graph, norm=norm))
    layer = dataclasses.replace(graph.layers[1], dividend=1 << integer.ATTENTION_DIVIDEND_BITS)
    with pytest.raises(InputError, match=r"^1 dividend must lie in \[1, 4294967295\]: 4294967296 does not"):
        check_graph(dataclasses.replace(graph, layers=(graph.layers[0], layer)))


@pytest.mark.parametrize("config", (SMALL, DISTILLED))
def test_packed_network_round_trip(config, tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGS, config.name, config)
    network, images = quantized(4, config), torch.from_numpy(images_of(config, 30))
    save_quantized(tmp_path / "n.npz", network)
    with torch.no_grad():
        first, again = network(images), load_quantized(tmp_path / "n.npz")(images)
    assert (first.argmax(1) == again.argmax(1)).float().mean() >= 0.96
    np.savez(tmp_path / "foreign.npz", a=1)
    with pytest.raises(InputError, match="a fake-quantized network must come from save_quantized"):
        load_quantized(tmp_path / "foreign.npz")
