"""`python -m benchmarks.quantization [--only CASE] [--table]`: measures the EfficientViT quantizer, keeps the figures, writes the page.

Figures go to benchmarks/results/quantization/CASE.json, one case a file; ``--table`` writes docs/quantization.md from them and measures
nothing. One torch thread. Accuracies are those of all 10,000 test images of Fashion-MNIST where no other
number is given.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quantization_page import page
from model.efficientvit.graph import LOGITS
from model.efficientvit.interpreter import interpret, logits_of
from model.efficientvit.lower import lower
from model.evaluate import percent_correct, torch_accuracy
from model.nets.efficientvit import EfficientVit
from model.nets.pretrained import float_network
from model.quant.calibration import Calibration, calibrate
from model.quant.explain import Diagnosis, explain, layer_noise
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import FoldedNetwork, fold
from model.quant.images import CalibrationImages, calibration_images
from model.quant.ptq import Techniques, quantize
from model.quant.quantization import Quantization
from model.zoo import CHECKPOINTS

RESULTS = Path(__file__).parent / "results" / "quantization"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "quantization.md"
MICRO, B1 = "efficientvit_micro", "efficientvit_b1_r224"
STRESS = CHECKPOINTS / f"{MICRO}_stress.safetensors"
MICRO_IMAGES, B1_IMAGES = 512, 64
#: Bits of weights and activations.
WIDTHS = ((8, 8), (7, 7), (6, 6), (5, 5), (4, 4), (6, 8), (4, 8), (8, 6), (8, 4))
#: Test images of what has many rows: the first ones.
FEWER_IMAGES = 2000
#: Images on which the integer graph's codes are compared with the fake-quantized run's, and logits with them.
COMPARED = {MICRO: 64, B1: 4}
#: Of random networks, a few channels are constant.
KEPT = Techniques(constant_channels="keep")


class _Subject:
    """A network with its calibration."""

    def __init__(self, model: str, source: str | None, dataset: str, images: int):
        self.net: EfficientVit = float_network(model, source)
        self.folded: FoldedNetwork = fold(self.net)
        self.images: CalibrationImages = calibration_images(dataset, self.net.config, images)
        began = time.monotonic()
        self.calibration: Calibration = calibrate(self.folded, self.images, images)
        self.seconds = time.monotonic() - began

    def quantized(self, techniques: Techniques) -> Quantization:
        return quantize(self.folded, self.images, self.calibration, techniques)


def _micro(source: str | None = None) -> tuple[_Subject, np.ndarray, np.ndarray]:
    subject = _Subject(MICRO, source, "fashion-mnist", MICRO_IMAGES)
    assert subject.images.labelled is not None
    return subject, *subject.images.labelled


def arrows(quantization: Quantization, images: np.ndarray) -> dict[str, float]:
    """Between the fake-quantized run and the integer graph: codes that differ, by how much at most, and the logits' correlation."""
    graph, seen = lower(quantization), {}
    logits = FakeQuantized(quantization).codes(torch.from_numpy(np.array(images)), lambda name, x: seen.__setitem__(name, x))
    exact = interpret(graph, images)
    worst, parts = 0, []
    for name, codes in seen.items():
        difference = np.abs(exact[name] - codes.permute(0, 2, 3, 1).numpy())
        if name != LOGITS and graph.tensors[name].limits.low >= 0:
            worst = max(worst, int(difference.max()))
            parts.append(float((difference > 0).mean()))
    pair = exact[LOGITS].reshape(-1), logits.permute(0, 2, 3, 1).numpy().reshape(-1)
    difference = np.abs(pair[0] - pair[1]).max() / np.abs(pair[1]).max()
    return {
        "codes_that_differ_percent": round(100 * float(np.mean(parts)), 3), "worst_tensor_percent": round(100 * max(parts), 3),
        "largest_code_difference": worst, "logits_correlation": round(float(np.corrcoef(*pair)[0, 1]), 6),
        "largest_logit_difference_percent": round(100 * float(difference), 3),
    }  # fmt: skip


def integer_row(subject: _Subject, techniques: Techniques, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy of the fake-quantized run and of the integer graph."""
    quantization = subject.quantized(techniques)
    return {
        "techniques": asdict(techniques),
        "fake_quantized_accuracy": torch_accuracy(FakeQuantized(quantization), images, labels),
        "integer_accuracy": percent_correct(logits_of(lower(quantization), images, batch=200), labels),
        "noise": asdict(layer_noise(quantization, subject.images, 64)[LOGITS]),
    }


def accuracy_case() -> dict[str, Any]:
    """The shipped micro network, W8A8, asymmetric and symmetric."""
    subject, images, labels = _micro()
    rows = [integer_row(subject, Techniques(symmetric=symmetric), images, labels) for symmetric in (False, True)]
    return {
        "float_accuracy": torch_accuracy(subject.net.forward_bytes, images, labels),
        "rows": rows,
        "arrows": arrows(subject.quantized(Techniques()), images[: COMPARED[MICRO]]),
    }


def widths_case() -> dict[str, Any]:
    """Integer accuracy of micro by bits of weights and activations."""
    subject, *labelled = _micro()
    images, labels = (part[:FEWER_IMAGES] for part in labelled)
    rows = [integer_row(subject, Techniques(weight_bits=w, bits=a), images, labels) for w, a in WIDTHS]
    return {"images": FEWER_IMAGES, "float_accuracy": torch_accuracy(subject.net.forward_bytes, images, labels), "rows": rows}


def _summary(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """The ablation with the noise of all layers."""
    rows = []
    for row in diagnosis.ablation:
        noise = diagnosis.noise[row.name]
        worst = min(noise, key=lambda name: noise[name].channel)
        rows.append(
            asdict(row) | {
                "mean_db": round(float(np.mean([layer.total for layer in noise.values()])), 2),
                "mean_channel_db": round(float(np.mean([layer.channel for layer in noise.values()])), 2),
                "worst_layer": worst, "worst_layer_db": round(noise[worst].channel, 2),
            }
        )  # fmt: skip
    return rows


def stress_case() -> dict[str, Any]:
    """The stress network: every row of the ablation, asymmetric and (fewer images) symmetric; the full engine's integer graph."""
    subject, images, labels = _micro(str(STRESS))
    result: dict[str, Any] = {
        "float_accuracy": torch_accuracy(subject.net.forward_bytes, images, labels), "symmetric_images": FEWER_IMAGES
    }  # fmt: skip
    for name, techniques, count in (("asymmetric", Techniques(), len(images)), ("symmetric", Techniques(symmetric=True), FEWER_IMAGES)):
        labelled = images[:count], labels[:count]
        diagnosis = explain(subject.folded, subject.images, techniques, MICRO_IMAGES, labelled=labelled, calibration=subject.calibration)
        result[name] = _summary(diagnosis)
    result["integer"] = integer_row(subject, Techniques(), images, labels)
    return result


def b1_case() -> dict[str, Any]:
    """B1 at 224 with random weights of realistic ranges and natural photos: signal-to-noise ratios, time and memory."""
    subject = _Subject(B1, "random:0", "photos", B1_IMAGES)
    began = time.monotonic()
    quantization = subject.quantized(KEPT)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    compared = arrows(quantization, next(iter(subject.images))[: COMPARED[B1]])
    diagnosis = explain(subject.folded, subject.images, KEPT, B1_IMAGES, calibration=subject.calibration)
    return {
        "calibration_images": B1_IMAGES, "calibrate_seconds": round(subject.seconds, 1), "quantize_seconds": round(seconds, 1),
        "peak_gib": round(peak, 2), "arrows": compared, "ablation": _summary(diagnosis),
    }  # fmt: skip


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "accuracy": accuracy_case, "widths": widths_case, "stress": stress_case, "b1": b1_case,
}  # fmt: skip


def measure(name: str) -> Mapping[str, Any]:
    began = time.monotonic()
    figures = CASES[name]()
    figures = {"command": f"python -m benchmarks.quantization --only {name}", **figures}
    return figures | {"seconds": round(time.monotonic() - began, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(CASES), help="this case alone; may be given several times")
    parser.add_argument("--table", action="store_true", help="write docs/quantization.md from the results that are there")
    arguments = parser.parse_args(argv)
    if not arguments.table:
        torch.set_num_threads(1)
        RESULTS.mkdir(parents=True, exist_ok=True)
        for name in arguments.only or CASES:
            (RESULTS / f"{name}.json").write_text(json.dumps(measure(name), indent=1) + "\n", encoding="utf-8")
    results = {
        name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in CASES if (RESULTS / f"{name}.json").exists()
    }
    missing = [name for name in CASES if name not in results]
    if missing and arguments.table:
        sys.stderr.write(f"popvit: benchmarks/results/quantization must hold every case: {', '.join(missing)} are missing; run --only\n")
        return 2
    if not missing:
        PAGE.write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
