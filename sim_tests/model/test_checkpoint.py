"""Checkpoints: round trip, size, and one-line errors for files that are damaged, foreign or of another shape."""

import dataclasses
import json

import numpy as np
import pytest

from model import zoo
from model.bounds import linears, norms
from model.checkpoint import load_graph, save_graph
from model.errors import InputError
from model.random_graph import random_graph


@pytest.fixture
def graph():
    return zoo.load_graph("deit_micro", 4, "random:5")


@pytest.fixture
def distilled(graph):
    return random_graph(dataclasses.replace(graph.shape, distilled=True), 6)


@pytest.fixture
def path(graph, tmp_path):
    save_graph(tmp_path / "g.npz", graph, {"seed": 5})
    return tmp_path / "g.npz"


def test_distilled_round_trip(distilled, tmp_path):
    save_graph(tmp_path / "d.npz", distilled, {"seed": 6})
    again, metadata = load_graph(tmp_path / "d.npz")
    assert metadata == {"seed": 6} and again.shape.distilled and "head_distilled" in dict(linears(again))
    assert_same(distilled, again)
    rewrite(tmp_path / "d.npz", **{"head_distilled.codes": None})
    with pytest.raises(InputError, match=r"checkpoint tensor head_distilled.codes must be uint8 \(10, 64\): found nothing"):
        load_graph(tmp_path / "d.npz")


def test_round_trip(graph, path):
    again, metadata = load_graph(path)
    assert metadata == {"seed": 5}
    assert_same(graph, again)


def assert_same(graph, again):
    assert again.shape == graph.shape
    np.testing.assert_array_equal(again.positions, graph.positions)
    for (name, layer), (_, other) in zip(linears(graph), linears(again), strict=True):
        for field in dataclasses.fields(layer):
            np.testing.assert_array_equal(getattr(layer, field.name), getattr(other, field.name), err_msg=f"{name}.{field.name}")
    for (_, norm), (_, other) in zip(norms(graph), norms(again), strict=True):
        assert (norm.gamma == other.gamma).all() and (norm.beta == other.beta).all()
    for layer, other in zip(graph.layers, again.layers, strict=True):
        names = ("dividend", "score_multiplier", "score_shift")
        assert [getattr(layer, name) for name in names] == [getattr(other, name) for name in names]


def test_same_graph_same_bytes(graph, path, tmp_path):
    save_graph(tmp_path / "again.npz", graph, {"seed": 5})
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()
    assert path.stat().st_size < 100_000


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message and isinstance(error.value, ValueError)
    return message


@pytest.mark.parametrize("keep", (0, 10, 1000, 30000, -200, -1))
def test_truncated_files(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(InputError) as error:
        load_graph(path)
    assert "must be a whole .npz file" in one_line(error)


def test_damaged_bytes_never_escape_as_anything_else(path):
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 60).tolist():
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            load_graph(path)
        except InputError as error:
            assert "\n" not in str(error)


def test_foreign_files(path, tmp_path):
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", header=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, said in (
        ("text.npz", "must be a whole .npz file"),
        ("other.npz", "format must be popvit-graph-1"),
        ("pickle.npz", "must be a whole .npz file"),
        ("array.npy", "must be a whole .npz file"),
        ("missing.npz", "a checkpoint must exist"),
    ):
        with pytest.raises(InputError) as error:
            load_graph(tmp_path / name)
        assert said in one_line(error)


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def test_wrong_tensors_and_constants(path):
    original = path.read_bytes()
    for changes, said in (
        ({"2.fc2.codes": np.zeros((64, 31), np.uint8)}, r"checkpoint tensor 2.fc2.codes must be uint8 \(64, 32\): found uint8 \(64, 31\)"),
        ({"norm.gamma": np.zeros(64)}, r"checkpoint tensor norm.gamma must be int16 \(64,\): found float64"),
        ({"head.bias": None}, r"checkpoint tensor head.bias must be int32 \(10,\): found nothing; lower the network again"),
        ({"patch.shift": np.full(64, 13, np.uint8)}, r"patch shift must be one of \(12, 16, 20, 24\): \[13\] does not"),
        ({"0.fc1.table": np.full(256, 16, np.uint8)}, r"0.fc1 table must lie in \[0, 15\]: 16 does not"),
    ):
        path.write_bytes(original)
        rewrite(path, **changes)
        with pytest.raises(InputError, match=said):
            load_graph(path)


@pytest.mark.parametrize("change", ({"embed_dim": 0}, {"embed_dim": "64"}, {"heads": 7}, {"bits": 9}, {"extra": 1}, {"distilled": 1}))
def test_wrong_shapes(path, change):
    with np.load(path) as archive:
        header = json.loads(archive["header"].item())
    header["shape"].update(change)
    rewrite(path, header=np.array(json.dumps(header)))
    with pytest.raises(InputError, match="a checkpoint's shape must have positive dimensions"):
        load_graph(path)
