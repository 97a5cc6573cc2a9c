"""An integer graph without constants: a network's shapes, for plans of cycles, traffic and resources. It computes nothing of use.

Every constant is a read-only view of one number (``np.broadcast_to``, strides 0), so that neither memory nor time goes into weights. The
numbers keep the laws that a compiler checks: every accumulator fits, shifts are those that exist, q, k and v lie evenly about zero.
Never run or build one: its programs would give the same answer for every image.
"""

from __future__ import annotations

import numpy as np

from model.configs import Config, DeiTConfig
from model.graph import DeitGraph, DeitShape, Linear, Norm
from model.integer import REQUANTIZE_SHIFTS
from model.walk import Role, deit_graph


def _all(value: int, *shape: int, dtype: type = np.int64) -> np.ndarray:
    """``shape`` times the same number, in the memory of one."""
    return np.broadcast_to(dtype(value), shape)


class _Deit:
    """Constants of a DeiT: weights of +1 (several planes) or -1, so that no accumulator grows beyond its inputs."""

    def positions(self, shape: DeitShape) -> np.ndarray:
        return _all(0, shape.tokens, shape.embed_dim)

    def norm(self, channels: int) -> Norm:
        return Norm(gamma=_all(1, channels), beta=_all(0, channels))

    def linear(self, role: Role, outputs: int, inputs: int) -> Linear:
        return Linear(
            codes=_all((1 << role.planes) // 2 if role.planes > 1 else 0, outputs, inputs, dtype=np.uint8),
            planes=role.planes,
            multiplier=_all(1, outputs),
            shift=_all(REQUANTIZE_SHIFTS[0], outputs),
            bias=_all(0, outputs),
            table=_all(0, 256, dtype=np.uint8) if role is Role.FC1 else None,
        )

    def attention(self, shape: DeitShape) -> dict[str, int]:
        return {"score_multiplier": 1, "score_shift": REQUANTIZE_SHIFTS[0], "dividend": 1}


def skeleton(config: Config, bits: int) -> DeitGraph:
    """The integer graph of ``config`` with ``bits``-wide activations, without its constants: for planning only.

    Raises
    ------
    InputError : a precision out of range
    """
    assert isinstance(config, DeiTConfig)
    return deit_graph(config.shape(bits), _Deit())
