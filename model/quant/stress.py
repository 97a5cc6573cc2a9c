"""A network that plain W8A8 quantization breaks: the trained efficientvit_micro with the three pathologies of papers/trio_vit.md, 2.1.

python -m model.quant.stress --out model/checkpoints/efficientvit_micro_stress.safetensors

Nothing is trained. Weights are multiplied and biases moved so that the next layer undoes it, exactly where the activation between is
homogeneous or linear, else for the channels where least is lost. The float accuracy stays; what changes is what a quantizer sees:

wide channels : the input of a depthwise convolution is hardswish(x). Two of its channels get hardswish(g x), and their filters 1 / g: the
    same but for hardswish(g x) / g, near relu(x). Padding is 0 before and after. One step for the whole tensor, wide enough for these two,
    leaves a handful of codes to every other channel. Migration divides by m_c, and the codes are even again.
asymmetric channels : one input of the second pointwise convolution gets hardswish(x + o), o large: Hardswish is linear there, so the next
    weights and their BatchNorm take o out exactly, and put the line in that fits hardswish(x) best. The channel lies far above 0 and spans
    little: a step wide enough for it is too coarse for all others. Shifting takes its centre away. The convolution is 1x1: no padding.
divisors : the attention's quotient does not change when q of a head is multiplied. All heads but one get 1 / 32, a power of two, exact;
    where the aggregated scale reads them, its depthwise filters multiply by 32. Divisors of one scale then span several thousand to
    one, and most are below one step of an 8-bit uniform divisor, where one step more or less is a factor. Their logarithm keeps them.

Which channels: those that change the block's output least on STATISTICS_IMAGES training images, dead ones left out. The gains were tried
on slices of the test set, up to all of it, and chosen on its first 4,000 images, so that plain quantization fails clearly and the full
engine does not; the engine was not touched.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from model import data
from model.errors import InputError
from model.evaluate import torch_accuracy
from model.nets.efficientvit import ConvNormAct, EfficientVit, LiteMLA, MBConv
from model.nets.pretrained import float_network

NAME = "efficientvit_micro"
STATISTICS_IMAGES = 500
#: Channels per depthwise input that are widened, and by how much.
WIDE_CHANNELS, WIDE_GAIN = 2, 56.0
#: Offset of one channel per input of a second pointwise convolution, in spans of its median channel, which has 255 / 27 codes left.
OFFSET_SPANS = 27.0
#: From here on, with a margin for images not seen, Hardswish is linear.
LINEAR = 8.0
#: What q of every head is multiplied by, but that of LARGE_HEAD.
HEAD_GAIN, LARGE_HEAD = 1 / 32, 1
#: A channel that Hardswish lets through at most this much, or that has less than this part of the median channel's energy, is dead.
DEAD_ARGUMENT, DEAD_ENERGY = 1.0, 0.2


def arguments_of(net: EfficientVit, layers: list[ConvNormAct], images: Tensor) -> list[Tensor]:
    """What each layer's Hardswish is given, (images, channels, height, width)."""
    seen: dict[nn.Module, Tensor] = {}
    hooks = [layer.act.register_forward_pre_hook(lambda act, given: seen.__setitem__(act, given[0])) for layer in layers]
    net.forward_bytes(images)
    for hook in hooks:
        hook.remove()
    return [seen[layer.act] for layer in layers]


def _affine(layer: ConvNormAct, channel: int, gain: float, offset: float) -> None:
    """The argument of Hardswish becomes ``gain * argument + offset``."""
    if isinstance(layer.norm, nn.BatchNorm2d):
        weight, bias = layer.norm.weight, layer.norm.bias
    else:
        assert layer.conv.bias is not None
        weight, bias = layer.conv.weight, layer.conv.bias
    weight[channel] *= gain
    bias[channel] = gain * bias[channel] + offset


def _energy_of_columns(layer: ConvNormAct) -> Tensor:
    """(inputs,) what a pointwise layer makes of a unit of each input, squared."""
    return layer.conv.weight.flatten(1).square().sum(0)


def widen(block: MBConv, argument: Tensor, gain: float = WIDE_GAIN, channels: int = WIDE_CHANNELS) -> list[int]:
    """``argument``: of the first Hardswish. Returns the channels."""
    change = (functional.hardswish(gain * argument) / gain - functional.hardswish(argument)).square().mean((0, 2, 3))
    change *= block.depth_conv.conv.weight.flatten(1).square().sum(1)
    norm = block.depth_conv.norm
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_var is not None
        change *= norm.weight.square() / norm.running_var
    change *= _energy_of_columns(block.point_conv)
    chosen = torch.where(argument.amax((0, 2, 3)) > DEAD_ARGUMENT, change, torch.inf).argsort()[:channels].tolist()
    for channel in chosen:
        _affine(block.inverted_conv, channel, gain, 0.0)
        block.depth_conv.conv.weight[channel] /= gain
    return chosen


def fitted_line(argument: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(slope, intercept) per channel of the line nearest to Hardswish; and the energies of what remains and of Hardswish, centred."""
    value = functional.hardswish(argument)
    mean, height = argument.mean((0, 2, 3)), value.mean((0, 2, 3))
    x, y = argument - mean[:, None, None], value - height[:, None, None]
    slope = (x * y).mean((0, 2, 3)) / x.square().mean((0, 2, 3))
    left = (y - slope[:, None, None] * x).square().mean((0, 2, 3))
    return slope, height - slope * mean, left, y.square().mean((0, 2, 3))


def offset(block: MBConv, argument: Tensor, spans: float = OFFSET_SPANS) -> int:
    """``argument``: of the second Hardswish. Returns the channel."""
    slope, intercept, left, energy = fitted_line(argument)
    value = functional.hardswish(argument)
    by = max(LINEAR - float(argument.min()), spans * float((value.amax((0, 2, 3)) - value.amin((0, 2, 3))).median()))
    column = _energy_of_columns(block.point_conv)
    alive = energy * column > DEAD_ENERGY * (energy * column).median()
    channel = int(torch.where(alive, left * column, torch.inf).argmin())
    _affine(block.depth_conv, channel, 1.0, by)
    weight, norm = block.point_conv.conv.weight, block.point_conv.norm
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    norm.running_mean += weight[:, channel, 0, 0] * (slope[channel] * by - intercept[channel])
    weight[:, channel] *= slope[channel]
    return channel


def spread(attention: LiteMLA, gain: float = HEAD_GAIN, large: int = LARGE_HEAD) -> None:
    """q of every head but ``large``, of both scales."""
    qkv, size = attention.qkv.get_submodule("conv"), attention.head_dim
    depthwise, grouped = (attention.aggreg[0].get_submodule(step) for step in ("0", "1"))
    assert isinstance(qkv, nn.Conv2d) and isinstance(depthwise, nn.Conv2d) and isinstance(grouped, nn.Conv2d)
    for head in range(len(qkv.weight) // (3 * size)):
        if head != large:
            rows = slice(3 * size * head, 3 * size * head + size)
            qkv.weight[rows] *= gain
            depthwise.weight[rows] /= gain
            grouped.weight[rows] *= gain


def _of_kind(net: nn.Module, kind: type[nn.Module]) -> Iterator[nn.Module]:
    return (module for module in net.modules() if isinstance(module, kind))


@torch.no_grad()
def stressed(net: EfficientVit, images: np.ndarray) -> EfficientVit:
    """A copy with all three; ``images``: uint8, to choose channels on."""
    net, seen = copy.deepcopy(net).eval(), torch.from_numpy(np.array(images))
    blocks = [module for module in _of_kind(net, MBConv) if isinstance(module, MBConv)]
    for block, argument in zip(blocks, arguments_of(net, [block.inverted_conv for block in blocks], seen), strict=True):
        widen(block, argument)
    for block, argument in zip(blocks, arguments_of(net, [block.depth_conv for block in blocks], seen), strict=True):
        offset(block, argument)
    for attention in _of_kind(net, LiteMLA):
        assert isinstance(attention, LiteMLA)
        spread(attention)
    return net


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.quant.stress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help=f"float {NAME} to start from; default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path(f"{NAME}_stress.safetensors"), help="float tensors by timm's names")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        net = float_network(NAME, arguments.checkpoint)
        images, _ = data.load("fashion-mnist", "train", net.config, STATISTICS_IMAGES)
        made = stressed(net, images)
        test = data.load("fashion-mnist", "test", net.config)
        forwards: dict[str, Callable[[Tensor], Tensor]] = {"before": net.forward_bytes, "after": made.forward_bytes}
        for name, forward in forwards.items():
            print(f"float accuracy {name} {torch_accuracy(forward, *test):.2f} %")
        save_file(made.state_dict(), arguments.out)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
