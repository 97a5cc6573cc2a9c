"""A float checkpoint to the integer graph without training: weights to their signs, activation steps from a few images.

Training with binary weights is what makes such a network accurate; this does not, and says so. Shapes, ranges and cost are those of the
trained network, which is what a simulation needs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from model import data
from model.configs import deit_config_of
from model.graph import DeitGraph
from model.lower import lower
from model.nets.deit import DeiT
from model.nets.pretrained import load_pretrained
from model.quant.deit import QuantDeiT

#: deit_base takes some two seconds for each, on one core.
CALIBRATION_IMAGES = 8
CALIBRATION_SOURCE = "photos"


@torch.no_grad()
def quantize(net: DeiT, bits: int, images: np.ndarray) -> QuantDeiT:
    """``net`` with binary weights and ``bits`` bit activations, in eval mode, every step set from ``images`` (n, size, size, channels)."""
    network = QuantDeiT(net, bits).eval()
    network(torch.from_numpy(images.copy()), calibrating=True)
    return network


def convert(path: Path | str, model: str, bits: int) -> tuple[DeitGraph, dict[str, object]]:
    """The graph of a timm or Facebook checkpoint and how it was made; warns on stderr that it was not trained.

    Raises InputError for a file that is not of ``model``, and where a constant does not fit its width.
    """
    config = deit_config_of(model)
    shape = config.shape(bits)
    net = load_pretrained(path, config)
    images, _ = data.load(CALIBRATION_SOURCE, "train", shape, CALIBRATION_IMAGES)
    graph = lower(quantize(net, bits, images), images)
    made = f"weights cut to their signs, activations calibrated on {len(images)} {CALIBRATION_SOURCE}, not trained: accuracy is not claimed"
    print(f"note: {path}: {made}", file=sys.stderr)
    return graph, {"conversion": made}
