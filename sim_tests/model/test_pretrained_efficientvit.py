"""Checkpoint files of EfficientViT: timm's and MIT's names give one network; others, Microsoft's among them, are refused in one line."""

from dataclasses import replace

import pytest
import torch

from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, DeiTConfig, EfficientVitConfig
from model.errors import InputError
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.nets.pretrained import float_network, load_pretrained
from model.nets.random_weights import random_efficientvit
from sim_tests.model.networks import images_of
from sim_tests.model.test_pretrained import save_safetensors, save_torch

EVIT = EfficientVitConfig(
    name="evit", image_size=16, widths=(8, 16, 16), depths=(2, 2, 1), attention_stages=1, head_dim=8, head_widths=(16, 24), classes=5
)
EVIT_WIDE = replace(EVIT, name="evit_wide", widths=(8, 16, 24))
DEIT = DeiTConfig(name="small_deit", image_size=16, patch_size=8, embed_dim=32, depth=2, heads=2, mlp_ratio=2, classes=6)
NORM = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
#: Tensors of MIT's modules in the order in which they hold them.
MIT_ORDER = [
    *(f"backbone.input_stem.op_list.0.{kind}" for kind in ("conv.weight", *NORM)),
    *(
        f"backbone.input_stem.op_list.{op}.main.{conv}.{kind}"
        for op in (1, 2) for conv in ("depth_conv", "point_conv") for kind in ("conv.weight", *NORM)
    ),
    *(
        f"backbone.stages.0.op_list.{op}.main.{conv}.{kind}"
        for op in (0, 1) for conv in ("inverted_conv", "depth_conv", "point_conv") for kind in ("conv.weight", *NORM)
    ),
    *(f"backbone.stages.1.op_list.0.main.{conv}.conv.{kind}" for conv in ("inverted_conv", "depth_conv") for kind in ("weight", "bias")),
    *(f"backbone.stages.1.op_list.0.main.point_conv.{kind}" for kind in ("conv.weight", *NORM)),
    *(f"backbone.stages.1.op_list.1.context_module.main.{conv}.weight" for conv in ("qkv.conv", "aggreg.0.0", "aggreg.0.1")),
    *(f"backbone.stages.1.op_list.1.context_module.main.proj.{kind}" for kind in ("conv.weight", *NORM)),
    *(
        f"backbone.stages.1.op_list.1.local_module.main.{conv}.conv.{kind}"
        for conv in ("inverted_conv", "depth_conv") for kind in ("weight", "bias")
    ),
    *(f"backbone.stages.1.op_list.1.local_module.main.point_conv.{kind}" for kind in ("conv.weight", *NORM)),
    *(f"head.op_list.0.{kind}" for kind in ("conv.weight", *NORM)),
    "head.op_list.2.linear.weight", "head.op_list.2.norm.weight", "head.op_list.2.norm.bias", "head.op_list.3.linear.weight",
    "head.op_list.3.linear.bias",
]  # fmt: skip
#: One pair of each kind.
MIT_PAIRS = {
    "backbone.input_stem.op_list.0.conv.weight": "stem.in_conv.conv.weight",
    "backbone.input_stem.op_list.2.main.point_conv.norm.running_var": "stem.res1.main.point_conv.norm.running_var",
    "backbone.stages.0.op_list.1.main.inverted_conv.conv.weight": "stages.0.blocks.1.main.inverted_conv.conv.weight",
    "backbone.stages.1.op_list.0.main.depth_conv.conv.bias": "stages.1.blocks.0.main.depth_conv.conv.bias",
    "backbone.stages.1.op_list.1.context_module.main.qkv.conv.weight": "stages.1.blocks.1.context_module.main.qkv.conv.weight",
    "backbone.stages.1.op_list.1.context_module.main.aggreg.0.1.weight": "stages.1.blocks.1.context_module.main.aggreg.0.1.weight",
    "backbone.stages.1.op_list.1.local_module.main.depth_conv.conv.bias": "stages.1.blocks.1.local_module.main.depth_conv.conv.bias",
    "head.op_list.0.norm.running_mean": "head.in_conv.norm.running_mean",
    "head.op_list.2.linear.weight": "head.classifier.0.weight",
    "head.op_list.2.norm.bias": "head.classifier.1.bias",
    "head.op_list.3.linear.bias": "head.classifier.4.bias",
}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    for config in (EVIT, EVIT_WIDE):
        monkeypatch.setitem(EFFICIENTVIT_CONFIGS, config.name, config)
    monkeypatch.setitem(CONFIGS, DEIT.name, DEIT)


def timm_tensors(config: EfficientVitConfig = EVIT) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in random_efficientvit(config, 7).state_dict().items()}


def mit_tensors(config: EfficientVitConfig = EVIT) -> dict[str, torch.Tensor]:
    return dict(zip(MIT_ORDER, timm_tensors(config).values(), strict=True))


def one_line(path, config: EfficientVitConfig | DeiTConfig = EVIT) -> str:
    with pytest.raises(InputError) as error:
        load_pretrained(path, config)
    message = str(error.value)
    assert "\n" not in message and ";" in message
    return message.replace(str(path), "PATH")


def test_mit_and_timm_name_the_same_network(tmp_path):
    timm, mit = timm_tensors(), mit_tensors()
    assert all(torch.equal(mit[theirs], timm[ours]) for theirs, ours in MIT_PAIRS.items())
    bare = {name: tensor for name, tensor in mit.items() if not name.endswith("num_batches_tracked")}
    paths = [save_safetensors(tmp_path / "timm.safetensors", timm), save_safetensors(tmp_path / "mit.safetensors", mit)]
    for number, stored in enumerate((timm, mit, bare, {"state_dict": mit}, {"state_dict": bare, "epoch": 3})):
        paths.append(save_torch(tmp_path / f"{number}.pt", stored))
    reference = EfficientVit(EVIT)
    reference.load_state_dict(timm)
    images = torch.from_numpy(images_of(EVIT, 3))
    for path in paths:
        net = load_pretrained(path, EVIT)
        assert not net.training and not any(tensor.is_meta for tensor in net.state_dict().values())
        with torch.no_grad():
            torch.testing.assert_close(net.forward_bytes(images), reference.eval().forward_bytes(images), rtol=0, atol=0, msg=path.name)


CHANGES = {
    "head.in_conv.conv.weight of evit must be (16, 16, 1, 1): PATH has nothing; give a timm or MIT checkpoint of evit": lambda t: t.pop(
        "head.in_conv.conv.weight"
    ),
    "stages.1.blocks.1.context_module.main.aggreg.0.0.weight of evit must be (48, 1, 5, 5): PATH has (48, 1, 3, 3); give": lambda t: (
        t.update({"stages.1.blocks.1.context_module.main.aggreg.0.0.weight": torch.zeros(48, 1, 3, 3)})
    ),
    "must hold its tensors alone: PATH has head.fc.num_batches_tracked (); give": lambda t: t.update(
        {"head.fc.num_batches_tracked": torch.tensor(0)}
    ),
    "stem.in_conv.norm.running_mean must be finite: PATH has 1 NaN": lambda t: t["stem.in_conv.norm.running_mean"][2:3].fill_(float("nan")),
    "stem.in_conv.norm.running_var must be at least 0: PATH has -0.5; take": lambda t: t["stem.in_conv.norm.running_var"][2:3].fill_(-0.5),
    "head.classifier.4.bias must be of a float type: PATH has torch.int8; save": lambda t: t.update(
        {"head.classifier.4.bias": torch.zeros(5, dtype=torch.int8)}
    ),
}


@pytest.mark.parametrize("said", CHANGES)
def test_wrong_tensors(said, tmp_path):
    tensors = timm_tensors()
    CHANGES[said](tensors)
    assert said in one_line(save_safetensors(tmp_path / "c.safetensors", tensors))


def test_complaints_about_mit_files_use_their_names(tmp_path):
    tensors = mit_tensors()
    del tensors["head.op_list.2.linear.weight"]
    path = save_torch(tmp_path / "m.pt", {"state_dict": tensors})
    said = (
        "checkpoint tensor head.op_list.2.linear.weight of evit must be (24, 16): PATH has nothing; give a timm or MIT checkpoint of evit"
    )
    assert one_line(path) == said
    tensors = {**mit_tensors(), "stem.in_conv.conv.weight": torch.zeros(8, 3, 3, 3)}
    assert "must hold its tensors alone: PATH has stem.in_conv.conv.weight (8, 3, 3, 3)" in one_line(save_torch(tmp_path / "b.pt", tensors))


def test_other_sizes_and_families_are_named(tmp_path):
    wide = save_torch(tmp_path / "w.pt", {"state_dict": mit_tensors(EVIT_WIDE)})
    said = (
        "checkpoint tensor backbone.stages.1.op_list.0.main.point_conv.conv.weight of evit must be (16, 64, 1, 1): PATH has (24, 64, 1, 1)"
    )
    assert one_line(wide) == f"{said}; use --model evit_wide"
    assert one_line(save_torch(tmp_path / "d.pt", DeiT(DEIT).state_dict())).endswith("PATH has nothing; use --model small_deit")
    assert one_line(save_torch(tmp_path / "e.pt", mit_tensors()), DEIT).endswith("PATH has nothing; use --model evit")


@pytest.mark.parametrize("name", ("blocks1.0.mixer.m.attn.qkvs.0.c.weight", "stages.0.blocks.0.mixer.m.attn.qkvs.0.conv.weight"))
def test_microsofts_efficientvit_is_another_network(name, tmp_path):
    """As Microsoft and as timm name its tensors."""
    path = save_torch(tmp_path / "m0.pth", {"model": {"patch_embed.0.c.weight": torch.zeros(8, 3, 3, 3), name: torch.zeros(16, 16, 1, 1)}})
    said = f"a checkpoint of evit must be of MIT's EfficientViT: PATH is Microsoft's, another network ({name})"
    assert one_line(path) == f"{said}; give a timm or MIT checkpoint of evit"


def test_float_networks_by_source(tmp_path):
    tensors = timm_tensors()
    path = save_safetensors(tmp_path / "t.safetensors", tensors)
    for net in (float_network("evit", "random:7"), float_network("evit", str(path))):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in net.state_dict().items())
    nothing_shipped, seed_0 = float_network("evit").state_dict(), random_efficientvit(EVIT, 0).state_dict()
    assert all(torch.equal(tensor, seed_0[name]) for name, tensor in nothing_shipped.items())
    with pytest.raises(InputError, match="random:SEED needs a whole number: 'x' is not; try random:0"):
        float_network("evit", "random:x")
    with pytest.raises(InputError, match="a checkpoint must exist: "):
        float_network("evit", str(tmp_path / "missing.pt"))
