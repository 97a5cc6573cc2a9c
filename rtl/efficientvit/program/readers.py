"""Who reads what in a graph."""

from __future__ import annotations

from model.efficientvit.graph import Convolution, EfficientVitGraph, LinearAttention, Operator, Pool


def sources_of(operator: Operator) -> list[str]:
    """The tensors that an operator reads."""
    if isinstance(operator, LinearAttention):
        return [scale.source for scale in operator.scales]
    names = [operator.source]
    if isinstance(operator, Convolution) and operator.requantizer.shortcut is not None:
        names.append(operator.requantizer.shortcut.source)
    return names


class Readers:
    """By name of a tensor.

    depthwise : the depthwise layer that reads it        attention : the attention that does, and the number of its scale
    pooled : tensors that the pool reads        last_use : place of the last operator that reads it
    """

    def __init__(self, graph: EfficientVitGraph):
        self._operators = graph.operators
        self.depthwise = {
            operator.source: operator for operator in graph.operators if isinstance(operator, Convolution) and operator.depthwise
        }
        self.attention = {
            scale.source: (operator, index)
            for operator in graph.operators
            if isinstance(operator, LinearAttention)
            for index, scale in enumerate(operator.scales)
        }
        self.pooled = {operator.source for operator in graph.operators if isinstance(operator, Pool)}
        self.last_use = {name: index for index, operator in enumerate(graph.operators) for name in sources_of(operator)}

    def of(self, name: str) -> list[Operator]:
        return [operator for operator in self._operators if name in sources_of(operator)]
