"""DeiT in float: timm's parameter names, sizes and (where timm is installed) logits."""

import pytest
import torch

from model.configs import CONFIGS, config_of
from model.errors import InputError
from model.nets.deit import DeiT

PARAMETERS = {
    "deit_tiny": 5_717_416,
    "deit_small": 22_050_664,
    "deit_base": 86_567_656,
    "deit_tiny_distilled": 5_910_800,
    "deit_small_distilled": 22_436_432,
    "deit_base_distilled": 87_338_192,
}
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@pytest.mark.parametrize("distilled", (False, True))
def test_parameter_names_are_timms(distilled):
    with torch.device("meta"):
        net = DeiT(CONFIGS["deit_tiny_distilled" if distilled else "deit_tiny"])
    layers = ["patch_embed.proj", *(f"blocks.{i}.{name}" for i in range(12) for name in BLOCK), "norm", "head"]
    expected = {"cls_token", "pos_embed", *(f"{name}.{kind}" for name in layers for kind in ("weight", "bias"))}
    if distilled:
        expected |= {"dist_token", "head_dist.weight", "head_dist.bias"}
    assert set(net.state_dict()) == expected


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_timms(name):
    with torch.device("meta"):
        assert sum(p.numel() for p in DeiT(CONFIGS[name]).parameters()) == PARAMETERS[name]


def test_bytes_are_normalised():
    torch.manual_seed(0)
    net = DeiT(config_of("deit_micro")).eval()
    images = torch.randint(0, 256, (2, 28, 28, 1), dtype=torch.uint8)
    expected = net(((images.float() / 255 - 0.286) / 0.353).permute(0, 3, 1, 2))
    torch.testing.assert_close(net.forward_bytes(images), expected)


def test_unknown_name():
    with pytest.raises(InputError, match="model must be one of deit_micro, deit_micro_wide, deit_tiny"):
        config_of("vit")


@pytest.mark.optional
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARAMETERS)
def test_logits_equal_timms(name, timm):
    theirs = timm.create_model(f"{name}_patch16_224").eval()
    ours = DeiT(CONFIGS[name]).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
