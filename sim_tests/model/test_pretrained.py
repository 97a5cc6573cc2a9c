"""timm's and Facebook's checkpoint files: read in both formats, converted to the integer graph, refused in one line."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model import data, zoo
from model.configs import CONFIGS, DeiTConfig, config_of
from model.errors import InputError
from model.interpreter import logits_of
from model.nets.deit import DeiT
from model.nets.files import SUFFIXES
from model.nets.pretrained import load_pretrained
from model.quant.convert import CALIBRATION_IMAGES, CALIBRATION_SOURCE, quantize
from sim_tests.model.networks import images_of

SMALL = DeiTConfig(name="small", image_size=16, patch_size=8, embed_dim=32, depth=2, heads=2, mlp_ratio=2, classes=6)
NETWORKS = {
    "small": SMALL,
    "wide": DeiTConfig(name="wide", image_size=16, patch_size=8, embed_dim=48, depth=2, heads=3, mlp_ratio=2, classes=6),
    "broad": DeiTConfig(name="broad", image_size=16, patch_size=8, embed_dim=128, depth=1, heads=2, mlp_ratio=2, classes=6),
    "small_distilled": DeiTConfig(
        name="small_distilled", image_size=16, patch_size=8, embed_dim=32, depth=2, heads=2, mlp_ratio=2, classes=6, distilled=True
    ),
}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    for name, config in NETWORKS.items():
        monkeypatch.setitem(CONFIGS, name, config)


def tensors_of(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    net = DeiT(config_of(name))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.state_dict()


def save_safetensors(path, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return path


def save_torch(path, stored, **options):
    torch.save(stored, path, **options)
    return path


def save(path, tensors):
    return save_safetensors(path, tensors) if path.suffix == ".safetensors" else save_torch(path, {"model": tensors})


def one_line(path, name="small", bits=8) -> str:
    with pytest.raises(InputError) as error:
        zoo.load_graph(name, bits, str(path))
    message = str(error.value)
    assert "\n" not in message and message.count(": ") >= 1 and ";" in message
    return message.replace(str(path), "PATH")


def test_suffixes_agree():
    assert zoo.FLOAT_SUFFIXES == SUFFIXES


@pytest.mark.parametrize("name", ("small", "small_distilled"))
def test_both_formats_and_all_wrappers_hold_the_same_network(name, tmp_path):
    tensors = tensors_of(name)
    paths = [save_safetensors(tmp_path / "a.safetensors", tensors)]
    for number, stored in enumerate((tensors, {"model": tensors}, {"state_dict": tensors, "epoch": 3}, {"model": {"state_dict": tensors}})):
        paths.append(save_torch(tmp_path / f"{number}.pth", stored))
    paths.append(save_torch(tmp_path / "old.pth", {"model": tensors}, _use_new_zipfile_serialization=False))
    images = torch.from_numpy(images_of(config_of(name), 3))
    reference = DeiT(config_of(name))
    reference.load_state_dict(tensors)
    for path in paths:
        with torch.no_grad():
            got = load_pretrained(path, config_of(name)).forward_bytes(images)
            torch.testing.assert_close(got, reference.eval().forward_bytes(images), rtol=0, atol=0, msg=path.name)


@pytest.mark.parametrize("kind", (torch.float16, torch.bfloat16))
def test_half_precision_files(kind, tmp_path):
    tensors = {name: tensor.to(kind) for name, tensor in tensors_of("small").items()}
    for path in (save(tmp_path / "h.safetensors", tensors), save(tmp_path / "h.pth", tensors)):
        net = load_pretrained(path, SMALL)
        for name, tensor in net.state_dict().items():
            assert tensor.dtype == torch.float32
            torch.testing.assert_close(tensor, tensors[name].float(), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", (".safetensors", ".pth"))
@pytest.mark.parametrize(("name", "bits"), [("small", 8), ("small_distilled", 8), ("small_distilled", 4), ("small", 1)])
def test_conversion(name, bits, suffix, tmp_path, capsys):
    """Signs are the file's, the graph follows the fake-quantized network, and stderr says that nothing was trained."""
    tensors = tensors_of(name)
    path = save(tmp_path / f"n{suffix}", tensors)
    graph, metadata = zoo.load_graph_and_metadata(name, bits, str(path))
    written = capsys.readouterr()
    assert written.out == "" and written.err.count("\n") == 1
    assert written.err.startswith(f"note: {path}: ") and "accuracy is not claimed" in written.err
    assert metadata["source"] == str(path) and "not trained" in str(metadata["conversion"])
    assert graph.shape == zoo.shape_of(name, bits) and (graph.head_distilled is not None) == graph.shape.distilled
    for index, layer in enumerate(graph.layers):
        signs = (tensors[f"blocks.{index}.mlp.fc1.weight"] >= 0).numpy()
        np.testing.assert_array_equal(layer.fc1.codes, signs)
    config, images = config_of(name), images_of(config_of(name), 40)
    calibration, _ = data.load(CALIBRATION_SOURCE, "train", graph.shape, CALIBRATION_IMAGES)
    network = quantize(load_pretrained(path, config), bits, calibration)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    got = logits_of(graph, images)
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > {8: 0.995, 4: 0.95, 1: 0.7}[bits]


def test_conversion_survives_outlying_gammas(tmp_path):
    """Trained networks have a few channels with large gamma: the activation step grows until they fit 16 bits."""
    tensors = tensors_of("broad")
    tensors["blocks.0.norm1.weight"][5] = 400.0
    graph = zoo.load_graph("broad", 8, str(save(tmp_path / "g.pth", tensors)))
    assert 32760 < graph.layers[0].norm1.gamma.max() <= 32767


@pytest.mark.parametrize("suffix", (".safetensors", ".pth"))
def test_files_of_other_networks(suffix, tmp_path):
    wide = save(tmp_path / f"w{suffix}", tensors_of("wide"))
    said = "checkpoint tensor cls_token of small must be (1, 1, 32): PATH has (1, 1, 48); use --model wide"
    assert one_line(wide) == said
    distilled = save(tmp_path / f"d{suffix}", tensors_of("small_distilled"))
    assert one_line(distilled).endswith("PATH has (1, 6, 32); use --model small_distilled")
    plain = save(tmp_path / f"p{suffix}", tensors_of("small"))
    said = "checkpoint tensor dist_token of small_distilled must be (1, 1, 32): PATH has nothing; use --model small"
    assert one_line(plain, "small_distilled") == said


def test_sizes_of_facebook(tmp_path):
    """A deit_small file where deit_base is wanted: made of zeros of the right shapes, half precision."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in DeiT(CONFIGS["deit_small"]).state_dict().items()}
    path = save_torch(
        tmp_path / "deit_small.pth", {"model": {name: torch.zeros(1, dtype=torch.float16).expand(s) for name, s in shapes.items()}}
    )
    said = "checkpoint tensor cls_token of deit_base must be (1, 1, 768): PATH has (1, 1, 384); use --model deit_small"
    assert one_line(path, "deit_base") == said


CHANGES = {
    "blocks.1.mlp.fc2.bias of small must be (32,): PATH has nothing; give a timm or Facebook checkpoint of small": lambda t: t.pop(
        "blocks.1.mlp.fc2.bias"
    ),
    "head.weight of small must be (6, 32): PATH has (7, 32); give a timm": lambda t: t.update({"head.weight": torch.zeros(7, 32)}),
    "must hold its tensors alone: PATH has head_dist.weight (6, 32); give": lambda t: t.update({"head_dist.weight": torch.zeros(6, 32)}),
    "norm.weight must be finite: PATH has 1 NaN or infinite values; take": lambda t: t["norm.weight"][3:4].fill_(float("nan")),
    "pos_embed must be finite: PATH has 2 NaN": lambda t: t["pos_embed"][0, 1, :2].fill_(float("inf")),
    "norm.bias must be of a float type: PATH has torch.int64; save": lambda t: t.update({"norm.bias": torch.zeros(32, dtype=torch.int64)}),
}


@pytest.mark.parametrize("suffix", (".safetensors", ".pth"))
@pytest.mark.parametrize("said", CHANGES)
def test_wrong_tensors(said, suffix, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in tensors_of("small").items()}
    CHANGES[said](tensors)
    assert said in one_line(save(tmp_path / f"c{suffix}", tensors))


def test_foreign_keys_name_the_first_missing_tensor(tmp_path):
    path = save_torch(tmp_path / "f.pth", {f"deit.encoder.{name}": tensor for name, tensor in tensors_of("small").items()})
    assert one_line(path).startswith("checkpoint tensor cls_token of small must be (1, 1, 32): PATH has nothing; give a timm or Facebook")


@pytest.mark.parametrize("suffix", (".safetensors", ".pth"))
@pytest.mark.parametrize("keep", (0, 5, 300, 20000, -200, -1))
def test_truncated_files(keep, suffix, tmp_path):
    path = save(tmp_path / f"t{suffix}", tensors_of("small"))
    path.write_bytes(path.read_bytes()[:keep])
    assert f"a checkpoint must be a whole {suffix} file of tensors: PATH is not (" in one_line(path)


@pytest.mark.parametrize("suffix", (".safetensors", ".pth"))
def test_damaged_bytes_never_escape_as_anything_else(suffix, tmp_path):
    path = save(tmp_path / f"t{suffix}", tensors_of("small"))
    content = path.read_bytes()
    places = np.concatenate(
        [np.arange(0, 2000, 23), np.random.default_rng(0).integers(0, len(content), 40), len(content) - np.arange(1, 900, 31)]
    )
    for place in places.tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            load_pretrained(path, SMALL)
        except InputError as error:
            assert "\n" not in str(error)


def test_files_that_hold_something_else(tmp_path):
    class Code:
        pass

    for stored in ([1, 2], {"model": "deit_micro", "bits": 8}, {"epoch": 3}, torch.zeros(3)):
        assert "neither tensors by name nor those under model or state_dict" in one_line(save_torch(tmp_path / "o.pth", stored))
    (tmp_path / "text.bin").write_text("not an archive")
    assert "must be a whole .bin file of tensors" in one_line(tmp_path / "text.bin")
    (tmp_path / "text.safetensors").write_text("not an archive at all")
    assert "must be a whole .safetensors file of tensors" in one_line(tmp_path / "text.safetensors")
    assert "a checkpoint must exist: PATH does not; give" in one_line(tmp_path / "missing.pth")


def test_no_code_in_a_file_is_run(tmp_path):
    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = save_torch(tmp_path / "code.pth", {"model": tensors_of("small"), "args": Code()})
    assert "UnpicklingError" in one_line(path)
    assert not (tmp_path / "ran").exists()
