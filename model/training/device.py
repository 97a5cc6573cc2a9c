"""Where a run computes: on the CPU, or, with plain torch instead of `model.quant.fused`, on a GPU."""

from __future__ import annotations

import os

import torch

from model.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str) -> torch.device:
    """Of DEVICES, for this process; "auto" is the GPU where there is one. A GPU repeats its sums in the same order from here on.

    Raises
    ------
    InputError : no GPU where one is asked for
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("--device cuda needs a GPU and a torch that knows it: there is none; use --device cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
