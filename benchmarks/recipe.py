"""`python -m benchmarks.recipe [--only NAME] [--table]`: does VAQF's recipe earn its keep? Trains every arm of the experiment in turn.

Each run is resumable and kept in .cache/recipe; its figures go to benchmarks/results/recipe/NAME.json, and the command, given again, does
what is missing: hours on one core. ``--table`` writes docs/training.md from the figures that are there and trains nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recipe_page import page
from model import data, ship, train
from model.checkpoint import load_graph
from model.evaluate import fake_quantized_accuracy, percent_correct
from model.interpreter import logits_of
from model.training.state import write_aside

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "recipe"
PAGE = ROOT / "docs" / "training.md"
RUNS = Path(".cache") / "recipe"
SEEDS = (0, 1, 2)
MODELS = ("deit_micro", "deit_micro_wide")
#: Epochs of a progressive arm's stages, and the largest learning rate of each.
EPOCHS, RATE = (4, 8, 12), "2e-3"
REAL, BINARY, QUANTIZED = EPOCHS
#: Epochs of every quantized arm.
TOTAL = sum(EPOCHS)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run. ``after``: the arm whose result it goes on from, of the same model and seed; "" for none."""

    model: str
    arm: str
    seed: int
    bits: int
    epochs: tuple[int, int, int]
    after: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}_{self.arm}_{self.seed}"

    @property
    def checkpoint(self) -> Path:
        return RUNS / f"{self.name}.pt"

    @property
    def options(self) -> list[str]:
        """Of ``python -m model.train``."""
        start = RUNS / f"{self.model}_{self.after}_{self.seed}.pt" if self.after else None
        return [*ship.deit_options(self.model, self.seed, self.bits, self.epochs, RATE, self.checkpoint, start), "--test-every", "4"]


PREFIX, SCRATCH, FLOAT = "prefix", "scratch_w1a8", "float"


def progressive(model: str, seed: int, bits: int) -> Run:
    return Run(model=model, arm=f"progressive_w1a{bits}", seed=seed, bits=bits, epochs=(0, 0, QUANTIZED), after=PREFIX)


def first_arms(model: str, seed: int) -> list[Run]:
    """The two that the question is about."""
    return [
        Run(model=model, arm=PREFIX, seed=seed, bits=8, epochs=(REAL, BINARY, 0)),
        *(progressive(model, seed, bits) for bits in (8, 6, 4)),
        Run(model=model, arm=SCRATCH, seed=seed, bits=8, epochs=(0, 0, TOTAL)),
    ]


def other_arms(model: str, seed: int) -> list[Run]:
    return [Run(model=model, arm=FLOAT, seed=seed, bits=8, epochs=(TOTAL, 0, 0)), progressive(model, seed, 2)]


def every_run() -> list[Run]:
    """The most important first."""
    return [run for seed in SEEDS for some in (first_arms, other_arms) for model in MODELS for run in some(model, seed)]


def figures(run: Run) -> dict[str, Any]:
    """Of a finished run: accuracies in percent of the 10,000 test images."""
    with run.checkpoint.with_suffix(".csv").open(newline="", encoding="utf-8") as log:
        rows = list(csv.DictReader(log))
    found: dict[str, Any] = {
        "model": run.model, "arm": run.arm, "seed": run.seed, "bits": run.bits, "epochs": run.epochs, "after": run.after,
        "command": " ".join(["python -m model.train", *run.options]), "log": rows, "trained": float(rows[-1]["test_accuracy"]),
    }  # fmt: skip
    graph = run.checkpoint.with_suffix(".npz")
    if run.epochs[2]:
        images, labels = data.fashion_mnist("test")
        found["integer"] = percent_correct(logits_of(load_graph(graph)[0], images), labels)
        found["fake_quantized"] = fake_quantized_accuracy(str(graph), images, labels)
    return found


def result_path(run: Run) -> Path:
    return RESULTS / f"{run.name}.json"


def finish(run: Run) -> None:
    """Trains what is left of the run and keeps its figures. Raises RuntimeError where training fails."""
    RUNS.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"{run.name}\n")
    if status := train.main(run.options):
        raise RuntimeError(f"training {run.name} ended with {status}")
    write_aside(result_path(run), (json.dumps(figures(run), indent=1) + "\n").encode())
    write_page()


def results() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def write_page() -> None:
    write_aside(PAGE, page(results(), MODELS, len(SEEDS), EPOCHS).encode())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__)
    parser.add_argument("--only", action="append", choices=[run.name for run in every_run()], help="this run, and what it goes on from")
    parser.add_argument("--table", action="store_true", help="write the page and train nothing")
    options = parser.parse_args(arguments)
    if options.table:
        write_page()
        return 0
    by_name = {run.name: run for run in every_run()}
    for name in options.only or by_name:
        run = by_name[name]
        if result_path(run).exists():
            continue
        before = by_name.get(f"{run.model}_{run.after}_{run.seed}")
        if before and not before.checkpoint.exists():
            finish(before)
        finish(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
