"""EfficientViT in float: MIT's sizes by block, logits against a second implementation and (where timm is installed) timm's."""

import csv

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model import data
from model.configs import EFFICIENTVIT_CONFIGS, EfficientVitConfig, config_of, efficientvit_config_of
from model.errors import InputError
from model.evaluate import torch_accuracy
from model.nets.efficientvit import EfficientVit, linear_attention
from model.nets.pretrained import float_network
from model.nets.random_weights import random_efficientvit, smooth_images
from model.zoo import CHECKPOINTS

#: Parameters, and millions of multiplications at 224, 256 and 288: papers/trio_vit.md, section 1.2.
TOTALS = {
    "efficientvit_b0": (3_410_008, (100.233, 130.124, 164.000)),
    "efficientvit_b1": (9_102_024, (519.215, 676.916, 855.644)),
    "efficientvit_b2": (24_330_712, (1584.938, 2067.534, 2614.476)),
    "efficientvit_b3": (48_646_056, (3953.822, 5161.587, 6530.386)),
}
#: The same of every block of B1 at 224: section 1.4.
BLOCKS_OF_B1 = {
    "stem.in_conv": (464, 5.419),
    "stem.res0": (464, 5.018),
    "stages.0.blocks.0": (3968, 21.074),
    "stages.0.blocks.1": (9920, 29.303),
    "stages.1.blocks.0": (14080, 20.171),
    "stages.1.blocks.1": (36224, 27.496),
    "stages.1.blocks.2": (36224, 27.496),
    "stages.2.blocks.0": (52224, 19.719),
    **{f"stages.2.blocks.{index}": (234880, 47.441) for index in (1, 2, 3)},
    "stages.3.blocks.0": (202752, 19.493),
    **{f"stages.3.blocks.{index}": (895744, 44.594) for index in (1, 2, 3, 4)},
    "head.in_conv": (396288, 19.268),
    "head.classifier.0": (2457600, 2.458),
    "head.classifier.1": (3200, 0.0),
    "head.classifier.4": (1601000, 1.600),
}
#: MBConv of stages with attention has bias in place of the first two norms.
CONV_NORM = ("conv.weight", *(f"norm.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")))
CONV_BIAS = ("conv.weight", "conv.bias")


def empty(config: EfficientVitConfig) -> EfficientVit:
    with torch.device("meta"):
        return EfficientVit(config).eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def millions(net: EfficientVit) -> dict[str, float]:
    """Multiplications of convolutions and matrix products as torch counts them, by module; "Global" is all."""
    config = net.config
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        net(torch.empty(1, config.channels, config.image_size, config.image_size))
    return {name.removeprefix("EfficientVit."): sum(counts.values()) / 2e6 for name, counts in counter.get_flop_counts().items()}


@pytest.mark.parametrize("name", TOTALS)
def test_totals(name):
    wanted, multiplications = TOTALS[name]
    assert config_of(name).image_size == 224
    for size, expected in zip((224, 256, 288), multiplications, strict=True):
        net = empty(efficientvit_config_of(f"{name}_r{size}"))
        assert net.config.image_size == size
        assert parameters(net) == wanted
        assert millions(net)["Global"] == pytest.approx(expected, abs=5e-4)


def test_blocks_of_b1():
    net = empty(efficientvit_config_of("efficientvit_b1"))
    counts = millions(net)
    for name, (wanted, expected) in BLOCKS_OF_B1.items():
        assert parameters(net.get_submodule(name)) == wanted, name
        assert counts.get(name, 0.0) == pytest.approx(expected, abs=5e-4), name
    assert sum(wanted for wanted, _ in BLOCKS_OF_B1.values()) == parameters(net)
    assert sum(counts.get(name, 0.0) for name in BLOCKS_OF_B1) == pytest.approx(counts["Global"])


def test_parameter_names_are_timms():
    """Of the micro network, which has one layer of each kind."""
    expected = {f"{name}.{kind}" for name in ("stem.in_conv", "head.in_conv") for kind in CONV_NORM}
    expected |= {f"stem.res0.main.{name}.{kind}" for name in ("depth_conv", "point_conv") for kind in CONV_NORM}
    mbconv = ("inverted_conv", "depth_conv", "point_conv")
    expected |= {f"stages.0.blocks.{index}.main.{name}.{kind}" for index in (0, 1) for name in mbconv for kind in CONV_NORM}
    for block in ("stages.1.blocks.0.main", "stages.1.blocks.1.local_module.main", "stages.1.blocks.2.local_module.main"):
        expected |= {f"{block}.{name}.{kind}" for name in mbconv[:2] for kind in CONV_BIAS}
        expected |= {f"{block}.point_conv.{kind}" for kind in CONV_NORM}
    for index in (1, 2):
        context = f"stages.1.blocks.{index}.context_module.main"
        expected |= {f"{context}.{name}.weight" for name in ("qkv.conv", "aggreg.0.0", "aggreg.0.1")}
        expected |= {f"{context}.proj.{kind}" for kind in CONV_NORM}
    expected |= {"head.classifier.0.weight", *(f"head.classifier.{index}.{kind}" for index in (1, 4) for kind in ("weight", "bias"))}
    assert set(empty(efficientvit_config_of("efficientvit_micro")).state_dict()) == expected


def test_micro_has_every_kind_of_layer_on_odd_sizes():
    config = efficientvit_config_of("efficientvit_micro")
    net = empty(config)
    sizes, x = [], torch.empty(1, 1, 28, 28, device="meta")
    for part in (net.stem, *net.stages):
        x = part(x)
        sizes.append(x.shape[-1])
    assert sizes == [14, 7, 4]
    assert parameters(net) == 183_114
    kinds = {(m.kernel_size[0], m.stride[0], m.groups == 1, m.groups == m.out_channels) for m in net.modules() if isinstance(m, nn.Conv2d)}
    b1 = empty(efficientvit_config_of("efficientvit_b1"))
    assert kinds == {
        (m.kernel_size[0], m.stride[0], m.groups == 1, m.groups == m.out_channels) for m in b1.modules() if isinstance(m, nn.Conv2d)
    }
    assert all(width % 16 == 0 for width in (*config.widths, *config.head_widths))


class Second:
    """The network once more, in numpy and float64: convolutions as sums over the window's places, attention as tokens x tokens."""

    def __init__(self, net: EfficientVit):
        self.config = net.config
        self.tensors = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}

    def conv(self, x: np.ndarray, name: str, stride: int = 1, groups: int = 1) -> np.ndarray:
        """x : (channels, height, width)"""
        weight = self.tensors[f"{name}.weight"]
        outputs, inputs, kernel, _ = weight.shape
        windows = sliding_window_view(np.pad(x, ((0, 0), *2 * ((kernel // 2, kernel // 2),))), (kernel, kernel), (1, 2))[
            :, ::stride, ::stride
        ]
        out = 0
        for row in range(kernel):
            for column in range(kernel):
                seen = windows[..., row, column].reshape(groups, inputs, *windows.shape[1:3])
                place = weight[..., row, column].reshape(groups, outputs // groups, inputs)
                out = out + np.einsum("goi,gihw->gohw", place, seen, optimize=True)
        bias = self.tensors.get(f"{name}.bias", np.zeros(outputs))
        return np.reshape(out, (outputs, *windows.shape[1:3])) + bias[:, None, None]

    def layer(self, x: np.ndarray, name: str, stride: int = 1, depthwise: bool = False) -> np.ndarray:
        """Convolution, the norm where there is one, Hardswish but behind the last of a block."""
        x = self.conv(x, f"{name}.conv", stride, len(x) if depthwise else 1)
        if f"{name}.norm.weight" in self.tensors:
            mean, var, gamma, beta = (self.tensors[f"{name}.norm.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
            x = (x - mean[:, None, None]) * (gamma / np.sqrt(var + 1e-5))[:, None, None] + beta[:, None, None]
        return x if name.endswith(("point_conv", "proj")) else self.hardswish(x)

    @staticmethod
    def hardswish(x: np.ndarray) -> np.ndarray:
        return np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))

    def mbconv(self, x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        if f"{name}.inverted_conv.conv.weight" in self.tensors:
            x = self.layer(x, f"{name}.inverted_conv")
        return self.layer(self.layer(x, f"{name}.depth_conv", stride, depthwise=True), f"{name}.point_conv")

    def attention(self, x: np.ndarray, name: str) -> np.ndarray:
        d = self.config.head_dim
        qkv = self.conv(x, f"{name}.qkv.conv")
        scales = [qkv, self.conv(self.conv(qkv, f"{name}.aggreg.0.0", groups=len(qkv)), f"{name}.aggreg.0.1", groups=len(qkv) // d)]
        heads = []
        for scale in scales:
            for start in range(0, len(scale), 3 * d):
                q, k, v = (scale[start + part * d : start + (part + 1) * d].reshape(d, -1) for part in range(3))
                weights = np.einsum("dn,dm->nm", q.clip(0), k.clip(0))
                heads.append(np.einsum("nm,dm->dn", weights / (weights.sum(1, keepdims=True) + 1e-5), v))
        return self.layer(np.concatenate(heads).reshape(-1, *x.shape[1:]), f"{name}.proj")

    def logits(self, image: np.ndarray) -> np.ndarray:
        """image : (size, size, channels) bytes"""
        x = self.layer(((image / 255 - self.config.mean) / self.config.std).transpose(2, 0, 1), "stem.in_conv", 2)
        for index in range(self.config.depths[0]):
            x = x + self.mbconv(x, f"stem.res{index}.main")
        for stage in range(len(self.config.widths) - 1):
            index, x = 1, self.mbconv(x, f"stages.{stage}.blocks.0.main", 2)
            while any(name.startswith(f"stages.{stage}.blocks.{index}.") for name in self.tensors):
                block, index = f"stages.{stage}.blocks.{index}", index + 1
                if f"{block}.main.point_conv.conv.weight" in self.tensors:
                    x = x + self.mbconv(x, f"{block}.main")
                else:
                    x = x + self.attention(x, f"{block}.context_module.main")
                    x = x + self.mbconv(x, f"{block}.local_module.main")
        x = self.tensors["head.classifier.0.weight"] @ self.layer(x, "head.in_conv").mean((1, 2))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * self.tensors["head.classifier.1.weight"] + self.tensors["head.classifier.1.bias"]
        return self.tensors["head.classifier.4.weight"] @ self.hardswish(x) + self.tensors["head.classifier.4.bias"]


@pytest.mark.parametrize("name", ("efficientvit_micro", "efficientvit_b1"))
def test_logits_of_a_second_implementation(name):
    net = float_network(name, "random:3")
    images = smooth_images(net.config, 2, torch.Generator().manual_seed(8))
    with torch.no_grad():
        got = net.forward_bytes(images).numpy()
    expected = np.stack([Second(net).logits(image) for image in images.numpy()])
    assert expected.std() > 0.3
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("count", (1000, pytest.param(10_000, marks=pytest.mark.slow)))
def test_shipped_micro(count):
    """Shipped with the log of its training, whose last line is the accuracy on all test images."""
    images, labels = data.fashion_mnist("test")
    net = float_network("efficientvit_micro")
    got = torch_accuracy(net.forward_bytes, images[:count], labels[:count])
    with (CHECKPOINTS / "efficientvit_micro.csv").open() as log:
        logged = float(list(csv.DictReader(log))[-1]["test_accuracy"])
    assert logged >= 91.5
    assert got == pytest.approx(logged, abs=0.05 if count == len(labels) else 1.5)
    assert (CHECKPOINTS / "efficientvit_micro.safetensors").stat().st_size < 1e6


def test_attention_of_nothing_is_nothing():
    """Queries that ReLU makes 0 give 0, as do keys."""
    qkv = torch.randn(1, 2 * 3 * 4, 2, 2, generator=torch.Generator().manual_seed(0))
    qkv[:, 0:4] = -1
    qkv[:, 16:20] = -1
    assert torch.equal(linear_attention(qkv, 4, 1e-5), torch.zeros(1, 8, 2, 2))


def test_random_networks_are_repeatable():
    """Another seed, another network; torch's own generator stays as it is."""
    config = efficientvit_config_of("efficientvit_micro")
    before = torch.random.get_rng_state()
    first, again, other = (random_efficientvit(config, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["stem.in_conv.conv.weight"], other["stem.in_conv.conv.weight"])


def test_random_networks_keep_the_scale():
    """Other images than those that set the statistics: behind each BatchNorm the mean is beta and the deviation gamma, nearly."""
    net = float_network("efficientvit_b0", "random:1")
    deviations: dict[str, float] = {}
    moments: dict[str, tuple[float, float]] = {}

    def measure(name: str, module: nn.Module, out: torch.Tensor) -> None:
        deviations[name] = out.std().item()
        if isinstance(module, nn.BatchNorm2d):
            mean, deviation = (out.mean((0, 2, 3)) - module.bias) / module.weight, out.std((0, 2, 3)) / module.weight
            moments[name] = (mean.abs().mean().item(), deviation.mean().item())

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            module.register_forward_hook(lambda module, _, out, name=name: measure(name, module, out))
    images = smooth_images(net.config, 8, torch.Generator().manual_seed(50))
    assert 20 < images.float().std() < 80
    with torch.no_grad():
        net.forward_bytes(images)
    assert not net.training
    assert {name: value for name, value in deviations.items() if not 0.1 < value < 10} == {}
    assert {name: pair for name, pair in moments.items() if not (pair[0] < 0.5 and 0.7 < pair[1] < 1.5)} == {}


def test_bytes_are_normalised():
    net = EfficientVit(efficientvit_config_of("efficientvit_b0")).eval()
    images = smooth_images(net.config, 1, torch.Generator().manual_seed(0))
    normalised = [(images[..., c].float() / 255 - (0.485, 0.456, 0.406)[c]) / (0.229, 0.224, 0.225)[c] for c in range(3)]
    torch.testing.assert_close(net.forward_bytes(images), net(torch.stack(normalised, 1)))


def test_config_rules():
    common = dict(name="x", head_dim=16, head_widths=(32, 32))
    with pytest.raises(ValueError, match="head_dim must divide the widths of attention stages: 16 does not divide 24; change either"):
        EfficientVitConfig(widths=(8, 16, 24), depths=(1, 1, 1), attention_stages=1, **common)
    EfficientVitConfig(widths=(8, 24, 16), depths=(1, 1, 1), attention_stages=1, **common)
    with pytest.raises(ValueError, match="x must have one depth per width"):
        EfficientVitConfig(widths=(8, 16), depths=(1, 1, 1), **common)


def test_names():
    assert len(EFFICIENTVIT_CONFIGS) == 1 + 4 * 4
    with pytest.raises(
        InputError, match=r"model must be one of deit_micro, .*, efficientvit_b3_r288, or a .toml file: 'efficientvit_m0' is not"
    ):
        config_of("efficientvit_m0")
    with pytest.raises(InputError, match=r"model must be one of efficientvit_micro, .*: 'deit_micro' is not"):
        efficientvit_config_of("deit_micro")


@pytest.mark.optional
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOTALS)
def test_logits_are_timms(name, timm):
    ours = float_network(name, "random:5")
    theirs = timm.create_model(name, pretrained=False).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)
