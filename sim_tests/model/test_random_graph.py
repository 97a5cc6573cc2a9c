"""Random graphs are worth simulating: at every size, every tensor spreads over its codes, few values saturate, no channel is dead."""

from collections.abc import Iterator

import numpy as np
import pytest

from model import data, integer, zoo
from model.bounds import check_graph
from model.graph import DeitGraph
from model.interpreter import interpret

#: Part of the range that lies between the 5th and the 95th percentile, at least; largest part at a bound; by number of bits.
SPANS, SATURATED = {4: 0.5, 6: 0.4, 8: 0.35}, {4: 0.08, 6: 0.03, 8: 0.015}
#: 16-bit tensors keep a margin above what is seen here, for other images and deeper networks.
WIDE_SPAN, WIDE_LARGEST = 0.08, 24576


def kind_of(name: str) -> str:
    return "residual" if "residual" in name else name.split(".")[-1]


def limits_of(name: str, bits: int) -> integer.Saturation:
    kind = kind_of(name)
    if kind in ("residual", "head", "head_distilled", "logits"):
        return integer.signed(integer.RESIDUAL_BITS)
    return integer.SIGNED8 if kind in ("q", "k", "v") else integer.unsigned(bits)


def tensors_of(graph: DeitGraph, source: str) -> Iterator[tuple[str, np.ndarray]]:
    """All but the input, for two images."""
    images, _ = data.load(source, "test", graph.shape, 2)
    yield from ((name, tensor) for name, tensor in interpret(graph, images).items() if name != "patches")


def used(tensor: np.ndarray) -> tuple[float, float]:
    """Distance of the 5th and 95th percentile, and part of the codes between them that occurs (of the values, where those are fewer)."""
    low, high = np.percentile(tensor, (5, 95))
    middle = tensor[(tensor >= low) & (tensor <= high)]
    return high - low, len(np.unique(middle)) / min(high - low + 1, middle.size)


def check_alive(graph: DeitGraph, source: str) -> None:
    bits = graph.shape.bits
    for name, tensor in tensors_of(graph, source):
        limits, (span, occurring) = limits_of(name, bits), used(tensor)
        wide = limits.high > 255
        assert occurring >= 0.5, name
        assert span >= (WIDE_SPAN if wide else SPANS[bits] if kind_of(name) != "attention" else 0.2) * (limits.high - limits.low), name
        # GELU is flat at its minimum, code 0: only the top is saturation there.
        bounds = (limits.high,) if kind_of(name) == "hidden" else (limits.low, limits.high)
        assert np.isin(tensor, bounds).mean() <= SATURATED[bits], name
        assert not wide or np.abs(tensor).max() < WIDE_LARGEST, name
        if tensor.ndim == 3:
            assert (np.ptp(tensor, axis=(0, 1)) == 0).mean() <= 0.02, name


@pytest.mark.parametrize(
    ("model", "bits", "source"),
    [
        ("deit_micro", 8, "random"),
        ("deit_micro", 4, "fashion-mnist"),
        ("deit_tiny", 8, "photos"),
        ("deit_tiny", 6, "random"),
        ("deit_tiny_distilled", 4, "photos"),
        ("deit_small", 8, "photos"),
        ("deit_base", 6, "photos"),
        ("deit_base_distilled", 8, "random"),
    ],
)
def test_every_tensor_is_alive(model, bits, source):
    check_alive(check_graph(zoo.load_graph(model, bits, "random:0")), source)


@pytest.mark.parametrize("seed", (1, 7, 99))
def test_any_seed(seed):
    check_alive(zoo.load_graph("deit_tiny", 8, f"random:{seed}"), "photos")


@pytest.mark.parametrize("bits", (1, 2))
def test_one_and_two_bits(bits):
    """A code is never rarer than one in twenty, but for the topmost of GELU's four; most channels vary."""
    for name, tensor in tensors_of(check_graph(zoo.load_graph("deit_tiny", bits, "random:0")), "photos"):
        if limits_of(name, bits).high == (1 << bits) - 1:
            counts = np.bincount(tensor.ravel(), minlength=1 << bits) / tensor.size
            assert counts.min() > (0.01 if kind_of(name) == "hidden" else 0.05), name
        else:
            assert tensor.std() > 30 and np.abs(tensor).max() < WIDE_LARGEST, name
        if tensor.ndim == 3:
            assert (np.ptp(tensor, axis=(0, 1)) == 0).mean() <= 0.25, name


def test_a_dead_layer_is_found():
    """The check can fail: a norm whose gamma is zero, a residual that saturates."""
    graph = zoo.load_graph("deit_micro", 8, "random:0")
    graph.layers[2].norm2.gamma[:] = 0
    with pytest.raises(AssertionError, match=r"2\.norm2"):
        check_alive(graph, "random")
    graph = zoo.load_graph("deit_micro", 8, "random:0")
    graph.positions[:, :20] = 32767
    with pytest.raises(AssertionError, match=r"residual\.embed"):
        check_alive(graph, "random")


def test_the_same_seed_gives_the_same_graph():
    first, again, other = (zoo.load_graph("deit_tiny_distilled", 8, f"random:{seed}") for seed in (0, 0, 1))
    assert (first.layers[3].fc2.codes == again.layers[3].fc2.codes).all() and (first.head_distilled.bias == again.head_distilled.bias).all()
    assert (first.layers[3].fc2.codes != other.layers[3].fc2.codes).any()
