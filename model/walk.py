"""One description of a DeiT for every source of constants: random ones (``model.random_graph``), none at all (``model.skeleton``)."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np

from model.graph import DeitGraph, DeitShape, Layer, Linear, Norm

#: Planes of the patch embedding's and the heads' weights; the others have one.
WIDE_PLANES = 8


class Role(Enum):
    """What a linear layer is for."""

    PATCH = "patch"
    QKV = "qkv"
    PROJECTION = "projection"
    FC1 = "fc1"
    FC2 = "fc2"
    HEAD = "head"

    @property
    def planes(self) -> int:
        return WIDE_PLANES if self in (Role.PATCH, Role.HEAD) else 1


class Constants(Protocol):
    """The constants of a network's parts, asked for once each, in the order of `deit_graph`."""

    def positions(self, shape: DeitShape) -> np.ndarray:
        """(tokens, embed_dim) s16."""
        ...

    def norm(self, channels: int) -> Norm: ...

    def linear(self, role: Role, outputs: int, inputs: int) -> Linear:
        """With ``role.planes`` planes, and a table for FC1 alone."""
        ...

    def attention(self, shape: DeitShape) -> dict[str, int]:
        """``score_multiplier``, ``score_shift`` and ``dividend`` of a layer."""
        ...


def _layer(shape: DeitShape, constants: Constants) -> Layer:
    dim = shape.embed_dim
    attention = constants.attention(shape)
    return Layer(
        norm1=constants.norm(dim),
        qkv=constants.linear(Role.QKV, 3 * dim, dim),
        projection=constants.linear(Role.PROJECTION, dim, dim),
        norm2=constants.norm(dim),
        fc1=constants.linear(Role.FC1, shape.hidden_dim, dim),
        fc2=constants.linear(Role.FC2, dim, shape.hidden_dim),
        **attention,
    )


def deit_graph(shape: DeitShape, constants: Constants) -> DeitGraph:
    """The network of ``shape``, in which everything that is no dimension comes from ``constants``."""
    return DeitGraph(
        shape=shape,
        positions=constants.positions(shape),
        patch=constants.linear(Role.PATCH, shape.embed_dim, shape.patch_dim),
        layers=tuple(_layer(shape, constants) for _ in range(shape.depth)),
        norm=constants.norm(shape.embed_dim),
        head=constants.linear(Role.HEAD, shape.classes, shape.embed_dim),
        head_distilled=constants.linear(Role.HEAD, shape.classes, shape.embed_dim) if shape.distilled else None,
    )
