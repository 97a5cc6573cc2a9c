"""Makes every shipped network again. The DeiTs: VAQF's stages, the last one once for each number of bits. efficientvit_micro: trained in
float, then quantized to W8A8 without training.

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

#: Epochs of each stage, and the largest learning rate of each.
EPOCHS, RATE = (4, 8, 12), "2e-3"
DEITS, BITS = ("deit_micro", "deit_micro_wide"), (8, 6, 4)
EFFICIENTVIT = "efficientvit_micro"
EFFICIENTVIT_RUN = ("--epochs", "10", "0", "0", "--learning-rate", "3e-3", "3e-3", "3e-3", "--mirror", "--shift", "1", "--threads", "2")
TEACHER = ("--teacher", "model/checkpoints/efficientvit_micro.safetensors", "--teacher-model", EFFICIENTVIT)
#: Iterations for each block: half a minute that takes the logits' noise down by 10 dB.
RECONSTRUCTION = 100


def deit_options(model: str, seed: int, bits: int, epochs: Sequence[int], out: Path, start: Path | None = None) -> list[str]:
    """One run of the DeiTs' recipe, for ``python -m model.train`` in the root of the repository."""
    return [
        *("--model", model, "--bits", str(bits), "--seed", str(seed), "--epochs", *map(str, epochs), "--learning-rate", RATE, RATE, RATE),
        *TEACHER, *(("--start", str(start)) if start else ()), *("--out", str(out)),
    ]  # fmt: skip


def ship_deit(model: str, folder: Path, out: Path) -> int:
    """Exit status of what failed first, else 0."""
    first = folder / f"{model}_w1.pt"
    code = train.main(deit_options(model, 0, BITS[0], (*EPOCHS[:2], 0), first))
    if code:
        return code
    shutil.copyfile(first.with_suffix(".csv"), (out / first.name).with_suffix(".csv"))
    for bits in BITS:
        trained = folder / f"{model}_w1a{bits}.pt"
        code = train.main(deit_options(model, 0, bits, (0, 0, EPOCHS[2]), trained, first))
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
    parser.add_argument("--only", choices=(*DEITS, EFFICIENTVIT), help="this network alone")
    arguments = parser.parse_args(argv)
    for folder in (arguments.folder, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (EFFICIENTVIT, *DEITS) if arguments.only is None else (arguments.only,):
        code = (
            ship_efficientvit(arguments.folder, arguments.out) if name == EFFICIENTVIT else ship_deit(name, arguments.folder, arguments.out)
        )
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
