"""No program waits for itself: every instruction comes after all that it waits for, whatever the queues' depths are."""

from collections import Counter as Tally
from dataclasses import replace

import pytest

from model.configs import efficientvit_config_of
from model.skeleton import skeleton
from rtl.efficientvit.isa import QUEUE_OF, Instruction
from rtl.efficientvit.preset import preset
from rtl.efficientvit.program.compiler import outlines
from rtl.efficientvit.program.emitter import COUNTER_OF, Emitter
from rtl.flow.ddr import Memory
from rtl.plan.cycles import predict

MACHINES = [
    ("efficientvit_micro", 16, 512, 8),
    ("efficientvit_micro", 49, 512, 5),
    ("efficientvit_b0", 49, 512, 8),
    ("efficientvit_b1", 22, 1024, 3),
]


def machine_of(name: str, rows: int, memory_words: int):
    graph = skeleton(efficientvit_config_of(name), 8)
    return graph, replace(preset(graph, rows=rows, dsp_clock=1), memory_words=memory_words)


def posted_by(instruction: Instruction) -> list[int]:
    if instruction.post_enable:
        return [instruction.post_counter]
    return [counter for (engine, _), counter in COUNTER_OF.items() if engine == QUEUE_OF[instruction.opcode]]


def too_early(program: tuple[Instruction, ...]) -> int:
    """Instructions that wait for a post of a later one."""
    posts, found = Tally(), 0
    for instruction in program:
        found += any(posts[counter] < value for counter, value in instruction.waits)
        posts.update(posted_by(instruction))
    return found


@pytest.mark.parametrize(("name", "rows", "memory_words", "images"), MACHINES)
def test_instructions_come_after_what_they_wait_for(name, rows, memory_words, images):
    graph, machine = machine_of(name, rows, memory_words)
    assert too_early(*outlines(graph, machine, (images,))) == 0


def test_an_order_by_time_alone_is_noticed_and_stands_still(monkeypatch):
    """As the compiler had it: eight images of B0 filled the queue of weights with streams, the first of which waited for a later load."""

    class Forgetful(dict):
        def __getitem__(self, key):
            return 0.0

    begun = Emitter.__init__

    def forget(self):
        begun(self)
        self._place_of = Forgetful()

    monkeypatch.setattr(Emitter, "__init__", forget)
    graph, machine = machine_of("efficientvit_b0", 49, 512)
    assert too_early(*outlines(graph, machine, (8,))) > 0
    with pytest.raises(AssertionError, match="instructions wait for each other"):
        predict(graph, machine, 8, Memory())
