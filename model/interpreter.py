"""Exact execution of a DeitGraph in numpy: the reference that the accelerator must equal bit for bit.

Matrix products run in float32 or float64 BLAS, whichever represents every partial sum exactly; all else is int64 from ``model.integer``.
"""

from __future__ import annotations

import numpy as np

from model import integer
from model.errors import InputError
from model.exact import exact_kind, exact_matmul
from model.graph import DeitGraph, DeitShape, Layer, Linear, Norm


def float_weights(layer: Linear, kind: type) -> np.ndarray:
    """``integer.plane_weights`` without the detour over int64."""
    return layer.codes.astype(kind) * kind(2) - kind((1 << layer.planes) - 1)


def linear(u: np.ndarray, layer: Linear, bits: int, limits: integer.Saturation) -> np.ndarray:
    """``u`` (..., inputs) unsigned ``bits`` -> (..., outputs), through the table where there is one."""
    bound = layer.inputs * ((1 << bits) - 1) * ((1 << layer.planes) - 1)
    accumulator = exact_matmul(u, float_weights(layer, exact_kind(bound)).T, bound)
    if layer.table is None:
        return integer.requantize(accumulator, layer.multiplier, layer.shift, layer.bias, limits)
    index = integer.requantize(accumulator, layer.multiplier, layer.shift, layer.bias, integer.unsigned(8))
    return layer.table[index].astype(np.int64)


def layernorm(x: np.ndarray, norm: Norm, bits: int) -> np.ndarray:
    return integer.layernorm(x, norm.gamma, norm.beta, bits)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, layer: Layer, shape: DeitShape) -> np.ndarray:
    """``integer.attention`` for a batch of all heads at once: (batch, tokens, embed_dim) each -> (batch, tokens, embed_dim)."""
    batch, tokens, _ = q.shape
    q, k, v = (t.reshape(batch, tokens, shape.heads, shape.head_dim).swapaxes(1, 2) for t in (q, k, v))
    dots = exact_matmul(q, k.swapaxes(-1, -2), shape.head_dim * 127 * 127)
    scores = integer.requantize(dots, layer.score_multiplier, layer.score_shift, 0, integer.signed(integer.SCORE_BITS))
    numerators = integer.softmax_numerators(scores)
    reciprocal = layer.dividend // numerators.sum(-1, keepdims=True)
    sums = exact_matmul(numerators, v, tokens * 255 * 127)
    weighted = integer.round_shift(sums, integer.attention_accumulator_shift(tokens))
    u = ((weighted * reciprocal) >> integer.ATTENTION_SHIFT) + (1 << (shape.bits - 1))
    u = integer.saturate(u, integer.unsigned(shape.bits))
    return u.swapaxes(1, 2).reshape(batch, tokens, shape.embed_dim)


def patches_of(images: np.ndarray, shape: DeitShape) -> np.ndarray:
    """(batch, size, size, channels) bytes -> (batch, patches, patch_dim) ``pixel >> (8 - bits)``, ordered (y, x, channel) in the patch."""
    grid, size = shape.grid, shape.patch_size
    codes = (images >> (8 - shape.bits)).astype(np.int64).reshape(-1, grid, size, grid, size, shape.channels)
    return codes.transpose(0, 1, 3, 2, 4, 5).reshape(-1, shape.patches, shape.patch_dim)


def run_layer(tensors: dict[str, np.ndarray], index: int, residual: np.ndarray, layer: Layer, shape: DeitShape) -> np.ndarray:
    """Adds the tensors of one encoder block to ``tensors``; returns the new residual."""
    wide = integer.signed(integer.RESIDUAL_BITS)
    norm1 = layernorm(residual, layer.norm1, shape.bits)
    q, k, v = np.split(linear(norm1, layer.qkv, shape.bits, integer.SIGNED8), 3, axis=-1)
    attended = attention(q, k, v, layer, shape)
    residual1 = integer.add_residual(residual, linear(attended, layer.projection, shape.bits, wide))
    norm2 = layernorm(residual1, layer.norm2, shape.bits)
    hidden = linear(norm2, layer.fc1, shape.bits, integer.unsigned(8))
    residual2 = integer.add_residual(residual1, linear(hidden, layer.fc2, shape.bits, wide))
    named = {"norm1": norm1, "q": q, "k": k, "v": v, "attention": attended, "residual1": residual1, "norm2": norm2, "hidden": hidden,
             "residual2": residual2}  # fmt: skip
    tensors.update({f"{index}.{name}": tensor for name, tensor in named.items()})
    return residual2


def run_heads(graph: DeitGraph, residual: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors after the last block, ``logits`` last."""
    bits, wide = graph.shape.bits, integer.signed(integer.RESIDUAL_BITS)
    norm = layernorm(residual[:, 0], graph.norm, bits)
    head = linear(norm, graph.head, bits, wide)
    if graph.head_distilled is None:
        return {"norm": norm, "logits": head}
    norm_distilled = layernorm(residual[:, 1], graph.norm, bits)
    head_distilled = linear(norm_distilled, graph.head_distilled, bits, wide)
    logits = integer.add_residual(head, head_distilled)
    return {"norm": norm, "norm_distilled": norm_distilled, "head": head, "head_distilled": head_distilled, "logits": logits}


def _run_batch(graph: DeitGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    shape, wide = graph.shape, integer.signed(integer.RESIDUAL_BITS)
    patches = patches_of(images, shape)
    residual = np.broadcast_to(graph.positions, (len(images), *graph.positions.shape)).copy()
    first = shape.first_patch
    residual[:, first:] = integer.add_residual(residual[:, first:], linear(patches, graph.patch, shape.bits, wide))
    tensors = {"patches": patches, "residual.embed": residual}
    for index, layer in enumerate(graph.layers):
        residual = run_layer(tensors, index, residual, layer, shape)
    return tensors | run_heads(graph, residual)


def interpret(graph: DeitGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor named in ``model.graph``, int64, in execution order.

    images : uint8 (image_size, image_size, channels), or with a leading batch axis, which the tensors then have too.
    """
    size, channels = graph.shape.image_size, graph.shape.channels
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-3:] != (size, size, channels) or images.ndim > 4:
        raise InputError(
            f"{graph.shape.name} takes uint8 images of shape ({size}, {size}, {channels}): {images.dtype} {images.shape} is not"
        )
    if images.ndim == 4:
        return _run_batch(graph, images)
    return {name: tensor[0] for name, tensor in _run_batch(graph, images[None]).items()}


def logits_of(graph: DeitGraph, images: np.ndarray, batch: int = 25) -> np.ndarray:
    """(images, classes) int64, in batches that stay in the cache."""
    return np.concatenate([interpret(graph, images[i : i + batch])["logits"] for i in range(0, len(images), batch)])
