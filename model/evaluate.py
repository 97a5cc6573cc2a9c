"""Accuracy of a network: by the exact integer graph, and by what it was made from: the fake-quantized DeiT, the float EfficientViT.

python -m model.evaluate --model deit_micro --bits 8 [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model import data, zoo
from model.efficientvit.interpreter import logits_of as efficientvit_logits_of
from model.errors import InputError
from model.graph import DeitGraph
from model.interpreter import logits_of
from model.model_file import network_of

if TYPE_CHECKING:
    from torch import Tensor

#: Images that a torch network takes at a time.
PART = 250


def percent_correct(logits: np.ndarray, labels: np.ndarray) -> float:
    return round(100.0 * float((logits.argmax(-1) == labels).mean()), 2)


def torch_accuracy(network: Callable[[Tensor], Tensor], images: np.ndarray, labels: np.ndarray) -> float:
    """Percent, of a function of uint8 images (batch, size, size, channels)."""
    import torch

    with torch.no_grad():
        parts = [network(torch.from_numpy(np.array(images[first : first + PART]))).numpy() for first in range(0, len(images), PART)]
    return percent_correct(np.concatenate(parts), labels)


def fake_quantized_accuracy(source: str, images: np.ndarray, labels: np.ndarray) -> float | None:
    """Percent, by the network stored beside the checkpoint; None where there is none (random graphs)."""
    path = Path(source).with_suffix(".quant.npz")
    if source.startswith(zoo.RANDOM_PREFIX) or not path.exists():
        return None
    from model.quant.packed import load_quantized

    return torch_accuracy(load_quantized(path), images, labels)


def float_source(metadata: Mapping[str, object]) -> str | None:
    """Where a graph's float EfficientViT is: the source itself; or what the graph's file names, random or a file beside it. None where
    there is none (random graphs)."""
    source, name = str(metadata["source"]), str(metadata.get("network", ""))
    if Path(source).suffix in zoo.FLOAT_SUFFIXES:
        return source
    if not name or name.startswith(zoo.RANDOM_PREFIX):
        return name or None
    beside = Path(source).with_name(name)
    return str(beside) if beside.exists() else None


def float_accuracy(model: str, metadata: Mapping[str, object], images: np.ndarray, labels: np.ndarray) -> float | None:
    """Percent, by the float EfficientViT that the graph was made from; None where that is not at hand."""
    source = float_source(metadata)
    if source is None:
        return None
    from model.nets.pretrained import float_network

    return torch_accuracy(float_network(model, source).forward_bytes, images, labels)


def evaluate(model: str, bits: int, source: str | None, dataset: str | None, count: int | None) -> dict[str, object]:
    """The printed keys and values; ``seconds`` is the time of the integer graph alone. No accuracies for images without labels."""
    graph, metadata = zoo.load_graph_and_metadata(model, bits, source)
    config = network_of(model)
    if count is not None and count < 1:
        raise InputError(f"images must be at least 1: {count} is not; leave it out for all of them")
    images, labels = data.load(dataset or ("fashion-mnist" if config.image_size == 28 else "photos"), "test", config, count)
    if count is not None and count > len(images):
        raise InputError(f"images must be at most {len(images)}: {count} is not; leave it out for all of them")
    labelled = bool((labels != data.NO_LABEL).all())
    began = time.monotonic()
    logits = logits_of(graph, images) if isinstance(graph, DeitGraph) else efficientvit_logits_of(graph, images)
    seconds = round(time.monotonic() - began, 1)
    before = None
    if labelled and isinstance(graph, DeitGraph):
        before = fake_quantized_accuracy(str(metadata["source"]), images, labels)
    elif labelled:
        before = float_accuracy(model, metadata, images, labels)
    return {
        "model": model,
        "bits": bits,
        "images": len(images),
        "accuracy": percent_correct(logits, labels) if labelled else None,
        "float_accuracy": before,
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_micro", help=f"one of {', '.join(zoo.MODELS)}")
    parser.add_argument("--bits", type=int, default=8, help="activation bits, 1..8 (EfficientViT: 4..8)")
    parser.add_argument(
        "--checkpoint",
        help="a graph (.npz), a timm, Facebook or MIT file (.safetensors, .pth), or random:SEED; default: shipped, else random:0",
    )
    parser.add_argument("--source", choices=data.SOURCES, help="images; default: fashion-mnist where the shape fits, else photos")
    parser.add_argument("--images", type=int, help="use only the first IMAGES")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    try:
        result = evaluate(arguments.model, arguments.bits, arguments.checkpoint, arguments.source, arguments.images)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key} {'none' if value is None else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
