"""An integer graph as tasks, in an order in which each finds what it needs; what may overlap is left to `schedule`."""

from __future__ import annotations

from itertools import pairwise

from model.efficientvit.graph import Convolution, EfficientVitGraph, LinearAttention, Pool
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.program.attention import SCORE_WORDS, AttentionTasks, state_words
from rtl.efficientvit.program.emitter import COUNTER_OF
from rtl.efficientvit.program.expansion import ExpansionLayers
from rtl.efficientvit.program.head import HeadTasks
from rtl.efficientvit.program.layout import ATTENTION_WORDS
from rtl.efficientvit.program.pointwise import PointwiseLayers
from rtl.efficientvit.program.steps import Steps
from rtl.efficientvit.program.tasks import IMAGES_TOGETHER, Task
from rtl.efficientvit.program.workspace import Workspace
from rtl.program.instruction import require_countable


def expand(graph: EfficientVitGraph, config: EfficientVitMachine, images: int) -> list[Task]:
    """The tasks of all images, in canonical order.

    Raises
    ------
    InputError : the network does not fit the machine, or so many images a program
    """
    return _Expander(graph, config).expand(images)


class _Expander:
    def __init__(self, graph: EfficientVitGraph, config: EfficientVitMachine):
        self.graph, self.workspace = graph, Workspace(graph, config)
        self.steps, self.head = Steps(self.workspace), HeadTasks(self.workspace)
        self.attention = AttentionTasks(self.workspace, self.steps)
        self.pointwise = PointwiseLayers(self.workspace, self.steps, self.attention, self.head)
        self.expansion = ExpansionLayers(self.workspace, self.steps, self.attention)

    def expand(self, images: int) -> list[Task]:
        """From the first attention on, two images go side by side: their tensors are small there, each waits long for its depthwise layers
        and its states, and they share weights."""
        alone, together = self._parts()
        for first in range(0, images, IMAGES_TOGETHER):
            numbers = range(first, min(images, first + IMAGES_TOGETHER))
            for part, number in [(alone, number) for number in numbers] + [(part, number) for part in together for number in numbers]:
                self.workspace.number = number
                for index in part:
                    self._operator(index)
            for (engine, _), counter in COUNTER_OF.items():  # early: the rest takes long
                require_countable(counter, self.workspace.counts[engine])
        return self.workspace.tasks

    def _parts(self) -> tuple[range, list[range]]:
        """Operators that an image does alone, and then those between which images alternate: up to the pool, one at a time."""
        operators, readers = self.graph.operators, self.workspace.readers
        split = min((index for index, operator in enumerate(operators) if operator.target in readers.attention), default=len(operators))
        pooled = min(index for index, operator in enumerate(operators) if operator.target in readers.pooled)
        ends = [index + 1 for index in range(split, pooled) if not self._inside_attention(index)]
        return range(split), [range(first, last) for first, last in pairwise([split, *ends, len(operators)])]

    def _inside_attention(self, index: int) -> bool:
        """Whether this operator must be followed by its image's next one: a state must have its readers before its place is given out
        again. Three states, of the first scale of two images and of the second one of the first, are wanted at a time; else images do not
        alternate inside an attention.
        """
        operators = self.graph.operators
        following = next((operator for operator in operators[index + 1 :] if isinstance(operator, LinearAttention)), None)
        if following is None:
            return False
        sources = [scale.source for scale in following.scales]
        state = state_words(min(SCORE_WORDS, self.workspace.words(sources[0]) // ATTENTION_WORDS))
        begun = operators[index].target in sources or operators[index].target == self._aggregated(sources)
        return begun and (3 * state > self.workspace.config.state_depth or operators[index + 1] is following)

    def _aggregated(self, sources: list[str]) -> str | None:
        """What the second scale's grouped layer reads."""
        return next((operator.source for operator in self.graph.operators if operator.target == sources[-1]), None)

    def _operator(self, index: int) -> None:
        operator = self.graph.operators[index]
        if isinstance(operator, LinearAttention):
            self.attention.scores(operator)
        elif isinstance(operator, Pool):
            self.head.pool(operator)
        elif isinstance(operator, Convolution):
            self._convolution(operator, index)
        else:
            self.head.norm(operator)
        self.workspace.free_sources(index)

    def _convolution(self, operator: Convolution, index: int) -> None:
        readers = self.workspace.readers
        if index in self.expansion.followed or operator.depthwise:
            pass  # done with the layer that makes its input
        elif self.graph.tensors[operator.target].pixels == 1:
            self.head.linear(operator)
        elif operator.target in readers.depthwise:
            self.expansion.layer(operator, readers.depthwise[operator.target])
        elif operator.target in readers.pooled:
            self.pointwise.pooled(operator)
        elif operator.target in readers.attention:
            self.pointwise.attended(operator, index)
        else:
            self.pointwise.layer(operator, index)
