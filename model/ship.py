"""Makes every shipped network again. deit_micro: float, then W1A8, W1A6 and W1A4, each trained from the one before and lowered.
efficientvit_micro: trained in float, then quantized to W8A8 without training.

More than an hour on one core:

python -m model.ship --folder .cache/models
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from model import lower, quantize, train, zoo

#: Name of the run, and its options; each starts from the run before.
DEIT_RUNS = {
    "float": ("--bits", "float", "--epochs", "4", "--learning-rate", "1.5e-3", "--augment", "1"),
    "w1a8": ("--bits", "8", "--epochs", "17", "--learning-rate", "2e-3"),
    "w1a6": ("--bits", "6", "--epochs", "3", "--learning-rate", "4e-4"),
    "w1a4": ("--bits", "4", "--epochs", "5", "--learning-rate", "7e-4"),
}
EFFICIENTVIT = "efficientvit_micro"
EFFICIENTVIT_RUN = ("--bits", "float", "--epochs", "10", "--learning-rate", "3e-3", "--augment", "1", "--threads", "2")
#: Iterations for each block: half a minute that takes the logits' noise down by 10 dB.
RECONSTRUCTION = 100


def ship_deit(folder: Path, out: Path) -> int:
    """Exit status of what failed first, else 0."""
    start: list[str] = []
    for name, options in DEIT_RUNS.items():
        checkpoint = str(folder / f"{name}.pt")
        code = train.main([*options, *start, "--out", checkpoint])
        if code == 0 and name != "float":
            code = lower.main(["--start", checkpoint, "--out", str(out / f"deit_micro_{name}.npz")])
        if code:
            return code
        start = ["--start", checkpoint]
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
    arguments = parser.parse_args(argv)
    for folder in (arguments.folder, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    return ship_deit(arguments.folder, arguments.out) or ship_efficientvit(arguments.folder, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
