"""The shipped networks: accuracy of the integer graph on the test set, against its target and its fake-quantized network."""

import re

import numpy as np
import pytest

from model import data, zoo
from model.evaluate import evaluate, fake_quantized_accuracy, percent_correct
from model.interpreter import interpret, logits_of

TARGETS = {8: 90.0, 6: 89.5, 4: 88.5}
MOST_LOST = 0.5


def accuracies(bits: int, count: int) -> tuple[float, float]:
    """Percent: integer, fake-quantized."""
    graph, metadata = zoo.load_graph_and_metadata("deit_micro", bits)
    images, labels = (part[:count] for part in data.fashion_mnist("test"))
    exact = percent_correct(logits_of(graph, images), labels)
    modelled = fake_quantized_accuracy(metadata["source"], images, labels)
    assert modelled is not None
    return exact, modelled


def check_full(bits: int) -> None:
    """The README states what is measured; a few tied logits may differ by the machine's float arithmetic in the second figure only."""
    exact, modelled = accuracies(bits, 10000)
    assert exact >= TARGETS[bits] and abs(exact - modelled) <= MOST_LOST
    readme = (zoo.CHECKPOINTS / "README.md").read_text(encoding="utf-8")
    stated = re.search(rf"w1a{bits}.npz`.*bits \| ([\d.]+) \| ([\d.]+) \|", readme)
    assert stated and float(stated[1]) == exact and float(stated[2]) == pytest.approx(modelled, abs=0.05)


def test_eight_bits_on_all_test_images():
    check_full(8)


@pytest.mark.slow
@pytest.mark.parametrize("bits", (6, 4))
def test_few_bits_on_all_test_images(bits):
    check_full(bits)


@pytest.mark.parametrize("bits", (6, 4))
def test_few_bits_on_a_slice(bits):
    """Two thousand images: one point of slack for the sample."""
    exact, modelled = accuracies(bits, 2000)
    assert exact >= TARGETS[bits] - 1 and abs(exact - modelled) <= 2 * MOST_LOST


@pytest.mark.parametrize("bits", TARGETS)
def test_nothing_saturates_or_dies(bits):
    tensors = interpret(zoo.load_graph("deit_micro", bits), data.fashion_mnist("test")[0][:50])
    for name, tensor in tensors.items():
        if "residual" in name or name == "logits":
            assert np.abs(tensor).max() < 32767 and tensor.std() > 50, name


@pytest.mark.slow
def test_efficientvit_on_all_test_images():
    """The README states what is measured."""
    result = evaluate("efficientvit_micro", 8, None, None, None)
    assert result["images"] == 10000 and abs(result["accuracy"] - result["float_accuracy"]) <= 0.3
    readme = (zoo.CHECKPOINTS / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"iterations of reconstruction for each block: ([\d.]+) %", readme)
    assert stated and float(stated[1]) == result["accuracy"]


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in zoo.CHECKPOINTS.iterdir()) < 2_500_000
