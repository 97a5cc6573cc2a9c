"""Training runs end to end on random images, from float to few bits, and says no to bad starts."""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model import data, lower, train
from model.checkpoint import load_graph
from model.configs import efficientvit_config_of
from model.interpreter import logits_of
from model.nets.pretrained import float_network


def test_float_then_quantized_then_lowered(tmp_path, capsys):
    float_run, quantized_run, graph = tmp_path / "float.pt", tmp_path / "w1a4.pt", tmp_path / "g.npz"
    common = ["--source", "random", "--epochs", "1", "--batch", "256"]
    assert train.main([*common, "--bits", "float", "--augment", "1", "--out", str(float_run)]) == 0
    assert train.main([*common, "--bits", "4", "--start", str(float_run), "--out", str(quantized_run)]) == 0
    with (tmp_path / "w1a4.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert len(rows) == 1 and rows[0]["bits"] == "4" and float(rows[0]["loss"]) < 4
    assert lower.main(["--start", str(quantized_run), "--out", str(graph), "--source", "random"]) == 0
    loaded, metadata = load_graph(graph)
    assert metadata == {"seed": 0, "epoch": 0}
    assert logits_of(loaded, np.zeros((1, 28, 28, 1), np.uint8)).shape == (1, 10)
    assert (tmp_path / "g.quant.npz").exists()
    assert lower.main(["--start", str(float_run), "--out", str(graph)]) == 2
    assert capsys.readouterr().err.startswith("error: lowering needs a quantized network: ")


def test_the_same_seed_gives_the_same_network(tmp_path):
    runs = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for run in runs:
        train.main(["--source", "random", "--epochs", "1", "--batch", "512", "--seed", "3", "--out", str(run)])
    first, again = (torch.load(run, weights_only=True)["state"] for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_an_efficientvit_in_float(tmp_path, capsys):
    """BatchNorm's statistics are part of the result; a second run continues from the first, and stores the network alone."""
    out, network = tmp_path / "e.pt", tmp_path / "f.safetensors"
    common = ["--model", "efficientvit_micro", "--bits", "float", "--source", "random", "--epochs", "1", "--batch", "256"]
    assert train.main([*common, "--out", str(out)]) == 0
    stored = torch.load(out, weights_only=True)
    assert (stored["model"], stored["bits"]) == ("efficientvit_micro", "float")
    assert stored["state"]["net.stem.in_conv.norm.running_mean"].abs().max() > 0
    assert train.main([*common, "--start", str(out), "--out", str(network)]) == 0
    assert load_file(network)["stem.in_conv.norm.num_batches_tracked"] == 4
    last = float((tmp_path / "f.csv").read_text().splitlines()[-1].split(",")[4])
    test_set = data.load("random", "test", efficientvit_config_of("efficientvit_micro"))
    assert train.accuracy(float_network("efficientvit_micro", str(network)).forward_bytes, *test_set) == pytest.approx(last, abs=0.01)
    assert train.main(["--model", "efficientvit_micro", "--bits", "8", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: model must be one of deit_micro, deit_tiny")
    assert train.main(["--bits", "8", "--out", str(network)]) == 2
    assert capsys.readouterr().err.startswith("error: a quantized run must not be stored as .safetensors: ")


def test_photos_cannot_be_trained_on(capsys):
    with pytest.raises(SystemExit) as exit_:
        train.main(["--source", "photos"])
    assert exit_.value.code == 2 and "invalid choice: 'photos'" in capsys.readouterr().err


def test_bad_start(tmp_path, capsys):
    (tmp_path / "x.pt").write_bytes(b"no checkpoint")
    assert train.main(["--source", "random", "--start", str(tmp_path / "x.pt"), "--out", str(tmp_path / "y.pt")]) == 2
    assert capsys.readouterr().err.startswith("error: a training checkpoint must come from model.train")


def test_augmentation_shifts_and_mirrors():
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 1] = 9
    augmented = train.Augmented(image, np.array([4]), 1)
    torch.manual_seed(0)
    batch, labels = augmented.batch(torch.zeros(200, dtype=torch.long))
    found = {tuple(place) for place in batch[..., 0].nonzero()[:, 1:].tolist()}
    assert found == {(y, x) for y in (1, 2, 3) for x in (0, 1, 2, 3, 4)}
    assert batch.shape == (200, 5, 5, 1) and set(labels.tolist()) == {4}


@pytest.mark.parametrize(("step", "expected"), [(0, 1 / 300), (299, 1.0), (10000, 0.0)])
def test_learning_rate(step, expected):
    assert train.learning_rate_factor(step, 10000) == pytest.approx(expected, abs=3e-3)
