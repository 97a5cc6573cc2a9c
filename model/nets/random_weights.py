"""An EfficientViT of random weights whose activations have the ranges of a trained one: for tests and figures without a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configs import EfficientVitConfig
from model.nets.efficientvit import ConvNormAct, EfficientVit, Residual

#: BatchNorm's statistics are those of so many images.
IMAGES = 16


def smooth_images(config: EfficientVitConfig, count: int, generator: torch.Generator) -> Tensor:
    """(count, size, size, channels) uint8: noise of every octave, each half as strong as the coarser one before it, as in photos."""
    size, channels = config.image_size, config.channels
    total, cells, strength = torch.zeros(count, channels, size, size), 2, 48.0
    while cells <= size:
        noise = strength * torch.randn(count, channels, cells, cells, generator=generator)
        total += functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
        cells, strength = 2 * cells, strength / 2
    middle = 255 * torch.tensor(config.mean)[:, None, None]
    return (total + middle).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _draw(net: EfficientVit, generator: torch.Generator) -> None:
    """He's weights before Hardswish, of unit gain elsewhere; gammas spread around 1, around 0.5 before a residual sum; betas around 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.2, generator=generator)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.3, generator=generator)
    for module in net.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.act, nn.Hardswish):
            module.conv.weight.mul_(2**0.5)
        elif isinstance(module, Residual) and module.shortcut:
            last = [part for part in module.main.modules() if isinstance(part, nn.BatchNorm2d)][-1]
            last.weight.mul_(0.5)


def random_efficientvit(config: EfficientVitConfig, seed: int) -> EfficientVit:
    """In eval mode. The same seed gives the same network, to the rounding of float sums, and leaves torch's own generator alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        net = EfficientVit(config)
    net.to_empty(device="cpu")
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        _draw(net, generator)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        net.train().forward_bytes(smooth_images(config, IMAGES, generator))
    for norm in norms:
        norm.momentum = 0.1
        norm.num_batches_tracked.zero_()
    return net.eval()
