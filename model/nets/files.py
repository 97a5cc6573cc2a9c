"""Tensors out of checkpoint files of others: ``.safetensors``, and torch's ``.pth``, ``.pt`` and ``.bin``, read without running code.

The layout of safetensors: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes at the header's offsets.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.errors import InputError

_SAFE_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
               "I32": torch.int32, "U8": torch.uint8, "I8": torch.int8}  # fmt: skip
#: Under these names, files hold the tensors' dictionary itself.
WRAPPERS = ("model", "state_dict")
#: What the readers raise on truncated and foreign files.
_DAMAGED = (OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError, ImportError, OverflowError,
            MemoryError, pickle.UnpicklingError, zipfile.BadZipFile)  # fmt: skip


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        if not start <= begin <= end <= len(content):
            raise ValueError(f"{name} ends at byte {end} of {len(content)}")
        kind = _SAFE_TYPES[entry["dtype"]]
        data = bytearray(content[begin:end])
        tensors[name] = (torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)).reshape(entry["shape"])
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in WRAPPERS:
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise TypeError(f"neither tensors by name nor those under {' or '.join(WRAPPERS)}")
    return {str(name): value for name, value in stored.items()}


_READERS = {".safetensors": _read_safetensors, ".pth": _read_torch, ".pt": _read_torch, ".bin": _read_torch}
SUFFIXES = tuple(_READERS)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Every tensor of the file, by name. InputError where it is missing, truncated or something else."""
    path = Path(path)
    try:
        return _READERS[path.suffix](path)
    except FileNotFoundError:
        raise InputError(f"a checkpoint must exist: {path} does not; give the path of a file or random:SEED") from None
    except _DAMAGED as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        said = f"a checkpoint must be a whole {path.suffix} file of tensors: {path} is not ({reason})"
        raise InputError(f"{said}; copy it again, or save its state_dict alone") from None
