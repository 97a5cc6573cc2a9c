"""A float checkpoint to the integer graph without training. EfficientViT goes through the engine of ``model.quant.ptq``.

DeiT: weights to their signs, activation steps from a few images. Training with binary weights is what makes such a network accurate; this
does not, and says so. Shapes, ranges and cost are those of the trained network, which is what a simulation needs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model import data
from model.configs import DeiTConfig, EfficientVitConfig, config_of
from model.efficientvit.graph import EfficientVitGraph
from model.efficientvit.lower import lower as lower_efficientvit
from model.graph import DeitGraph
from model.lower import lower
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.nets.pretrained import load_pretrained
from model.quant.calibration import Batches, Calibration, calibrate
from model.quant.deit import QuantDeiT
from model.quant.folded import FoldedNetwork, fold
from model.quant.images import calibration_images
from model.quant.ptq import Techniques
from model.quant.ptq import quantize as quantize_efficientvit
from model.quant.quantization import Quantization
from model.quant.reconstruction import Block, reconstruct

#: deit_base takes some two seconds for each, on one core.
CALIBRATION_IMAGES = 8
EFFICIENTVIT_IMAGES = 32
CALIBRATION_SOURCE = "photos"


@dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """An EfficientViT through the engine. blocks : what reconstruction gained, empty without it."""

    folded: FoldedNetwork
    calibration: Calibration
    quantization: Quantization
    blocks: tuple[Block, ...]
    graph: EfficientVitGraph


def convert_efficientvit(net: EfficientVit, batches: Batches, images: int, techniques: Techniques, iterations: int = 0) -> Converted:
    """Calibrated on the first ``images`` of ``batches``; ``iterations`` of reconstruction for each block, 0: nearest rounding."""
    folded = fold(net)
    calibration = calibrate(folded, batches, images)
    quantization, blocks = quantize_efficientvit(folded, batches, calibration, techniques), ()
    if iterations:
        reconstruction = reconstruct(quantization, batches, images, iterations)
        blocks = reconstruction.blocks
        quantization = quantize_efficientvit(folded, batches, calibration, techniques, reconstruction.rounded)
    graph = lower_efficientvit(quantization)
    return Converted(folded=folded, calibration=calibration, quantization=quantization, blocks=blocks, graph=graph)


@torch.no_grad()
def quantize(net: DeiT, bits: int, images: np.ndarray) -> QuantDeiT:
    """``net`` with binary weights and ``bits`` bit activations, in eval mode, every step set from ``images`` (n, size, size, channels)."""
    network = QuantDeiT(net, bits).eval()
    network(torch.from_numpy(images.copy()), calibrating=True)
    return network


def _convert_deit(path: Path | str, config: DeiTConfig, bits: int) -> tuple[DeitGraph, str]:
    shape = config.shape(bits)
    net = load_pretrained(path, config)
    images, _ = data.load(CALIBRATION_SOURCE, "train", shape, CALIBRATION_IMAGES)
    graph = lower(quantize(net, bits, images), images)
    return graph, f"weights cut to their signs, activations calibrated on {len(images)} {CALIBRATION_SOURCE}, not trained"


def _convert_efficientvit(path: Path | str, config: EfficientVitConfig, bits: int) -> tuple[EfficientVitGraph, str]:
    """Channels that are constant are kept: on so few photos that is no defect of the network."""
    techniques = Techniques(bits=bits, constant_channels="keep")
    net = load_pretrained(path, config)
    images = calibration_images(CALIBRATION_SOURCE, config, EFFICIENTVIT_IMAGES)
    graph = convert_efficientvit(net, images, EFFICIENTVIT_IMAGES, techniques).graph
    return graph, f"weights of 8 bits, activations calibrated on {EFFICIENTVIT_IMAGES} {CALIBRATION_SOURCE}"


def convert(path: Path | str, model: str, bits: int) -> tuple[DeitGraph | EfficientVitGraph, dict[str, object]]:
    """The graph of a float checkpoint and how it was made, which is said on stderr too.

    Raises InputError for a file that is not of ``model``, and where a constant does not fit its width.
    """
    config = config_of(model)
    graph, made = _convert_deit(path, config, bits) if isinstance(config, DeiTConfig) else _convert_efficientvit(path, config, bits)
    made = f"{made}: accuracy is not claimed"
    print(f"note: {path}: {made}", file=sys.stderr)
    return graph, {"conversion": made}
