"""Makes every shipped network again. deit_micro: quantized from the first step, mirrored images; fewer bits go on from W1A8's weights.
efficientvit_micro: trained in float, then quantized to W8A8 without training.

Hours on one core; a run that was killed goes on where it stood:

python -m model.ship --folder .cache/models
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from model import quantize, train, zoo

DEIT = "deit_micro"
#: Of W1A8, and of fewer bits after it: epochs, all in the last stage of training, and the largest learning rate.
FIRST, FURTHER = (48, "3e-3"), (12, "1e-3")
BITS = (8, 6, 4)
EFFICIENTVIT = "efficientvit_micro"
EFFICIENTVIT_RUN = ("--epochs", "10", "0", "0", "--learning-rate", "3e-3", "3e-3", "3e-3", "--mirror", "--shift", "1", "--threads", "2")
TEACHER = ("--teacher", "model/checkpoints/efficientvit_micro.safetensors", "--teacher-model", EFFICIENTVIT)
#: Iterations for each block: half a minute that takes the logits' noise down by 10 dB.
RECONSTRUCTION = 100


def deit_options(model: str, seed: int, bits: int, epochs: Sequence[int], rate: str, out: Path, start: Path | None = None) -> list[str]:
    """Of a DeiT with the teacher that all have here, for ``python -m model.train`` in the root of the repository."""
    return [
        *("--model", model, "--bits", str(bits), "--seed", str(seed), "--epochs", *map(str, epochs), "--learning-rate", rate, rate, rate),
        *TEACHER, *(("--start", str(start)) if start else ()), *("--out", str(out)),
    ]  # fmt: skip


def ship_deit(folder: Path, out: Path) -> int:
    """Exit status of what failed first, else 0."""
    first = folder / f"{DEIT}_w1a{BITS[0]}.pt"
    for bits in BITS:
        trained = folder / f"{DEIT}_w1a{bits}.pt"
        epochs, rate = FIRST if trained == first else FURTHER
        start = None if trained == first else first
        code = train.main(["--mirror", *deit_options(DEIT, 0, bits, (0, 0, epochs), rate, trained, start)])
        if code:
            return code
        for suffix in (".npz", ".quant.npz", ".csv"):
            shutil.copyfile(trained.with_suffix(suffix), (out / trained.name).with_suffix(suffix))
    return 0


def quantize_efficientvit(out: Path) -> int:
    """The float network in ``out`` to the integer graph beside it."""
    network, graph = out / f"{EFFICIENTVIT}.safetensors", out / zoo.shipped_path(EFFICIENTVIT, 8).name
    options = ["--model", EFFICIENTVIT, "--calibration", "fashion-mnist", "--reconstruct", str(RECONSTRUCTION)]
    return quantize.main([*options, "--checkpoint", str(network), "--out", str(graph)])


def ship_efficientvit(folder: Path, out: Path) -> int:
    trained = folder / f"{EFFICIENTVIT}.safetensors"
    code = train.main(["--model", EFFICIENTVIT, *EFFICIENTVIT_RUN, "--out", str(trained)])
    if code:
        return code
    for path in (trained, trained.with_suffix(".csv")):
        shutil.copyfile(path, out / path.name)
    return quantize_efficientvit(out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.ship", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".cache") / "models", help="checkpoints of training and logs go here")
    parser.add_argument("--out", type=Path, default=zoo.CHECKPOINTS, help="what ships goes here; default: where it is shipped")
    parser.add_argument("--only", choices=(EFFICIENTVIT, DEIT), help="this network alone")
    arguments = parser.parse_args(argv)
    for folder in (arguments.folder, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    for name, ship in ((EFFICIENTVIT, ship_efficientvit), (DEIT, ship_deit)):  # the first one teaches
        if arguments.only in (None, name) and (code := ship(arguments.folder, arguments.out)):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
