"""Trains, quantizes and lowers every shipped network of deit_micro: float, then W1A8, W1A6 and W1A4, each from the one before.

About an hour on one core:

python -m model.quantize --folder .cache/models
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model import lower, train, zoo

#: Name of the run, and its options; each starts from the run before.
RUNS = {
    "float": ("--bits", "float", "--epochs", "4", "--learning-rate", "1.5e-3", "--augment", "1"),
    "w1a8": ("--bits", "8", "--epochs", "17", "--learning-rate", "2e-3"),
    "w1a6": ("--bits", "6", "--epochs", "3", "--learning-rate", "4e-4"),
    "w1a4": ("--bits", "4", "--epochs", "5", "--learning-rate", "7e-4"),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.quantize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(".cache") / "models", help="torch checkpoints and logs go here")
    parser.add_argument("--out", type=Path, default=zoo.CHECKPOINTS, help="integer graphs go here; default: the shipped ones")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    start: list[str] = []
    for name, options in RUNS.items():
        checkpoint = str(arguments.folder / f"{name}.pt")
        code = train.main([*options, *start, "--out", checkpoint])
        if code == 0 and name != "float":
            code = lower.main(["--start", checkpoint, "--out", str(arguments.out / f"deit_micro_{name}.npz")])
        if code:
            return code
        start = ["--start", checkpoint]
    return 0


if __name__ == "__main__":
    sys.exit(main())
