"""Accuracy of a network: by the exact integer graph, and by the fake-quantized network that it was lowered from.

python -m model.evaluate --model deit_micro --bits 8 [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from model import data, zoo
from model.errors import InputError
from model.interpreter import logits_of


def percent_correct(logits: np.ndarray, labels: np.ndarray) -> float:
    return round(100.0 * float((logits.argmax(-1) == labels).mean()), 2)


def fake_quantized_accuracy(source: str, images: np.ndarray, labels: np.ndarray) -> float | None:
    """Percent, by the network stored beside the checkpoint; None where there is none (random graphs)."""
    path = Path(source).with_suffix(".quant.npz")
    if source.startswith(zoo.RANDOM_PREFIX) or not path.exists():
        return None
    import torch

    from model.quant.packed import load_quantized

    network = load_quantized(path)
    with torch.no_grad():
        parts = [network(part).numpy() for part in torch.from_numpy(images.copy()).split(500)]
    return percent_correct(np.concatenate(parts), labels)


def evaluate(model: str, bits: int, source: str | None, dataset: str | None, count: int | None) -> dict[str, object]:
    """The printed keys and values; ``seconds`` is the time of the integer graph alone. No accuracies for images without labels."""
    graph, metadata = zoo.load_graph_and_metadata(model, bits, source)
    fits = graph.shape.image_size == 28
    if count is not None and count < 1:
        raise InputError(f"images must be at least 1: {count} is not; leave it out for all of them")
    images, labels = data.load(dataset or ("fashion-mnist" if fits else "photos"), "test", graph.shape, count)
    if count is not None and count > len(images):
        raise InputError(f"images must be at most {len(images)}: {count} is not; leave it out for all of them")
    labelled = bool((labels != data.NO_LABEL).all())
    began = time.monotonic()
    logits = logits_of(graph, images)
    seconds = round(time.monotonic() - began, 1)
    return {
        "model": model,
        "bits": bits,
        "images": len(images),
        "accuracy": percent_correct(logits, labels) if labelled else None,
        "float_accuracy": fake_quantized_accuracy(str(metadata["source"]), images, labels) if labelled else None,
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_micro", help=f"one of {', '.join(zoo.MODELS)}")
    parser.add_argument("--bits", type=int, default=8, help="activation bits, 1..8")
    parser.add_argument(
        "--checkpoint", help="a graph (.npz), a timm or Facebook file (.safetensors, .pth), or random:SEED; default: shipped, else random:0"
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
