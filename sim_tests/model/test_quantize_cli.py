"""python -m model.quantize: the file and the summary it makes, and one line for everything that is wrong, with nothing written."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from model import quantize, zoo
from model.configs import EFFICIENTVIT_CONFIGS
from model.efficientvit import checkpoint
from model.efficientvit.interpreter import logits_of
from model.nets.efficientvit import EfficientVit
from model.quant import explain, explain_page
from model.quant.convert import convert_efficientvit
from model.quant.folded import run
from model.quant.ptq import Techniques
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

BLOCK = "stages.1.blocks.1"


@pytest.fixture(scope="module")
def net() -> EfficientVit:
    return network_of()


@pytest.fixture
def files(tmp_path, net, monkeypatch):
    """A network that has a name here, its file, and calibration images with labels."""
    monkeypatch.setitem(EFFICIENTVIT_CONFIGS, SMALL.name, SMALL)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    np.savez(tmp_path / "images.npz", images=images_of(SMALL, 12), labels=np.arange(12) % SMALL.classes)
    return tmp_path


def words(files, *more):
    return ["--model", SMALL.name, "--checkpoint", str(files / "net.safetensors"), "--calibration", str(files / "images.npz"),
            "--images", "8", "--out", str(files / "out" / "graph.npz"), "--constant-channels", "keep", *more]  # fmt: skip


def summary_of(files, capsys, *more):
    assert quantize.main(words(files, *more, "--json")) == 0
    return json.loads(capsys.readouterr().out)


def test_graph_and_summary(files, net, capsys):
    summary = summary_of(files, capsys)
    assert {
        "model": "small",
        "network": "net.safetensors",
        "bits": 8,
        "weight_bits": 8,
        "images": 8,
        "calibration": "images.npz",
    }.items() <= summary.items()
    graph, metadata = checkpoint.load_graph(files / "out" / "graph.npz")
    assert (graph.name, graph.bits, graph.weight_bits) == ("small", 8, 8) and metadata["network"] == "net.safetensors"
    images = images_of(SMALL, 12)
    techniques = Techniques(constant_channels="keep")
    expected = convert_efficientvit(net, [images[:8]], 8, techniques)
    np.testing.assert_array_equal(logits_of(graph, images), logits_of(expected.graph, images))
    assert [path.name for path in (files / "out").iterdir()] == ["graph.npz"]
    right = run(expected.folded, torch.from_numpy(images)).argmax(1).numpy() == np.arange(12) % SMALL.classes
    assert summary["float_accuracy"] == round(100 * right.mean(), 2) and 0 <= summary["accuracy"] <= 100


def test_explanation(files, capsys, monkeypatch):
    """Two rows of the ablation are enough here."""
    monkeypatch.setattr(explain, "ABLATION", {name: explain.ABLATION[name] for name in (explain.PLAIN, "CM + FS, log2 divisors")})
    monkeypatch.setattr(explain_page, "_verdict", lambda diagnosis: "")
    assert quantize.main(words(files, "--explain")) == 0
    printed = capsys.readouterr().out
    assert "CM + FS" in printed and f"{BLOCK}.local_module.main.depth_conv" in printed and "explanation" in printed
    assert sorted(path.name for path in (files / "out").iterdir()) == ["graph.html", "graph.npz"]
    assert "<svg" in (files / "out" / "graph.html").read_text(encoding="utf-8")
    page = str(files / "elsewhere" / "page.html")
    assert summary_of(files, capsys, "--explain", page)["explanation"] == page and (files / "elsewhere" / "page.html").exists()


def test_every_option_arrives(files, capsys, monkeypatch):
    given = {}

    def convert(net, batches, images, techniques, iterations):
        given.update(techniques=techniques, iterations=iterations)
        return convert_efficientvit(net, batches, images, techniques)

    monkeypatch.setattr(quantize, "convert_efficientvit", convert)
    summary_of(files, capsys, "--bits", "6", "--weight-bits", "5", "--without", "migration", "--divisor", "exact", "--symmetric",
               "--reconstruct", "7")  # fmt: skip
    assert given["techniques"] == Techniques(
        bits=6, weight_bits=5, migration=False, divisor="exact", symmetric=True, constant_channels="keep"
    )
    assert given["iterations"] == 7
    summary_of(files, capsys, "--without", "shifting", "--without", "migration")
    assert not given["techniques"].shifting and not given["techniques"].migration and given["iterations"] == 0


def test_reconstruction_is_in_the_graph(files, capsys):
    nearest = summary_of(files, capsys, "--weight-bits", "4")
    before, _ = checkpoint.load_graph(nearest["out"])
    learnt = summary_of(files, capsys, "--weight-bits", "4", "--reconstruct", "8")
    after, metadata = checkpoint.load_graph(learnt["out"])
    assert 0 < learnt["reconstruction_error"] < 0.9 and metadata["reconstruct"] == 8
    assert learnt["logits_sqnr_db"] > nearest["logits_sqnr_db"]
    assert any(
        not np.array_equal(a.weight, b.weight) for a, b in zip(before.operators, after.operators, strict=True) if hasattr(a, "weight")
    )


def test_without_json_one_line_each(files, capsys):
    assert quantize.main(words(files)) == 0
    keys = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert keys[:3] == ["model", "network", "bits"] and {"mean_sqnr_db", "logits_sqnr_db", "accuracy", "seconds", "out"} <= set(keys)


# -- what is refused ----------------------------------------------------------------------------------------------------------------------


def refused(files, capsys, said, *more):
    """One line, exit 2, nothing written; a graph from before stays."""
    out = files / "out" / "graph.npz"
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(b"from before")
    assert quantize.main(words(files, *more)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1 and printed.err.startswith("error: ")
    assert said in printed.err, printed.err
    assert [path.name for path in out.parent.iterdir()] == ["graph.npz"] and out.read_bytes() == b"from before"


def store(files, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, files / "net.safetensors")


def changed(net, name, values):
    state = {key: value.clone() for key, value in net.state_dict().items()}
    state[name] = values(state[name])
    return state


def test_microsofts_network(files, capsys):
    store(files, {"blocks1.0.mixer.m.attn.qkvs.0.c.weight": torch.zeros(3)})
    refused(files, capsys, "must be of MIT's EfficientViT")


def test_missing_and_foreign_tensors(files, net, capsys):
    state = dict(net.state_dict())
    store(files, {name: tensor for name, tensor in state.items() if name != "head.classifier.4.bias"})
    refused(files, capsys, "checkpoint tensor head.classifier.4.bias of small must be (7,)")
    store(files, state | {"head.extra": torch.zeros(1)})
    refused(files, capsys, "head.extra")


def test_nan_in_weights(files, net, capsys):
    store(files, changed(net, "head.classifier.0.weight", lambda w: torch.full_like(w, torch.nan)))
    refused(files, capsys, "checkpoint tensor head.classifier.0.weight must be finite")


def test_nan_in_images(files, capsys):
    np.save(files / "nan.npy", np.full((8, SMALL.image_size, SMALL.image_size, 3), np.nan, np.float32))
    refused(files, capsys, "calibration images must be finite", "--calibration", str(files / "nan.npy"))


def test_constant_channel(files, net, capsys):
    name = f"{BLOCK}.local_module.main.inverted_conv.conv"
    state = changed(net, f"{name}.weight", lambda w: w * (torch.arange(len(w)) != 3)[:, None, None, None])
    store(files, state)
    said = f"1 of 64 of {BLOCK}.local_module.main.inverted_conv do not (3)"
    refused(files, capsys, said, "--constant-channels", "refuse")
    assert quantize.main(words(files)) == 0


def test_divisors_all_zero(files, net, capsys):
    """The keys of every head, rows d ... 2d - 1 of its 3d, are 0."""
    width = SMALL.head_dim
    state = changed(
        net, f"{BLOCK}.context_module.main.qkv.conv.weight",
        lambda w: w * (torch.arange(len(w)) // width % 3 != 1)[:, None, None, None],
    )  # fmt: skip
    store(files, state)
    refused(files, capsys, f"divisors must not all be zero over the calibration images: those of {BLOCK}.context_module.main.attention")


def test_too_few_images_and_a_corrupt_one(files, capsys):
    refused(files, capsys, "calibration asks for 13 images", "--images", "13")
    folder = files / "pictures"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(images_of(SMALL, 1, number)[0]).save(folder / f"{number}.png")
    refused(files, capsys, "calibration asks for 9 images", "--calibration", str(folder), "--images", "9")
    (folder / "5.png").write_bytes(b"\x89PNG broken")
    refused(files, capsys, f"a calibration image must be a whole picture: {folder / '5.png'} is not", "--calibration", str(folder))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model", "deit_micro"), "model must be one of efficientvit_micro"),
        (("--checkpoint", "nowhere.safetensors"), "a checkpoint must exist"),
        (("--checkpoint", "random:x"), "random:SEED needs a whole number"),
        (("--calibration", "nowhere"), "nowhere does not exist; give one of these"),
        (("--bits", "3"), "bits must be 4..8: 3 is not"),
        (("--weight-bits", "9"), "weight_bits must be 4..8: 9 is not"),
        (("--without", "luck"), "--without must be one of migration, shifting: 'luck' is not"),
        (("--divisor", "sqrt"), "divisor must be one of log2"),
        (("--constant-channels", "x"), "constant_channels must be one of refuse, keep"),
        (("--reconstruct", "-1"), "--reconstruct must be at least 0"),
        (("--images", "0"), "calibration images must be at least 1"),
        (("--explain", "page.txt"), "--explain must be an .html file: page.txt is not"),
        (("--out", "graph.txt"), "--out must be an .npz file: graph.txt is not"),
    ],
)
def test_bad_words(more, said, files, capsys):
    refused(files, capsys, said, *more)


def test_unwritable_folder(files, capsys):
    (files / "plain").write_text("a file")
    refused(files, capsys, "choose another path with --out", "--out", str(files / "plain" / "graph.npz"))


def test_interrupted_writing_leaves_what_was_there(files, monkeypatch):
    out = files / "out" / "graph.npz"
    out.parent.mkdir()
    out.write_bytes(b"from before")

    def fail(path, graph, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize, "save_graph", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize.main(words(files))
    assert [path.name for path in out.parent.iterdir()] == ["graph.npz"] and out.read_bytes() == b"from before"


def test_usage_errors_are_one_line(capsys):
    with pytest.raises(SystemExit) as done:
        quantize.main(["--model", SMALL.name, "--images", "many"])
    printed = capsys.readouterr().err
    assert done.value.code == 2 and len(printed.splitlines()) == 1 and "--images" in printed


def test_names_of_networks():
    assert quantize.network_name("efficientvit_b1", None) == "random:0"
    assert quantize.network_name("efficientvit_micro", None) == "efficientvit_micro.safetensors"
    assert quantize.network_name("efficientvit_b1", "folder/net.pt") == "net.pt"
    assert (zoo.CHECKPOINTS / "efficientvit_micro.safetensors").exists()
