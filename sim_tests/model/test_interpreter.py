"""The fast interpreter against Python integers, and the health of random graphs."""

import dataclasses

import numpy as np
import pytest

from model import integer, zoo
from model.bounds import check_graph
from model.errors import InputError
from model.graph import DeitShape, Linear
from model.interpreter import attention, exact_matmul, interpret
from model.random_graph import random_graph
from sim_tests.model.slow_reference import logits as slow_logits

TINY = {
    "name": "tiny",
    "image_size": 6,
    "channels": 3,
    "patch_size": 2,
    "embed_dim": 12,
    "depth": 2,
    "heads": 3,
    "hidden_dim": 20,
    "classes": 5,
}


@pytest.mark.parametrize("distilled", (False, True))
@pytest.mark.parametrize("bits", range(1, 9))
def test_equals_python_integers(bits, distilled):
    graph = check_graph(random_graph(DeitShape(bits=bits, distilled=distilled, **TINY), seed=bits))
    images = np.random.default_rng(bits).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    fast = interpret(graph, images)["logits"]
    assert fast.tolist() == [slow_logits(graph, image.tolist()) for image in images]


def test_names_shapes_and_single_image():
    graph = zoo.load_graph("deit_micro", 4, "random:3")
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    batch, single = interpret(graph, images), interpret(graph, images[1])
    per_layer = ("norm1", "q", "k", "v", "attention", "residual1", "norm2", "hidden", "residual2")
    assert list(single) == ["patches", "residual.embed", *(f"{i}.{name}" for i in range(4) for name in per_layer), "norm", "logits"]
    for name, tensor in single.items():
        np.testing.assert_array_equal(tensor, batch[name][1])
    assert single["patches"].shape == (16, 49) and single["0.hidden"].shape == (17, 256) and single["norm"].shape == (64,)


def loud(head: Linear) -> Linear:
    return dataclasses.replace(head, multiplier=np.full_like(head.multiplier, 65535), shift=np.full_like(head.shift, 12))


def test_distilled_tensors_and_saturation():
    """Each head saturates alone, then their sum; the second head reads the second token."""
    graph = random_graph(DeitShape(bits=8, distilled=True, **{**TINY, "classes": 40}), seed=2)
    images = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)
    assert graph.head_distilled is not None and graph.positions.shape == (11, 12)
    graph = dataclasses.replace(graph, head=loud(graph.head), head_distilled=loud(graph.head_distilled))
    tensors = interpret(graph, images)
    assert list(tensors)[-6:] == ["1.residual2", "norm", "norm_distilled", "head", "head_distilled", "logits"]
    head, distilled = tensors["head"], tensors["head_distilled"]
    opposed, agreed = (head == 32767) & (distilled == -32768), (head == 32767) & (distilled == 32767)
    assert opposed.any() and agreed.any()
    assert (tensors["logits"][opposed] == -1).all() and (tensors["logits"][agreed] == 32767).all()
    assert tensors["logits"].tolist() == [slow_logits(graph, image.tolist()) for image in images]
    np.testing.assert_array_equal(
        tensors["norm_distilled"], integer.layernorm(tensors["1.residual2"][:, 1], graph.norm.gamma, graph.norm.beta, 8)
    )
    np.testing.assert_array_equal(tensors["residual.embed"][0, :2], graph.positions[:2])


def test_head_distilled_belongs_to_distilled_networks():
    graph = random_graph(DeitShape(bits=8, distilled=True, **TINY), seed=2)
    with pytest.raises(InputError, match="exactly the distilled networks must have head_distilled: tiny does not; lower the network again"):
        check_graph(dataclasses.replace(graph, head_distilled=None))


def test_attention_equals_the_contract_per_head():
    graph = zoo.load_graph("deit_micro", 8, "random:1")
    shape, layer = graph.shape, graph.layers[0]
    q, k, v = np.random.default_rng(2).integers(-127, 128, (3, 2, shape.tokens, shape.embed_dim))
    out = attention(q, k, v, layer, shape)
    for head in range(shape.heads):
        part = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
        one = [
            integer.attention(*(t[i][:, part] for t in (q, k, v)), layer.score_multiplier, layer.score_shift, layer.dividend, 8)
            for i in (0, 1)
        ]
        np.testing.assert_array_equal(out[:, :, part], one)


def test_exact_matmul_at_the_extremes():
    a, b = np.full((1, 3072), 255), np.full((3072, 1), 255)
    assert exact_matmul(a, b, 3072 * 255 * 255) == 3072 * 255 * 255
    with pytest.raises(OverflowError):
        exact_matmul(a, b, 1 << 53)


def test_wrong_images_are_refused():
    graph = zoo.load_graph("deit_micro", 8, "random:0")
    with pytest.raises(InputError, match=r"takes uint8 images of shape \(28, 28, 1\): uint8 \(28, 28\) is not"):
        interpret(graph, np.zeros((28, 28), np.uint8))
