"""Training checkpoints: written aside and renamed, read without running code; those of unfinished runs hold what continuing needs."""

from __future__ import annotations

import io
import json
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.errors import InputError
from model.training.plan import Plan

_KEYS = {"model", "bits", "seed", "epoch", "state"}
_RUN_KEYS = {*_KEYS, "plan", "rows", "progress"}
_DAMAGED = (OSError, EOFError, TypeError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError)


@dataclass(kw_only=True)
class Progress:
    """How far a run is. Everything random is drawn from the seed and this position, so no generator has a state to keep.

    stage : index in the plan's stages        epoch, step : to be done next        loss : sum over the epoch's steps so far
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss: float = 0.0


@dataclass(kw_only=True)
class Run:
    """A checkpoint of ``plan``. ``optimizer`` is None where the stage has not begun, ``progress`` where all is done."""

    plan: Plan
    state: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None = None
    progress: Progress | None = field(default_factory=Progress)
    rows: list[dict[str, str]] = field(default_factory=list)


def write_aside(path: Path, content: bytes) -> None:
    """``path`` has all of ``content`` or what it had before."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InputError(f"the output must be writable: {path} is not ({error.strerror}); give another place") from None


def save_run(path: Path, run: Run) -> None:
    """The same run gives the same bytes: what pickling would write by identity (words, lists of them) is JSON."""
    stored = {
        "model": run.plan.model, "bits": run.plan.result_bits(), "seed": run.plan.seed, "epoch": len(run.rows), "state": dict(run.state),
        "plan": json.dumps(run.plan.words()), "rows": json.dumps(run.rows), "optimizer": run.optimizer,
        "progress": None if run.progress is None else dict(vars(run.progress)),
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    write_aside(path, buffer.getvalue())


def _load(path: Path | str, keys: set[str]) -> dict[str, Any]:
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
        if isinstance(stored, dict) and keys <= set(stored):
            return stored
        reason = "something is missing"
    except _DAMAGED as error:
        reason = type(error).__name__
    raise InputError(f"a training checkpoint must come from model.train: {path} does not ({reason}); give a file that it wrote") from None


def resume(path: Path, plan: Plan) -> Run | None:
    """The run that ``path`` holds; None without that file. Raises InputError where it is one of another plan."""
    if not path.exists():
        return None
    stored = _load(path, _RUN_KEYS)
    before = json.loads(stored["plan"])
    for name, value in plan.words().items():
        if before.get(name) != value:
            found = f"{name} is {before.get(name)} there and {value} now"
            raise InputError(f"a run goes on with the options it began with: {path}: {found}; remove it or give another --out")
    progress = stored["progress"]
    return Run(
        plan=plan, state=stored["state"], optimizer=stored["optimizer"], rows=json.loads(stored["rows"]),
        progress=None if progress is None else Progress(**progress),
    )  # fmt: skip


def load_run(path: str) -> dict[str, Any]:
    """Of a finished run: model, bits ("float" or a number), seed, epoch, state."""
    stored = _load(path, _KEYS)
    if stored.get("progress") is not None:
        raise InputError(f"a training checkpoint must be of a finished run: {path} is not; run its command again, which continues it")
    return stored
