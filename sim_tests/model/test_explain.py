"""The diagnosis on a small network with one known fault, and its two renderings."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from model.efficientvit.graph import IMAGE, LOGITS
from model.quant.calibration import calibrate
from model.quant.explain import ABLATION, MOST_DB, PLAIN, decibels, explain, layer_noise
from model.quant.explain_page import page
from model.quant.explain_tables import as_text
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import FoldedConvolution, fold, run
from model.quant.ptq import Techniques, migrated_tensors, quantize, shifted_tensors
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

IMAGES = images_of(SMALL, 12)
BATCHES = [IMAGES[:8], IMAGES[8:]]
KEPT = Techniques(constant_channels="keep")
WIDE = "stages.0.blocks.1.main.inverted_conv"


@pytest.fixture(scope="module")
def folded():
    """One channel before a depthwise convolution is a hundred times as wide as it was."""
    network = fold(network_of())
    operators = list(network.operators)
    index = next(i for i, operator in enumerate(operators) if operator.name == WIDE)
    one, two = operators[index : index + 2]
    assert isinstance(one, FoldedConvolution) and isinstance(two, FoldedConvolution)
    gain = torch.ones(len(one.weight))
    gain[2] = 100
    operators[index] = dataclasses.replace(one, weight=one.weight * gain[:, None, None, None], bias=one.bias * gain)
    operators[index + 1] = dataclasses.replace(two, weight=two.weight / gain[:, None, None, None])
    return dataclasses.replace(network, operators=tuple(operators))


@pytest.fixture(scope="module")
def diagnosis(folded):
    labels = run(folded, torch.from_numpy(IMAGES)).argmax(-1).numpy()
    return explain(folded, BATCHES, KEPT, 12, labelled=(IMAGES, labels))


@pytest.fixture(scope="module")
def quantization(folded):
    return quantize(folded, BATCHES, calibrate(folded, BATCHES, 12), KEPT)


def test_noise_is_that_of_the_two_runs(folded, diagnosis, quantization):
    """Computed again from all images at once."""
    real, seen = {}, {}
    run(folded, torch.from_numpy(IMAGES), real.__setitem__)
    FakeQuantized(quantization)(torch.from_numpy(IMAGES), seen.__setitem__)
    assert list(diagnosis.layers) == [name for name in real if name != IMAGE]
    for name, noise in diagnosis.layers.items():
        x, difference = real[name].double(), seen[name].double() - real[name]
        assert noise.total == pytest.approx(min(150, 10 * float(torch.log10(x.square().sum() / difference.square().sum()))), abs=1e-4)
        centred = x - x.mean((0, 2, 3), keepdim=True)
        alive = centred.square().sum((0, 2, 3)) > 1e-9 * float(centred.square().sum((0, 2, 3)).max())
        channels = 10 * torch.log10(centred.square().sum((0, 2, 3)) / difference.square().sum((0, 2, 3)))[alive]
        assert noise.channel == pytest.approx(np.median(channels.clamp_max(150).numpy()), abs=1e-3)
        assert noise.own >= noise.channel - 8


def test_noise_takes_the_first_images_alone(quantization):
    assert layer_noise(quantization, BATCHES, 8) == layer_noise(quantization, BATCHES[:1], 99) != layer_noise(quantization, BATCHES, 12)


def test_the_fault_is_found_and_its_cure(folded, diagnosis):
    worst = min(diagnosis.ranges, key=lambda ranges: ranges.codes_before)
    assert worst.name == WIDE and worst.technique == "migration"
    assert worst.codes_before < 20 < 40 < worst.codes_after
    assert diagnosis.plain[WIDE].own < diagnosis.layers[WIDE].own - 12
    rows = {row.name: row.logits_db for row in diagnosis.ablation}
    assert rows["none"] < rows["CM"] - 3 and rows["FS"] < rows["CM + FS"] - 3


def test_every_row_and_every_transformed_tensor(folded, diagnosis):
    assert [row.name for row in diagnosis.ablation] == list(ABLATION) == list(diagnosis.noise)
    assert {ranges.name for ranges in diagnosis.ranges} == {*migrated_tensors(folded), *shifted_tensors(folded)}
    assert diagnosis.float_accuracy == 100 and all(0 <= row.accuracy <= 100 for row in diagnosis.ablation if row.accuracy is not None)
    assert diagnosis.plain == diagnosis.noise[PLAIN] and diagnosis.layers == diagnosis.noise["CM + FS, log2 divisors"]
    assert diagnosis.ablation[-1].logits_db == diagnosis.layers[LOGITS].total


def test_divisors_are_counted_in_steps_of_their_largest(diagnosis, folded):
    heads, pixels = SMALL.widths[-1] // SMALL.head_dim, 8 * 8
    for divisors in diagnosis.divisors:
        assert len(divisors.counts) + divisors.low == 8 or divisors.counts[-1] > 0  # 255 steps, unless the ratio is bounded
        assert 0 <= divisors.below(0) <= divisors.below(2) <= divisors.below(20) == 1
        assert divisors.counts.sum() % (12 * heads) == 0 and divisors.counts.sum() <= 12 * heads * pixels
        assert divisors.window[1] - divisors.window[0] == 15


def test_decibels_at_their_ends():
    assert decibels(100, 1) == pytest.approx(20) and decibels(0, 0) == 0 and decibels(1, 0) == MOST_DB


def test_text_has_every_layer_and_row(diagnosis):
    text = as_text(diagnosis)
    assert all(name in text for name in (*diagnosis.layers, *ABLATION, "float"))
    assert max(map(len, text.splitlines())) < 220


class _Outline(HTMLParser):
    """Tags that are open, and every attribute that could load something."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.shapes = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.shapes += tag in ("rect", "path")
        if tag not in ("meta", "rect", "line", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_page_is_whole_and_needs_nothing_else(diagnosis):
    html = page(diagnosis)
    outline = _Outline()
    outline.feed(html)
    assert not outline.open and not outline.links and outline.shapes > 50
    assert (
        not re.search(r"https?:|url\(|@import|<script", html) and "nan" not in html.lower() and "inf" not in re.findall(r'="([^"]*)"', html)
    )
    assert all(name in html for name in (*diagnosis.layers, *ABLATION)) and html == page(diagnosis)


def test_without_labels_the_rows_have_ratios_alone(folded, diagnosis, monkeypatch):
    rows = tuple(dataclasses.replace(row, accuracy=None) for row in diagnosis.ablation)
    unlabelled = dataclasses.replace(diagnosis, labelled=0, float_accuracy=None, ablation=rows)
    assert "no labelled" in as_text(unlabelled) and "None" not in as_text(unlabelled) + page(unlabelled)
    monkeypatch.setattr("model.quant.explain.ABLATION", {PLAIN: ABLATION[PLAIN]})
    measured = explain(folded, BATCHES, KEPT, 12)
    assert measured.float_accuracy is None and [row.accuracy for row in measured.ablation] == [None] and measured.plain == diagnosis.plain
