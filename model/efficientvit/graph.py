"""The integer graph of an EfficientViT: a list of operators on named tensors, with shapes, zero points and integer constants.

numpy only. ``model.efficientvit.lower`` writes it, ``model.efficientvit.interpreter`` executes it exactly and *is* the reference.
Arithmetic is defined in ``model.efficientvit.integer``.

A tensor is (height, width, channels) of unsigned ``bits``-wide codes u with one zero point: ``u - zero`` stands for its real value divided
by its scale, less the channel's centre where the consumer undoes a shift (filter-wise shifting), and per channel where it undoes a
migration. No integer operator sees scales, centres or migration factors: lowering folds them into multipliers and biases.
The image is a tensor like any other, but for a zero point per channel (the code of the mean pixel): its codes are the upper ``bits`` bits
of the pixels' bytes, see ``integer.image_codes``. What enters the LayerNorm, and the logits, are s16 with zero point 0. So limits are of
three kinds: s16, [0, 2**bits - 1], or [1, 2**bits - 1] where codes lie evenly about their zero point (q, k, v; every tensor of a symmetric
quantization). That low bound is the one bit that hardware needs for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.integer import Saturation

IMAGE = "image"
LOGITS = "logits"


Zero = int | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """``zero``: an int, or (channels,) for the image. limits: the codes that the producer saturates to, one of the three kinds above."""

    height: int
    width: int
    channels: int
    zero: Zero
    limits: Saturation

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardswish:
    """The second stage of a requantizer: ``integer.hardswish`` of the first, less the channel's centre, times a multiplier per channel.

    bias : (channels,) s16, what is added to Hardswish's result, -centre in its unit: 3 / 2**fraction
    multiplier, shift : (channels,), to units of 1 / 64 code; ``shift`` from REQUANTIZE_SHIFTS
    """

    fraction: int
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Shortcut:
    """``(code - its tensor's zero) * multiplier`` is added, in units of 1 / 4096 code. ``multiplier``: unsigned 16 bits."""

    source: str
    multiplier: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantizer:
    """Accumulator -> code, see ``integer.requantize_code``. bias, multiplier, shift : (channels,), as in ``model.integer.requantize``."""

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    hardswish: Hardswish | None = None
    shortcut: Shortcut | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """``sum of weight * (u - zero)`` over the window, padded by kernel // 2 pixels of code ``zero``, which count 0.

    weight : (channels, channels of source / groups, kernel, kernel) int8 in [-127, 127]
    groups : 1; those of a grouped pointwise layer; or, depthwise, as many as channels
    Fully connected layers have kernel 1 and a source of one pixel.
    """

    name: str
    source: str
    target: str
    weight: np.ndarray
    stride: int
    groups: int
    requantizer: Requantizer

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def depthwise(self) -> bool:
        return self.groups == self.outputs > 1 and self.weight.shape[1] == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Divisor:
    """How a dividend is divided. ``kind``:

    log2 : by 2**e, e = ``integer.rounded_log2`` of the divisor, limited to ``low`` ... ``low + 15``
    log2_8bit : the same of the divisor requantized to 8 bits (the paper's): low = 0, at most 8
    uniform : by the divisor requantized to 8 bits
    exact : by the divisor
    multiplier, shift : of the 8-bit step
    """

    kind: str
    low: int = 0
    multiplier: int = 0
    shift: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """One scale of an attention: its own source tensor, (q, k, v) interleaved per head; see ``integer.linear_attention``.

    state_*, sum_* : of S = K^T V and of the sum of K, per head, (heads,)        output_multiplier : unsigned 16 bits for the log2 kinds,
    ATTENTION_DIVIDEND_BITS for the others; output_shift : from REQUANTIZE_SHIFTS, to which the exponent less ``low``, 0..15, is added; for
    the others, whose shift is ATTENTION_SHIFT, 0
    """

    source: str
    state_multiplier: np.ndarray
    state_shift: np.ndarray
    sum_multiplier: np.ndarray
    sum_shift: np.ndarray
    divisor: Divisor
    output_multiplier: int
    output_shift: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearAttention:
    """ReLU linear attention: heads of all scales side by side in the target, ``head_dim`` channels each."""

    name: str
    target: str
    head_dim: int
    scales: tuple[Scale, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The mean over all pixels: the requantizer of ``sum of (u - zero)``."""

    name: str
    source: str
    target: str
    requantizer: Requantizer


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerNorm:
    """Of s16 codes, then Hardswish: see ``integer.layernorm_hardswish``. gamma (channels,) s16, beta (channels,) signed 32 bits, with
    ``fraction`` and ``fraction + 11`` fraction bits, in units of 3 / 2**hardswish.fraction."""

    name: str
    source: str
    target: str
    gamma: np.ndarray
    beta: np.ndarray
    fraction: int
    hardswish: Hardswish


Operator = Convolution | LinearAttention | Pool | LayerNorm


@dataclass(frozen=True, kw_only=True, eq=False)
class EfficientVitGraph:
    """``operators`` in execution order; ``tensors`` by name, ``image`` first, ``logits`` (1, 1, classes) s16 last.

    bits, weight_bits : precision of activations, the image too, and of weights, 4..8 each
    """

    name: str
    bits: int
    weight_bits: int
    tensors: dict[str, Tensor]
    operators: tuple[Operator, ...]
