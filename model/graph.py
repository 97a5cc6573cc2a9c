"""The integer graph of a binary-weight DeiT: operators with shapes, bit-widths and integer constants.

numpy only. Lowering (``model.lower``) writes it, the interpreter (``model.interpreter``) executes it exactly and *is* the reference, the
compiler (``rtl.program.compiler``) maps it onto the accelerator. Arithmetic is defined in ``model.integer``.

Tensors by name, in execution order (``L`` = layer index):
``patches`` (patches, patch_dim) u ``bits`` -> ``residual.embed`` (tokens, embed_dim) s16
-> per layer ``L.norm1`` u, ``L.q`` ``L.k`` ``L.v`` s8, ``L.attention`` u, ``L.residual1`` s16,
``L.norm2`` u, ``L.hidden`` u, ``L.residual2`` s16
-> ``norm`` u (class token only) -> ``logits`` s16. Distilled: ``norm`` and ``norm_distilled`` u (class, distillation token)
-> ``head`` and ``head_distilled`` s16 -> ``logits`` s16, their saturated sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class DeitShape:
    """Dimensions of a DeiT. ``bits``: activation precision, 1..8. ``distilled``: a distillation token follows the class token."""

    name: str
    bits: int
    image_size: int
    channels: int
    patch_size: int
    embed_dim: int
    depth: int
    heads: int
    hidden_dim: int
    classes: int
    distilled: bool = False

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        return self.grid**2

    @property
    def tokens(self) -> int:
        return self.first_patch + self.patches

    @property
    def first_patch(self) -> int:
        """Token of the first patch: after the class token and, if there is one, the distillation token."""
        return 1 + self.distilled

    @property
    def patch_dim(self) -> int:
        return self.channels * self.patch_size**2

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.heads


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """``requantize(codes . u)`` per output channel, see ``integer.plane_weights`` and ``integer.requantize``.

    codes : (outputs, inputs) uint8, ``planes`` bits each        multiplier, shift, bias : (outputs,) int64
    table : (256,) uint8 or None. With a table the requantizer saturates to unsigned 8 bits and the table maps that to the output.
    """

    codes: np.ndarray
    planes: int
    multiplier: np.ndarray
    shift: np.ndarray
    bias: np.ndarray
    table: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        return self.codes.shape[0]

    @property
    def inputs(self) -> int:
        return self.codes.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """Constants of ``integer.layernorm``: gamma, beta (embed_dim,) int64, both signed 16 bits."""

    gamma: np.ndarray
    beta: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One encoder block. ``qkv`` outputs are q, k, v in that order, each head-major (head * head_dim + dim), saturated to [-127, 127].

    ``projection`` and ``fc2`` saturate to signed 16 bits and are added to the residual; ``fc1`` has the GELU table.
    """

    norm1: Norm
    qkv: Linear
    score_multiplier: int
    score_shift: int
    dividend: int
    projection: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class DeitGraph:
    """The whole network.

    positions : (tokens, embed_dim) int64, s16: position table, the class token added into row 0, the distillation token, if there is one,
        into row 1. Initial residual.
    patch : Linear with 8 planes, inputs ordered (y, x, channel) in the patch; result saturated to s16, added to residual rows
        ``first_patch``...
    Pixels are bytes; the first activation is ``pixel >> (8 - bits)``. Image layout: (image_size, image_size, channels) bytes.
    norm, head : final LayerNorm of the class token; head has 8 planes; logits saturate to s16 on one common scale.
    head_distilled : of the distillation token, on the same scale, or None. Both heads then carry half of their weight, and
    ``logits`` = saturate16(head + head_distilled), each saturated to s16 before.
    """

    shape: DeitShape
    positions: np.ndarray
    patch: Linear
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    head_distilled: Linear | None = None
