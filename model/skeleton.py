"""An integer graph without constants: a network's shapes, for plans of cycles, traffic and resources. It computes nothing of use.

Every constant is a read-only view of one number (``np.broadcast_to``, strides 0), so that neither memory nor time goes into weights. The
numbers keep the laws that a compiler checks: every accumulator fits, shifts are those that exist, q, k and v lie evenly about zero.
Never run or build one: its programs would give the same answer for every image.
"""

from __future__ import annotations

import numpy as np

from model.configs import EFFICIENTVIT_WEIGHT_BITS, Config, DeiTConfig, check_bits
from model.efficientvit.graph import (
    Convolution,
    Divisor,
    EfficientVitGraph,
    Hardswish,
    LayerNorm,
    Operator,
    Pool,
    Requantizer,
    Scale,
    Shortcut,
)
from model.efficientvit.integer import HARDSWISH_FRACTIONS
from model.efficientvit.operators import OperatorsConfig
from model.efficientvit.walk import Stage, efficientvit_graph
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


class _EfficientVit:
    """Constants of an EfficientViT: weights of 0."""

    def weight(self, shape: tuple[int, ...], limit: int) -> np.ndarray:
        return _all(0, *shape, dtype=np.int8)

    def requantizer(self, graph: EfficientVitGraph, operator: Convolution | Pool, channels: int, stage: Stage) -> Requantizer:
        return Requantizer(
            bias=_all(0, channels),
            multiplier=_all(1, channels),
            shift=_all(REQUANTIZE_SHIFTS[0], channels),
            hardswish=self._gate(channels) if stage.hardswish else None,
            shortcut=None if stage.shortcut is None else Shortcut(source=stage.shortcut, multiplier=1),
        )

    def _gate(self, channels: int) -> Hardswish:
        one, shift = _all(1, channels), _all(REQUANTIZE_SHIFTS[0], channels)
        return Hardswish(fraction=HARDSWISH_FRACTIONS[0], bias=_all(0, channels), multiplier=one, shift=shift)

    def norm(self, name: str, source: str, channels: int) -> LayerNorm:
        gamma, beta = _all(1, channels), _all(0, channels)
        return LayerNorm(name=name, source=source, target=name, gamma=gamma, beta=beta, fraction=0, hardswish=self._gate(channels))

    def scale(self, graph: EfficientVitGraph, source: str, head_dim: int) -> Scale:
        heads = graph.tensors[source].channels // (3 * head_dim)
        one, shift = _all(1, heads), _all(REQUANTIZE_SHIFTS[0], heads)
        return Scale(
            source=source, state_multiplier=one, state_shift=shift, sum_multiplier=one, sum_shift=shift, divisor=Divisor(kind="log2"),
            output_multiplier=1, output_shift=REQUANTIZE_SHIFTS[0],
        )  # fmt: skip

    def made(self, graph: EfficientVitGraph, operator: Operator | None) -> None:
        """Nothing is computed."""


def skeleton(config: Config | OperatorsConfig, bits: int) -> DeitGraph | EfficientVitGraph:
    """The integer graph of ``config`` with ``bits``-wide activations, without its constants: for planning only.

    Raises
    ------
    InputError : a precision out of range
    """
    check_bits(config, bits)
    if isinstance(config, DeiTConfig):
        return deit_graph(config.shape(bits), _Deit())
    return efficientvit_graph(config, bits, EFFICIENTVIT_WEIGHT_BITS, _EfficientVit())
