"""Training runs end to end on random images: every stage, kills, several processes, bad input."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model import lower, train, zoo
from model.configs import deit_config_of, efficientvit_config_of
from model.errors import InputError
from model.interpreter import logits_of
from model.nets.pretrained import float_network
from model.quant.packed import load_quantized
from model.training.images import Change, images_of
from model.training.loop import accuracy
from model.training.plan import Plan
from model.training.teacher import teacher_of

ROOT = Path(__file__).resolve().parents[2]
RANDOM = ("--source", "random", "--batch", "64")
RESULTS = ("r.pt", "r.npz", "r.quant.npz", "r.svg")


def run(*options: object) -> int:
    return train.main([*RANDOM, *map(str, options)])


def log_of(path: Path) -> list[dict[str, str]]:
    with path.open() as log:
        return [{name: word for name, word in row.items() if name != "seconds"} for row in csv.DictReader(log)]


def refused(capsys, message: str, *options: object) -> None:
    assert run(*options) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: {message}.*\n", said), said


def test_three_stages_to_a_graph(tmp_path, capsys):
    """The integer graph is the trained network's, and what a stage leaves is where the next begins."""
    out = tmp_path / "r.pt"
    assert run("--bits", 8, "--epochs", 1, 2, 1, "--mirror", "--shift", 1, "--test-every", 2, "--out", out) == 0
    assert capsys.readouterr().out.startswith("test accuracy ")
    rows = log_of(tmp_path / "r.csv")
    assert [(row["stage"], row["epoch"], row["bits"]) for row in rows] == [
        ("real", "1", "float"), ("binary", "1", "float"), ("binary", "2", "float"), ("quantized", "1", "8"),
    ]  # fmt: skip
    assert [float(row["binary_share"]) for row in rows] == [0, 0.5, 1, 1] and all(float(row["loss"]) < 4 for row in rows)
    assert [bool(row["test_accuracy"]) for row in rows] == [True, False, True, True]  # each stage's last
    graph = zoo.load_graph("deit_micro", 8, str(tmp_path / "r.npz"))
    images = next(images_of("random", "test", graph.shape, 0, "refuse", 1).parts())[0]
    with torch.no_grad():
        expected = load_quantized(tmp_path / "r.quant.npz")(images).numpy()
    assert np.corrcoef(expected.ravel(), logits_of(graph, images.numpy()).ravel())[0, 1] > 0.99
    again = tmp_path / "again.npz"
    assert lower.main(["--start", str(out), "--out", str(again), "--source", "random"]) == 0
    np.testing.assert_array_equal(logits_of(graph, images.numpy()), logits_of(zoo.load_graph("deit_micro", 8, str(again)), images.numpy()))


def test_stages_one_by_one_are_the_same_run(tmp_path):
    whole, first, last = (tmp_path / name for name in ("r.pt", "first.pt", "last.pt"))
    assert run("--bits", 8, "--epochs", 1, 1, 1, "--out", whole) == 0
    assert run("--epochs", 1, 1, 0, "--out", first) == 0
    assert run("--bits", 8, "--epochs", 0, 0, 1, "--start", first, "--out", last) == 0
    a, b = (torch.load(path, weights_only=True)["state"] for path in (whole, last))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert log_of(whole.with_suffix(".csv")) == log_of(first.with_suffix(".csv")) + log_of(last.with_suffix(".csv"))


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "model.train", *RANDOM, *map(str, options)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def test_killed_in_mid_epoch(tmp_path, monkeypatch):
    """SIGKILL while a checkpoint of the second epoch stands, then the same command: the same bytes as without."""
    options = ("--batch", 128, "--bits", 2, "--epochs", 1, 0, 2, "--mirror", "--shift", 1, "--save-seconds", 0, "--out", "r.pt")
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
    killed = folders[0] / "r.pt"
    process = subprocess.Popen(command(*options), cwd=folders[0], env=environment(), stderr=subprocess.DEVNULL)
    try:
        position = wait_for(killed, lambda progress: progress["stage"] == 1 and progress["step"] >= 2, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert position["step"] > 0 and not (folders[0] / "r.npz").exists()
    for folder in folders:
        monkeypatch.chdir(folder)
        assert run(*options) == 0
    for name in RESULTS:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    assert log_of(folders[0] / "r.csv") == log_of(folders[1] / "r.csv")
    assert sorted(path.name for path in folders[0].iterdir()) == sorted((*RESULTS, "r.csv"))


def wait_for(path: Path, reached, process: subprocess.Popen) -> dict:
    """The progress that a checkpoint holds, once it is where it should be."""
    for _ in range(3000):
        if path.exists() and reached(progress := torch.load(path, weights_only=True)["progress"]):
            return progress
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.01)
    raise AssertionError("never got there")


def test_a_finished_run_trains_nothing_again(tmp_path, capsys):
    out = tmp_path / "r.pt"
    assert run("--epochs", 0, 0, 1, "--out", out) == 0
    before, said = out.read_bytes(), capsys.readouterr().out
    (tmp_path / "r.npz").unlink()
    assert run("--epochs", 0, 0, 1, "--out", out) == 0
    assert out.read_bytes() == before and (tmp_path / "r.npz").exists() and capsys.readouterr().out == said
    message = "a run goes on with the options it began with: .*seed is 0 there and 1 now; remove it or give another --out"
    refused(capsys, message, "--seed", 1, "--epochs", 0, 0, 1, "--out", out)


def test_a_teacher_is_learned(tmp_path, monkeypatch):
    """With the teacher alone, the student's answers come closer to it; its answers are kept, and the same with and without the file."""
    monkeypatch.setenv("POPVIT_CACHE", str(tmp_path / "cache"))
    teacher = zoo.CHECKPOINTS / "efficientvit_micro.safetensors"
    options = ("--teacher", teacher, "--teacher-model", "efficientvit_micro", "--distill", 1, "--epochs", 0, 0, 3)
    assert run(*options, "--out", tmp_path / "a.pt") == 0
    losses = [float(row["loss"]) for row in log_of(tmp_path / "a.csv")]
    assert losses[-1] < 0.8 * losses[0] and len(list((tmp_path / "cache" / "teachers").iterdir())) == 1
    assert run(*options, "--out", tmp_path / "b.pt") == 0
    assert log_of(tmp_path / "a.csv") == log_of(tmp_path / "b.csv")


def test_a_mirrored_image_has_the_teachers_answer_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("POPVIT_CACHE", str(tmp_path / "cache"))
    path = str(zoo.CHECKPOINTS / "efficientvit_micro.safetensors")
    plan = Plan(
        epochs=(0, 0, 1), learning_rates=(1e-3,) * 3, source="random", mirror=True, teacher=path, teacher_model="efficientvit_micro"
    )
    images = images_of("random", "train", deit_config_of("deit_micro"), 0, "refuse", 1)
    for _ in range(2):  # computed, then kept
        teacher = teacher_of(plan, images, in_memory=True, device=torch.device("cpu"))
        index, flags = torch.tensor([3, 1, 2, 5]), torch.tensor([True, False, False, True])
        batch, _ = images.read(index, Change(shift=torch.zeros(2, 4, dtype=torch.long), mirrored=flags))
        assert teacher is not None
        with torch.no_grad():
            torch.testing.assert_close(teacher.logits(batch, index, flags), teacher.network.forward_bytes(batch))


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    """Up to the order of float sums: real-valued, where rounding does not make small differences large."""
    options = ("--epochs", 2, 0, 0)
    assert run(*options, "--out", tmp_path / "one.pt") == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "model.train"]
    subprocess.run(
        [*launcher, *RANDOM, *map(str, options), "--out", "two.pt"], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True)["state"] for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=2e-3)
    assert [row["stage"] for row in log_of(tmp_path / "two.csv")] == ["real", "real"]


def test_processes_must_share_a_batch(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "3")
    refused(capsys, "batch must be a multiple of the number of processes: 64 is not of 3; use --batch 66", "--out", tmp_path / "r.pt")


def test_an_efficientvit_in_float(tmp_path, capsys):
    """BatchNorm's statistics are part of the result; a second run continues from the first, and stores the network alone."""
    out, network = tmp_path / "e.pt", tmp_path / "f.safetensors"
    common = ("--model", "efficientvit_micro", "--epochs", 1, 0, 0, "--batch", 256)
    assert run(*common, "--out", out) == 0
    stored = torch.load(out, weights_only=True)
    assert (stored["model"], stored["bits"]) == ("efficientvit_micro", "float")
    assert stored["state"]["net.stem.in_conv.norm.running_mean"].abs().max() > 0
    assert run(*common, "--start", out, "--out", network) == 0
    assert load_file(network)["stem.in_conv.norm.num_batches_tracked"] == 4
    test_set = images_of("random", "test", efficientvit_config_of("efficientvit_micro"), 0, "refuse", 1)
    last = float(log_of(tmp_path / "f.csv")[-1]["test_accuracy"])
    forward = float_network("efficientvit_micro", str(network)).forward_bytes
    assert accuracy(forward, test_set, torch.device("cpu")) == pytest.approx(last, abs=0.01)
    refused(capsys, "an EfficientViT has the first stage alone: ", "--model", "efficientvit_micro", "--out", out)
    refused(capsys, "a quantized run must not be stored as .safetensors: ", "--out", network)


def test_a_folder_of_pictures(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 4)):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (30, 30), dtype=np.uint8)).save(tmp_path / split / label / f"{number}.png")
    bad = tmp_path / "train" / "b" / "7.png"
    bad.write_bytes(b"no picture")
    options = ("--source", tmp_path, "--epochs", 0, 0, 1, "--out", tmp_path / "r.pt")
    refused(capsys, f"a training picture must be a whole picture: {bad} is not", *options)
    assert run(*options, "--broken", "skip") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"skipped: a training picture must be a whole picture: {bad} is not")
    assert said[-1] == "1 broken pictures were skipped" and (tmp_path / "r.npz").exists()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("training needs labels: photos have none", ("--source", "photos")),
        (r"an image folder must hold train/CLASS/\* with 1 to 10 classes: nowhere has 0", ("--source", "nowhere")),
        ("bits must be 1..8: 9 is not", ("--bits", 9)),
        ("epochs must be whole numbers, not all 0", ("--epochs", 0, 0, 0)),
        ("epochs must be whole numbers, not all 0", ("--epochs", 1, -1, 0)),
        ("batch must be at least 1: 0 is not", ("--batch", 0)),
        ("learning-rate must be above 0 and finite: nan is not", ("--learning-rate", 1, 1, "nan")),
        ("distill must be from 0 to 1: 2.0 is not", ("--distill", 2)),
        ("model must be one of deit_micro", ("--model", "deit_mini")),
        (r"--out must end in .pt or .safetensors: .*\.npz does not", ("--out", "x.npz")),
        ("a teacher must take the student's images", ("--teacher", "t.safetensors", "--teacher-model", "deit_tiny")),
        ("--test-every must be at least 1: 0 is not", ("--test-every", 0)),
        ("a checkpoint must exist: t.safetensors does not", ("--teacher", "t.safetensors")),
        ("a training checkpoint must come from model.train: nothing.pt does not", ("--start", "nothing.pt")),
        ("the loss must stay finite: it is nan in step 1 of the real stage", ("--learning-rate", 1e30, 1, 1)),
        ("a batch must not be larger than the training set: 1000 is larger than 512", ("--batch", 1000)),
    ],
)
def test_bad_options(message, options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, message, *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", (0, 100, 20000))
def test_truncated_checkpoints(part, tmp_path, capsys):
    out = tmp_path / "r.pt"
    assert run("--epochs", 1, 0, 0, "--out", out) == 0
    out.write_bytes(out.read_bytes()[:part])
    capsys.readouterr()
    rule = f"a training checkpoint must come from model.train: {out} does not"
    refused(capsys, re.escape(rule), "--epochs", 1, 0, 0, "--out", out)
    refused(capsys, re.escape(rule), "--epochs", 1, 0, 0, "--start", out, "--out", tmp_path / "s.pt")
    assert lower.main(["--start", str(out), "--out", str(tmp_path / "g.npz")]) == 2


def test_the_checkpoint_itself_is_no_graph(tmp_path):
    """``--checkpoint`` takes what lies beside it, and says so."""
    assert run("--epochs", 0, 0, 1, "--out", tmp_path / "r.pt") == 0
    with pytest.raises(InputError, match=r"^a float checkpoint must hold tensors alone: .* is of model.train; give .* r.npz$"):
        zoo.load_graph("deit_micro", 8, str(tmp_path / "r.pt"))
    assert zoo.load_graph("deit_micro", 8, str(tmp_path / "r.npz")).shape.bits == 8


def test_a_float_run_is_not_lowered(tmp_path, capsys):
    assert run("--epochs", 1, 0, 0, "--out", tmp_path / "f.pt") == 0
    assert lower.main(["--start", str(tmp_path / "f.pt"), "--out", str(tmp_path / "g.npz")]) == 2
    assert capsys.readouterr().err.startswith("error: lowering needs a quantized network: ")


@pytest.mark.parametrize(("step", "expected"), [(0, 1 / 300), (299, 1.0), (10000, 0.0)])
def test_learning_rate(step, expected):
    plan = Plan(epochs=(0, 0, 1), learning_rates=(9.0, 9.0, 1.0))
    assert plan.learning_rate("quantized", step, 10000) == pytest.approx(expected, abs=3e-3)
