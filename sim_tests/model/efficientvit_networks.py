"""Small EfficientViT networks for the tests: random, but normalised, so that every layer sees values as large as a trained one's."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from model.configs import EfficientVitConfig
from model.efficientvit.random_graph import smooth_image
from model.nets.efficientvit import EfficientVit

SMALL = EfficientVitConfig(
    name="small", image_size=30, widths=(8, 8, 16), depths=(1, 2, 1), attention_stages=1, head_dim=8, head_widths=(24, 32), classes=7
)


def images_of(config: EfficientVitConfig, count: int, seed: int = 0) -> np.ndarray:
    """Blobs."""
    rng = np.random.default_rng(seed)
    return np.stack([smooth_image(rng, config.image_size, config.channels) for _ in range(count)])


def network_of(config: EfficientVitConfig = SMALL, seed: int = 0, images: np.ndarray | None = None) -> EfficientVit:
    """In eval mode, statistics of BatchNorm measured, gains and biases drawn, convolutions without BatchNorm scaled for unit gain."""
    torch.manual_seed(seed)
    net = EfficientVit(config)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.mul_(3**0.5)
                if module.bias is not None:
                    module.bias.normal_(std=0.2)
            elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.6, 1.8)
                module.bias.normal_(std=0.4)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        net.train()
        net.forward_bytes(torch.from_numpy(images_of(config, 16, seed=99) if images is None else images))
    return net.eval()
