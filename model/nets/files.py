"""Tensors out of checkpoint files of others: ``.safetensors``, and torch's ``.pth``, ``.pt`` and ``.bin``, read without running code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.errors import InputError

#: Under these names, files hold the tensors' dictionary itself.
WRAPPERS = ("model", "state_dict")
#: In checkpoints of ``model.training.state`` alone.
_TRAINING = {"plan", "progress"}
#: What the readers raise on truncated and foreign files.
_DAMAGED = (OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError, ImportError, OverflowError,
            MemoryError, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError)  # fmt: skip


def _read_torch(path: Path) -> dict[str, Tensor]:
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(stored, Mapping) and set(stored) >= _TRAINING:
        graph = path.with_suffix(".npz").name
        raise InputError(f"a float checkpoint must hold tensors alone: {path} is of model.train; give the graph beside it, {graph}")
    for wrapper in WRAPPERS:
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise TypeError(f"neither tensors by name nor those under {' or '.join(WRAPPERS)}")
    return {str(name): value for name, value in stored.items()}


_READERS = {".safetensors": load_file, ".pth": _read_torch, ".pt": _read_torch, ".bin": _read_torch}
SUFFIXES = tuple(_READERS)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Every tensor of the file, by name. InputError where it is missing, truncated or something else."""
    path = Path(path)
    try:
        return _READERS[path.suffix](path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"a checkpoint must exist: {path} does not; give the path of a file or random:SEED") from None
    except _DAMAGED as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        said = f"a checkpoint must be a whole {path.suffix} file of tensors: {path} is not ({reason})"
        raise InputError(f"{said}; copy it again, or save its state_dict alone") from None
