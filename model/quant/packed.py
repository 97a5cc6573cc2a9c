"""A fake-quantized network as a small ``.npz``: of a binary weight only the signs and the row scales count, so only those are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.checkpoint import read_archive
from model.configs import deit_config_of
from model.errors import InputError
from model.nets.deit import DeiT
from model.quant.deit import QuantDeiT
from model.quant.quantizers import BinaryWeight

_SIGNS, _SCALE = ".signs", ".scale"
_BINARY = (".attn.qkv.weight", ".attn.proj.weight", ".mlp.fc1.weight", ".mlp.fc2.weight")


def save_quantized(path: Path | str, network: QuantDeiT) -> None:
    """Writes what the forward pass depends on."""
    arrays = {"model": np.array(network.net.config.name), "bits": np.array(network.bits)}
    for name, tensor in network.state_dict().items():
        if name.endswith(_BINARY):
            arrays[name + _SIGNS] = np.packbits(BinaryWeight.codes(tensor).numpy(), axis=1)
            arrays[name + _SCALE] = BinaryWeight.scale(tensor).numpy()
        else:
            arrays[name] = tensor.numpy()
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_quantized(path: Path | str) -> QuantDeiT:
    """The network in eval mode. Raises InputError for files that hold something else."""
    arrays = read_archive(path)
    try:
        network = QuantDeiT(DeiT(deit_config_of(arrays["model"].item())), int(arrays["bits"]))
        state = {name: _tensor(arrays, name, tensor.shape) for name, tensor in network.state_dict().items()}
        network.load_state_dict(state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:80]
        raise InputError(f"a fake-quantized network must come from save_quantized: {path} does not ({reason}); write it again") from None
    return network.eval()


def _tensor(arrays: dict[str, np.ndarray], name: str, shape: torch.Size) -> torch.Tensor:
    if not name.endswith(_BINARY):
        return torch.from_numpy(arrays[name])
    signs = np.unpackbits(arrays[name + _SIGNS], axis=1, count=shape[1]).astype(np.float32) * 2 - 1
    return torch.from_numpy(signs * arrays[name + _SCALE])
