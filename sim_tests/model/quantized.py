"""The small network of the quantization tests, and how far a result is from its reference."""

from __future__ import annotations

import torch

from model.quant.ptq import Techniques
from sim_tests.model.efficientvit_networks import SMALL, images_of

IMAGES = images_of(SMALL, 16)
BATCHES = [IMAGES[:8], IMAGES[8:]]
MIGRATED, SHIFTED = "stages.0.blocks.1.main.inverted_conv", "stages.0.blocks.1.main.depth_conv"
ATTENTION = "stages.1.blocks.1.context_module.main.attention"


class Fine(Techniques):
    """Precisions beyond what the integer graph has."""

    def __post_init__(self) -> None:
        pass


def sqnr(reference: torch.Tensor, x: torch.Tensor) -> float:
    """dB."""
    return float(10 * torch.log10(reference.double().pow(2).sum() / (reference - x).double().pow(2).sum()))
