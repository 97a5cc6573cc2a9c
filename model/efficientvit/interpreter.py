"""Exact execution of an EfficientVitGraph in numpy: the reference that the accelerator must equal bit for bit.

Products run in float32 or float64 BLAS, whichever represents every partial sum exactly; all else is int64, from
``model.efficientvit.integer``.
Tensors are (batch, height, width, channels).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from model.efficientvit import integer
from model.efficientvit.graph import IMAGE, LOGITS, Convolution, EfficientVitGraph, LayerNorm, LinearAttention, Operator, Pool, Scale, Zero
from model.errors import InputError
from model.exact import exact_matmul
from model.integer import saturate

Codes = dict[str, np.ndarray]


def padded(u: np.ndarray, padding: int, zero: Zero) -> np.ndarray:
    """With ``padding`` more pixels of code ``zero`` on every side."""
    batch, height, width, channels = u.shape
    wide = np.empty((batch, height + 2 * padding, width + 2 * padding, channels), dtype=u.dtype)
    wide[...] = zero
    wide[:, padding : padding + height, padding : padding + width] = u
    return wide


def windows(u: np.ndarray, kernel: int, stride: int, zero: Zero) -> np.ndarray:
    """(batch, height, width, channels) -> a view (batch, out height, out width, channels, kernel, kernel) of the padded tensor."""
    wide = padded(u, kernel // 2, zero)
    return np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]


def accumulators(u: np.ndarray, convolution: Convolution, zero: Zero) -> np.ndarray:
    """``sum of weight * (u - zero)`` over each window, int64 (batch, out height, out width, outputs)."""
    weight, kernel = convolution.weight.astype(np.int64), convolution.kernel
    values = windows(u, kernel, convolution.stride, zero) - np.reshape(zero, (-1, 1, 1))
    if convolution.depthwise:
        return np.einsum("bhwcyx,cyx->bhwc", values, weight[:, 0], optimize=False)
    bound = int(np.abs(weight).reshape(len(weight), -1).sum(-1).max()) * int(np.abs(values).max(initial=1))
    grouped = values.reshape(*values.shape[:3], convolution.groups, -1)
    matrix = weight.reshape(convolution.groups, convolution.outputs // convolution.groups, -1)
    parts = [exact_matmul(grouped[..., group, :], matrix[group].T, bound) for group in range(convolution.groups)]
    return np.concatenate(parts, axis=-1)


def convolve(graph: EfficientVitGraph, codes: Codes, convolution: Convolution) -> np.ndarray:
    source, target = graph.tensors[convolution.source], graph.tensors[convolution.target]
    shortcut = convolution.requantizer.shortcut
    added = None if shortcut is None else codes[shortcut.source] - graph.tensors[shortcut.source].zero
    sums = accumulators(codes[convolution.source], convolution, source.zero)
    return integer.requantize_code(sums, convolution.requantizer, target.zero, target.limits, added)


def attend(graph: EfficientVitGraph, codes: Codes, attention: LinearAttention) -> np.ndarray:
    target = graph.tensors[attention.target]
    quotients = [attend_scale(graph, codes, scale, attention.head_dim) for scale in attention.scales]
    return saturate(np.concatenate(quotients, axis=-1) + target.zero, target.limits)


def attend_scale(graph: EfficientVitGraph, codes: Codes, scale: Scale, head_dim: int) -> np.ndarray:
    """Quotients of one scale, (batch, height, width, heads * head_dim)."""
    values = codes[scale.source] - graph.tensors[scale.source].zero
    batch, height, width, channels = values.shape
    heads = channels // (3 * head_dim)
    q, k, v = values.reshape(batch, height * width, heads, 3, head_dim).transpose(3, 0, 2, 1, 4)
    quotient = integer.linear_attention(q, k, v, scale, partial(exact_matmul, bound=127 * 127 * max(height * width, head_dim)))
    return quotient.transpose(0, 2, 1, 3).reshape(batch, height, width, -1)


def pool(graph: EfficientVitGraph, codes: Codes, pooling: Pool) -> np.ndarray:
    source, target = graph.tensors[pooling.source], graph.tensors[pooling.target]
    sums = (codes[pooling.source] - source.zero).sum((1, 2), keepdims=True)
    return integer.requantize_code(sums, pooling.requantizer, target.zero, target.limits)


def normalize(graph: EfficientVitGraph, codes: Codes, norm: LayerNorm) -> np.ndarray:
    target = graph.tensors[norm.target]
    return integer.layernorm_hardswish(codes[norm.source], norm, target.zero, target.limits)


_RULES = {Convolution: convolve, LinearAttention: attend, Pool: pool, LayerNorm: normalize}


def execute(graph: EfficientVitGraph, codes: Codes, operator: Operator) -> np.ndarray:
    """The codes of the operator's target, from ``codes`` of all that it reads."""
    return _RULES[type(operator)](graph, codes, operator)


def interpret(graph: EfficientVitGraph, images: np.ndarray) -> Codes:
    """Codes of every tensor by name, int64, in execution order.

    images : uint8 (height, width, channels), or with a leading batch axis, which the tensors then have too
    """
    image, images = graph.tensors[IMAGE], np.asarray(images)
    shape = (image.height, image.width, image.channels)
    if images.dtype != np.uint8 or images.shape[-3:] != shape or images.ndim not in (3, 4):
        raise InputError(f"{graph.name} takes uint8 images of shape {shape}: {images.dtype} {images.shape} is not; resize them")
    codes: Codes = {IMAGE: integer.image_codes(images.reshape(-1, *shape).astype(np.int64), graph.bits)}
    for operator in graph.operators:
        codes[operator.target] = execute(graph, codes, operator)
    return codes if images.ndim == 4 else {name: tensor[0] for name, tensor in codes.items()}


def logits_of(graph: EfficientVitGraph, images: np.ndarray, batch: int = 25) -> np.ndarray:
    """(images, classes) int64."""
    return np.concatenate([interpret(graph, images[i : i + batch])[LOGITS][:, 0, 0] for i in range(0, len(images), batch)])
