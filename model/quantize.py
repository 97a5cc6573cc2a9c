"""Quantizes an EfficientViT without training, after Trio-ViT: a float network and images in, the integer graph's file and a summary out.

python -m model.quantize --model efficientvit_b1_r224 --checkpoint efficientvit_b1.safetensors --calibration FOLDER

Signal-to-noise ratios, in dB, and the accuracy are those of the fake-quantized network, the former on the first calibration images, the
latter on labelled images, where the source has some; python -m model.evaluate measures the integer graph's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from model import zoo
from model.configs import efficientvit_config_of
from model.efficientvit.checkpoint import save_graph
from model.efficientvit.graph import LOGITS
from model.efficientvit.integer import DIVISOR_KINDS
from model.errors import InputError
from model.evaluate import torch_accuracy
from model.nets.pretrained import float_network
from model.quant import explain_page, explain_tables
from model.quant.convert import Converted, convert_efficientvit
from model.quant.explain import explain, layer_noise
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import run
from model.quant.images import CalibrationImages, calibration_images, default_source
from model.quant.ptq import CONSTANT_CHANNELS, Techniques

REMOVABLE = ("migration", "shifting")


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """``write`` makes the file beside ``path`` first: what stands there is whole, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def network_name(model: str, checkpoint: str | None) -> str:
    """What the graph's file says of its float network: random:SEED, or the name of the network's file."""
    if checkpoint is None:
        shipped = zoo.CHECKPOINTS / f"{model}.safetensors"
        return shipped.name if shipped.exists() else f"{zoo.RANDOM_PREFIX}0"
    return checkpoint if checkpoint.startswith(zoo.RANDOM_PREFIX) else Path(checkpoint).name


def techniques_of(arguments: argparse.Namespace) -> Techniques:
    for name in arguments.without:
        if name not in REMOVABLE:
            raise InputError(f"--without must be one of {', '.join(REMOVABLE)}: {name!r} is not; for the divisors use --divisor exact")
    return Techniques(
        bits=arguments.bits, weight_bits=arguments.weight_bits, migration="migration" not in arguments.without,
        shifting="shifting" not in arguments.without, divisor=arguments.divisor, symmetric=arguments.symmetric,
        constant_channels=arguments.constant_channels,
    )  # fmt: skip


def out_paths(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """Of the graph, and of the page, if there is one to write: beside the graph where it has no name of its own."""
    out = arguments.out or Path("build") / f"{arguments.model}_w{arguments.weight_bits}a{arguments.bits}.npz"
    if out.suffix != ".npz" or out.is_dir():
        raise InputError(f"--out must be an .npz file: {out} is not; end its name in .npz")
    if arguments.explain is None:
        return out, None
    page = Path(arguments.explain) if arguments.explain else out.with_suffix(".html")
    if page.suffix != ".html" or page.is_dir():
        raise InputError(f"--explain must be an .html file: {page} is not; end its name in .html")
    return out, page


def measures(converted: Converted, images: CalibrationImages) -> dict[str, object]:
    """Printed keys and values; accuracies are None for images without labels."""
    ratios = {name: noise.total for name, noise in layer_noise(converted.quantization, images).items()}
    result: dict[str, object] = {
        "mean_sqnr_db": round(sum(ratios.values()) / len(ratios), 2),
        "logits_sqnr_db": round(ratios[LOGITS], 2),
        "accuracy": None,
        "float_accuracy": None,
    }
    if images.labelled is not None:
        result["accuracy"] = torch_accuracy(FakeQuantized(converted.quantization), *images.labelled)
        result["float_accuracy"] = torch_accuracy(lambda part: run(converted.folded, part), *images.labelled)
    if converted.blocks:
        ratio = [block.error / block.error_nearest for block in converted.blocks if block.error_nearest]
        result["reconstruction_error"] = round(sum(ratio) / max(1, len(ratio)), 3)
    return result


def write_explanation(page: Path, converted: Converted, images: CalibrationImages, techniques: Techniques) -> str:
    """The page with plots; returns its tables as text."""
    diagnosis = explain(converted.folded, images, techniques, images.count, labelled=images.labelled, calibration=converted.calibration)
    write_aside(page, lambda path: path.write_text(explain_page.page(diagnosis), encoding="utf-8"))
    return explain_tables.as_text(diagnosis)


def quantize(arguments: argparse.Namespace) -> tuple[dict[str, object], str]:
    """The summary, and the tables of --explain. Nothing is written before all that can be wrong has been seen."""
    config, techniques, (out, page) = efficientvit_config_of(arguments.model), techniques_of(arguments), out_paths(arguments)
    if arguments.reconstruct < 0:
        raise InputError(f"--reconstruct must be at least 0 iterations: {arguments.reconstruct} is not; use 1000")
    images = calibration_images(arguments.calibration or default_source(config), config, arguments.images)
    net = float_network(arguments.model, arguments.checkpoint)
    began = time.monotonic()
    converted = convert_efficientvit(net, images, images.count, techniques, arguments.reconstruct)
    seconds = round(time.monotonic() - began, 1)
    how = {
        "network": network_name(arguments.model, arguments.checkpoint), **asdict(techniques), "reconstruct": arguments.reconstruct,
        "calibration": images.name, "images": images.count,
    }  # fmt: skip
    summary = {"model": config.name, **how, **measures(converted, images), "seconds": seconds, "out": str(out)}
    write_aside(out, lambda path: save_graph(path, converted.graph, how))
    if page is None:
        return summary, ""
    return {**summary, "explanation": str(page)}, write_explanation(page, converted, images, techniques)


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in our form: one line, exit 2."""

    def error(self, message: str):
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m model.quantize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="efficientvit_micro, efficientvit_b0 ... b3, with _r224, _r256 or _r288 behind it")
    parser.add_argument("--checkpoint", help="a timm or MIT file, or random:SEED; default: the shipped one, else random:0")
    parser.add_argument(
        "--calibration",
        help="photos, fashion-mnist, a folder of pictures, or a file of uint8 images (.npy, .npz, .safetensors); default: fashion-mnist "
        "where the shape fits, else photos",
    )
    parser.add_argument("--images", type=int, default=64, help="how many of them (default 64)")
    parser.add_argument("--bits", type=int, default=8, help="of activations, 4..8 (default 8)")
    parser.add_argument("--weight-bits", type=int, default=8, help="of weights, 4..8 (default 8)")
    parser.add_argument("--without", action="append", default=[], metavar="TECHNIQUE", help="migration or shifting; may be repeated")
    parser.add_argument("--divisor", default="log2", help=f"of the attention: {', '.join(DIVISOR_KINDS)} (default log2)")
    parser.add_argument("--symmetric", action="store_true", help="activations evenly about zero")
    parser.add_argument("--constant-channels", default="refuse", metavar="RULE", help=f"{' or '.join(CONSTANT_CHANNELS)} (default refuse)")
    parser.add_argument(
        "--reconstruct", type=int, default=0, metavar="ITERATIONS", help="learn the rounding of the weights, block by block"
    )
    parser.add_argument("--out", type=Path, help="integer graph (.npz); default build/MODEL_wWEIGHTBITSaBITS.npz")
    parser.add_argument(
        "--explain", nargs="?", const="", metavar="FILE.html", help="what each technique does, as tables and a page; default: beside --out"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        summary, tables = quantize(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror}: {error.filename}; choose another path with --out or mend its permissions", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(summary))
    else:
        for key, value in summary.items():
            print(f"{key} {'none' if value is None else value}")
        if tables:
            print(f"\n{tables}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
