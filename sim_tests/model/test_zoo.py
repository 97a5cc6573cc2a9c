"""Networks by name, and the evaluation command with its errors."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model import data, evaluate, zoo
from model.checkpoint import save_graph
from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, efficientvit_config_of
from model.efficientvit import checkpoint as efficientvit_checkpoint
from model.efficientvit.random_graph import random_graph as random_efficientvit_graph
from model.errors import InputError

TOKENS = {"deit_micro": 17, "deit_micro_wide": 17, **{f"deit_{size}": 197 for size in ("tiny", "small", "base")},
          **{f"deit_{size}_distilled": 198 for size in ("tiny", "small", "base")}}  # fmt: skip


def test_models_are_both_families():
    assert list(zoo.MODELS) == [*CONFIGS, *EFFICIENTVIT_CONFIGS]


@pytest.mark.parametrize("model", CONFIGS)
def test_shapes(model):
    shape = zoo.shape_of(model, 6)
    assert (shape.tokens, shape.bits, shape.name) == (TOKENS[model], 6, model)
    assert shape.head_dim == (16 if model.startswith("deit_micro") else 64)


@pytest.mark.parametrize(
    ("model", "bits", "source", "said"),
    [
        ("resnet", 8, None, f"model must be one of {', '.join(zoo.MODELS)}, or a .toml file: 'resnet' is not; choose one of these"),
        ("deit_micro", 0, None, "bits must be 1..8: 0 is not; choose 8, 6 or 4"),
        ("efficientvit_b1", 3, None, "bits of efficientvit_b1 must be 4..8: 3 is not; choose 8, 6 or 4"),
        ("efficientvit_b1", 8, "random:-1", "random:SEED needs a whole number: '-1' is not; try random:0"),
        ("deit_micro", 8, "random:x", "random:SEED needs a whole number: 'x' is not; try random:0"),
    ],
)
def test_errors(model, bits, source, said):
    with pytest.raises(InputError) as error:
        zoo.load_graph(model, bits, source)
    assert str(error.value) == said


def test_checkpoint_of_another_network(tmp_path):
    save_graph(tmp_path / "g.npz", zoo.load_graph("deit_micro", 4, "random:0"))
    with pytest.raises(InputError, match="the checkpoint must be deit_micro with 8 bits"):
        zoo.load_graph("deit_micro", 8, str(tmp_path / "g.npz"))


def test_without_a_checkpoint_the_graph_is_random():
    assert zoo.load_graph_and_metadata("deit_tiny", 2)[1] == {"source": "random:0"}


def save_efficientvit(path, **metadata):
    """efficientvit_micro's shape, named like a B network."""
    graph = random_efficientvit_graph(efficientvit_config_of("efficientvit_micro"), 6, 1, 7)
    efficientvit_checkpoint.save_graph(path, dataclasses.replace(graph, name="efficientvit_b1_r224"), metadata)
    return str(path)


def test_efficientvit_by_seed_and_file(tmp_path):
    graph, metadata = zoo.load_graph_and_metadata("efficientvit_micro", 5, "random:7")
    assert (graph.name, graph.bits, graph.weight_bits, metadata) == ("efficientvit_micro", 5, 8, {"source": "random:7"})
    assert zoo.load_graph_and_metadata("efficientvit_micro", 4)[1] == {"source": "random:0"}
    path = save_efficientvit(tmp_path / "g.npz", network="net.pt")
    for name in ("efficientvit_b1", "efficientvit_b1_r224"):
        graph, metadata = zoo.load_graph_and_metadata(name, 6, path)
        assert graph.weight_bits == 7 and metadata == {"source": path, "network": "net.pt"}
    for name, bits in (("efficientvit_b1_r256", 6), ("efficientvit_b1", 8)):
        with pytest.raises(InputError, match=rf"the checkpoint must be {name} with {bits} bits: .* is efficientvit_b1_r224 with 6;"):
            zoo.load_graph(name, bits, path)


def test_the_other_familys_file(tmp_path):
    path = save_efficientvit(tmp_path / "g.npz")
    with pytest.raises(InputError, match="format must be popvit-graph-1"):
        zoo.load_graph("deit_micro", 6, path)
    with pytest.raises(InputError, match="format must be popvit-efficientvit-2"):
        zoo.load_graph("efficientvit_micro", 8, str(zoo.shipped_path("deit_micro", 8)))


def test_float_efficientvit_is_quantized_with_photos(capsys):
    network = str(zoo.CHECKPOINTS / "efficientvit_micro.safetensors")
    graph, metadata = zoo.load_graph_and_metadata("efficientvit_micro", 7, network)
    assert (graph.name, graph.bits, graph.weight_bits) == ("efficientvit_micro", 7, 8) and metadata["source"] == network
    assert "activations calibrated on 32 photos" in metadata["conversion"] and "not claimed" in capsys.readouterr().err


def test_shipped_efficientvit(capsys):
    """A slice: the integer graph within a point and a half of the float network; all images are measured by a slow test."""
    assert evaluate.main(["--model", "efficientvit_micro", "--images", "300", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == ["model", "bits", "images", "accuracy", "float_accuracy", "seconds"]
    assert result["float_accuracy"] > 89 and abs(result["accuracy"] - result["float_accuracy"]) <= 1.5
    graph, metadata = zoo.load_graph_and_metadata("efficientvit_micro", 8)
    assert graph.name == "efficientvit_micro" and metadata["network"] == "efficientvit_micro.safetensors"


def test_where_the_float_network_is(tmp_path):
    beside = tmp_path / "net.pt"
    graph = {"source": str(tmp_path / "g.npz"), "network": "net.pt"}
    assert evaluate.float_source(graph) is None
    beside.write_bytes(b"")
    assert evaluate.float_source(graph) == str(beside)
    assert evaluate.float_source({**graph, "network": "random:3"}) == "random:3"
    assert evaluate.float_source({"source": "random:3"}) is None
    assert evaluate.float_source({"source": "some.safetensors"}) == "some.safetensors"


def test_evaluate_prints_its_keys(capsys):
    assert evaluate.main(["--bits", "3", "--images", "20"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [key for key, _ in lines] == ["model", "bits", "images", "accuracy", "float_accuracy", "seconds"]
    assert dict(lines)["float_accuracy"] == "none"
    assert evaluate.main(["--bits", "3", "--images", "20", "--json", "--source", "random"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20


def test_photos_have_no_accuracy(capsys):
    assert evaluate.main(["--model", "deit_tiny_distilled", "--bits", "4", "--images", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == "deit_tiny_distilled" and result["images"] == 2
    assert result["accuracy"] is None and result["float_accuracy"] is None


@pytest.mark.parametrize(("count", "said"), [("0", "images must be at least 1: 0 is not"), ("65", "images must be at most 64: 65 is not")])
def test_image_counts(count, said, capsys):
    assert evaluate.main(["--source", "photos", "--images", count]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}; leave it out for all of them")


def test_evaluate_errors_are_one_line_without_traceback():
    for arguments in (["--model", "x"], ["--images", "0"], ["--checkpoint", "nowhere.npz"], ["--bits", "77"], ["--source", "y"]):
        done = subprocess.run(
            [sys.executable, "-m", "model.evaluate", *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "error:" in done.stderr.splitlines()[-1]


def test_shipped_test_set():
    images, labels = data.fashion_mnist("test")
    assert images.shape == (10000, 28, 28, 1) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1000] * 10


def test_missing_set_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv(data.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"is missing: apt-get install dataset-fashion-mnist, or set POPVIT_FASHION_MNIST$"):
        data.fashion_mnist("train")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(InputError, match="is damaged"):
        data.fashion_mnist("test")


def test_fashion_mnist_needs_its_shape():
    with pytest.raises(InputError, match="fashion-mnist is 28x28x1: deit_tiny takes 224x224x3; use --source photos"):
        data.load("fashion-mnist", "test", zoo.shape_of("deit_tiny", 8))
