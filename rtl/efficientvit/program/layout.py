"""How tensors lie in words of 32 channels, and in which order their channels come."""

from __future__ import annotations

import numpy as np

from model.efficientvit.graph import Convolution, EfficientVitGraph, LinearAttention
from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.errors import InputError

#: Words of a tile of q, k and v: [q], [k], [v] of a head of 32, or [q q], [k v], [k v] of two heads of 16.
ATTENTION_WORDS = 3
#: What a place of a word holds beyond the tensor's channels.
EMPTY = -1


def words_of(channels: int) -> int:
    return -(-channels // WORD_CHANNELS)


def natural_order(channels: int) -> np.ndarray:
    """Channel c at place c, then empty places up to whole words."""
    order = np.full(words_of(channels) * WORD_CHANNELS, EMPTY)
    order[:channels] = np.arange(channels)
    return order


def attention_order(channels: int, head_dim: int) -> np.ndarray:
    """Places of q, k and v: the graph has them side by side per head, the rows want q in words of its own.

    Raises
    ------
    InputError : heads that do not fill words.
    """
    if head_dim == WORD_CHANNELS:
        return natural_order(channels)
    if head_dim != WORD_CHANNELS // 2 or channels % (6 * head_dim):
        raise InputError(
            f"heads must be of 32 channels, or an even number of 16: {channels // (3 * head_dim)} of {head_dim} are not; widen it"
        )
    head = np.arange(head_dim)
    tiles = []
    for pair in range(channels // (6 * head_dim)):
        first, second = (np.add.outer(3 * head_dim * number + np.arange(3) * head_dim, head) for number in (2 * pair, 2 * pair + 1))
        tiles += [first[0], second[0], first[1], first[2], second[1], second[2]]
    return np.concatenate(tiles)


def channel_orders(graph: EfficientVitGraph) -> dict[str, np.ndarray]:
    """Per tensor, the channel at every place of its words, or EMPTY. What attention reads, and what that is made of, is in its order."""
    orders = {name: natural_order(tensor.channels) for name, tensor in graph.tensors.items()}
    for operator in reversed(graph.operators):
        if isinstance(operator, LinearAttention):
            for scale in operator.scales:
                orders[scale.source] = attention_order(graph.tensors[scale.source].channels, operator.head_dim)
        elif isinstance(operator, Convolution) and operator.groups > 1 and operator.target in orders:
            orders[operator.source] = orders[operator.target]
    return orders


def weight_matrix(convolution: Convolution, source_order: np.ndarray, target_order: np.ndarray) -> np.ndarray:
    """(places of the target, places of the source) int8; a grouped layer's is block-diagonal. The stem's inputs are its windows' bytes
    (ky, kx, channel), in one word."""
    weight, outputs = convolution.weight, convolution.outputs
    if convolution.kernel > 1:
        flat = weight.transpose(0, 2, 3, 1).reshape(outputs, -1)
    else:
        per_group = weight.shape[1]
        flat = np.zeros((outputs, per_group * convolution.groups), dtype=np.int8)
        for group in range(convolution.groups):
            rows = slice(group * outputs // convolution.groups, (group + 1) * outputs // convolution.groups)
            flat[rows, group * per_group : (group + 1) * per_group] = weight[rows, :, 0, 0]
    inputs = natural_order(flat.shape[1]) if convolution.kernel > 1 else source_order
    padded = np.zeros((outputs + 1, flat.shape[1] + 1), dtype=np.int8)  # EMPTY is the last row and column: zeros
    padded[:outputs, :-1] = flat
    return padded[np.ix_(target_order, inputs)]
