"""``kernels.c``, compiled for one network on first use and called through ctypes: one gcc run of about a second, kept in ``.cache``."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.configs import DeiTConfig
from model.errors import InputError

SOURCE = Path(__file__).with_name("kernels.c")
#: Sums may be reordered, so that loops vectorise, and nothing is infinite; nothing sets the processor's modes, as -ffast-math would.
#: gcc 12 makes the backward pass of attention twice as fast at -O2 with these two as at -O3.
FLAGS = (
    *("-O2", "-ftree-vectorize", "-fpeel-loops", "-march=native", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-ffinite-math-only"),
)


class _Range(ctypes.Structure):
    _fields_ = [("low", ctypes.c_float), ("high", ctypes.c_float)]


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The functions of ``kernels.c`` for one network. Tensors are float32, contiguous, on the CPU; numbers become floats."""

    library: ctypes.CDLL

    def call(self, name: str, *arguments: Tensor | int | float | tuple[int, int]) -> None:
        """Tensors as pointers, whole numbers as long, pairs as ranges."""
        getattr(self.library, name)(*map(_c, arguments))


def _c(value: Tensor | int | float | tuple[int, int]) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, tuple):
        return _Range(*value)
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_float(value)


def _compiler() -> str:
    """The first that is there of $CC, cc, gcc."""
    for name in (os.environ.get("CC", ""), "cc", "gcc"):
        if name and (found := shutil.which(name)):
            return found
    raise InputError("training on a CPU needs a C compiler: neither $CC, cc nor gcc is found; apt-get install gcc")


def _compile(library: Path, compiler: str, constants: list[str]) -> None:
    """Written aside, then renamed: two processes may compile the same."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, *FLAGS, *constants, str(SOURCE), "-o", str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.splitlines() or ["nothing"])[0][:120]
            raise InputError(f"{SOURCE.name} must compile: {compiler} says {said}; use another compiler with CC=")
        made.replace(library)


@functools.cache
def kernels_of(config: DeiTConfig) -> Kernels:
    """Raises InputError without a C compiler."""
    constants = {
        "TOKENS": config.shape(8).tokens,
        "HEADS": config.heads,
        "HEAD_DIM": config.embed_dim // config.heads,
        "DIM": config.embed_dim,
    }
    options = [f"-D{name}={value}" for name, value in constants.items()]
    compiler = _compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256("\n".join((SOURCE.read_text(encoding="utf-8"), version, *FLAGS, *options, _processor())).encode()).hexdigest()
    cache = Path(os.environ.get("POPVIT_CACHE", Path(__file__).parents[2] / ".cache"))
    library = cache / "kernels" / f"{digest[:16]}.so"
    if not library.exists():
        _compile(library, compiler, options)
    return Kernels(library=ctypes.CDLL(str(library)))


def _processor() -> str:
    """What -march=native depends on, as far as the system tells: a cache may be carried to another machine."""
    path = Path(os.sep) / "proc" / "cpuinfo"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
