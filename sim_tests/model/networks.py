"""Small fake-quantized networks for the tests: calibrated on random bytes, not trained."""

from __future__ import annotations

import numpy as np
import torch

from model.configs import DeiTConfig
from model.nets.deit import DeiT
from model.quant.deit import QuantDeiT

SMALL = DeiTConfig(name="small", image_size=8, patch_size=4, embed_dim=48, depth=2, heads=3, mlp_ratio=3, classes=7)


def images_of(config: DeiTConfig, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, config.image_size, config.image_size, config.channels), dtype=np.uint8)


def quantized(bits: int, config: DeiTConfig = SMALL, seed: int = 0) -> QuantDeiT:
    """In eval mode, gammas and betas drawn too, so that nothing is 1 or 0 by default; tokens as large as patches."""
    torch.manual_seed(seed)
    network = QuantDeiT(DeiT(config), bits)
    with torch.no_grad():
        for name, parameter in network.net.named_parameters():
            if name in ("cls_token", "dist_token", "pos_embed"):
                parameter.normal_(std=0.5)
            elif "norm" in name or name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        network(torch.from_numpy(images_of(config, 64)), calibrating=True)
    return network.eval()
