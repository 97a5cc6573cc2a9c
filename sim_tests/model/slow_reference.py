"""A DeitGraph evaluated in Python integers, one number at a time, straight from the words of ``model.integer``: checks the interpreter."""

from __future__ import annotations

import math

from model import integer
from model.graph import DeitGraph, Layer, Linear, Norm


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def requantize(accumulator: int, multiplier: int, shift: int, bias: int, low: int, high: int) -> int:
    assert -(2**26) <= accumulator < 2**26 and -(2**26) <= accumulator + bias < 2**26
    return clamp(((accumulator + bias) * multiplier + 2 ** (shift - 1)) // 2**shift, low, high)


def dot(codes: list[int], u: list[int], planes: int) -> int:
    """Horner over the bit planes: 2*S - total for each, from the top."""
    accumulator, total = 0, sum(u)
    for plane in reversed(range(planes)):
        chosen = sum(value for code, value in zip(codes, u, strict=True) if code >> plane & 1)
        accumulator = 2 * accumulator + 2 * chosen - total
    return accumulator


def linear(layer: Linear, u: list[int], low: int, high: int) -> list[int]:
    columns = (layer.codes, layer.multiplier, layer.shift, layer.bias)
    limits = (low, high) if layer.table is None else (0, 255)
    out = [requantize(dot(c, u, layer.planes), m, s, b, *limits) for c, m, s, b in zip(*(x.tolist() for x in columns), strict=True)]
    return out if layer.table is None else [int(layer.table[index]) for index in out]


def layernorm(norm: Norm, x: list[int], bits: int) -> list[int]:
    constants = integer.LayerNormConstants.of(len(x))
    mean2 = (sum(x) * constants.inverse + (1 << constants.inverse_shift - 1)) >> constants.inverse_shift
    energy = sum((2 * value - mean2) ** 2 for value in x)
    rsqrt = min(constants.dividend // max(math.isqrt(energy), 1), 2**26 - 1)
    out = []
    for value, gamma, beta in zip(x, norm.gamma.tolist(), norm.beta.tolist(), strict=True):
        normalized = clamp(((2 * value - mean2) * rsqrt + 2**17) >> 18, -(2**17), 2**17 - 1)
        out.append(clamp((normalized * gamma + (beta << 14) + 2**17) >> 18, 0, 2**bits - 1))
    return out


def attend(layer: Layer, q: list[list[int]], k: list[list[int]], v: list[list[int]], bits: int) -> list[list[int]]:
    """One head; rows are tokens."""
    shift = integer.attention_accumulator_shift(len(k))
    out = []
    for query in q:
        dots = [sum(a * b for a, b in zip(query, key, strict=True)) for key in k]
        scores = [requantize(d, layer.score_multiplier, layer.score_shift, 0, -512, 511) for d in dots]
        numerators = [math.floor(255 * math.exp(-min(max(scores) - s, 255) / 32) + 0.5) for s in scores]
        reciprocal = layer.dividend // sum(numerators)
        sums = [sum(p * row[channel] for p, row in zip(numerators, v, strict=True)) for channel in range(len(v[0]))]
        weighted = [(s + ((1 << shift) >> 1)) >> shift for s in sums]
        out.append([clamp((w * reciprocal >> 22) + 2 ** (bits - 1), 0, 2**bits - 1) for w in weighted])
    return out


def block(layer: Layer, residual: list[list[int]], heads: int, bits: int) -> list[list[int]]:
    dim = len(residual[0])
    size = dim // heads
    qkv = [linear(layer.qkv, layernorm(layer.norm1, x, bits), -127, 127) for x in residual]
    attended: list[list[int]] = [[] for _ in residual]
    for head in range(heads):
        parts = [[row[part * dim + head * size : part * dim + (head + 1) * size] for row in qkv] for part in range(3)]
        for row, values in zip(attended, attend(layer, *parts, bits), strict=True):
            row.extend(values)
    residual = [add(x, linear(layer.projection, u, -32768, 32767)) for x, u in zip(residual, attended, strict=True)]
    hidden = [linear(layer.fc1, layernorm(layer.norm2, x, bits), 0, 255) for x in residual]
    return [add(x, linear(layer.fc2, u, -32768, 32767)) for x, u in zip(residual, hidden, strict=True)]


def add(x: list[int], update: list[int]) -> list[int]:
    return [clamp(a + b, -32768, 32767) for a, b in zip(x, update, strict=True)]


def logits(graph: DeitGraph, image: list) -> list[int]:
    """``image``: nested lists (size, size, channels) of bytes."""
    shape, size = graph.shape, graph.shape.patch_size
    residual = graph.positions.tolist()
    for index in range(shape.patches):
        top, left = index // shape.grid * size, index % shape.grid * size
        rows = [image[top + y][left + x] for y in range(size) for x in range(size)]
        u = [pixel >> (8 - shape.bits) for row in rows for pixel in row]
        token = index + (2 if shape.distilled else 1)
        residual[token] = add(residual[token], linear(graph.patch, u, -32768, 32767))
    for layer in graph.layers:
        residual = block(layer, residual, shape.heads, shape.bits)
    heads = [graph.head] if graph.head_distilled is None else [graph.head, graph.head_distilled]
    parts = [linear(head, layernorm(graph.norm, x, shape.bits), -32768, 32767) for head, x in zip(heads, residual, strict=False)]
    return parts[0] if len(parts) == 1 else add(*parts)
