"""Queues of instructions: order, waits, room, and who is served first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from rtl.dispatcher import DEAL_CYCLES, POST_LATENCY
from rtl.flow.ddr import IDEAL
from rtl.instruction_queue import INSTRUCTION_CYCLES, MEAN_WAIT, OFFER_LATENCY
from rtl.plan.queues import HELD, Queues
from rtl.program.instruction import Instruction as AnyInstruction
from rtl.program.isa import Instruction, Opcode

QUEUE_OF = {Opcode.LOAD: 0, Opcode.TILE: 1}


@dataclass
class Busy:
    """Works for ``cycles`` on each, then posts to ``counter``."""

    queues: Queues
    cycles: float
    counter: int
    at: float = 0.0
    taken: list[float] = field(default_factory=list)

    def free(self, instruction: AnyInstruction) -> float:
        return self.at

    def take(self, instruction: AnyInstruction, offered: float, time: float) -> None:
        self.taken.append(time)
        self.at = time + self.cycles
        self.queues.post(self.counter, self.at)


def instruction(opcode: Opcode, **waits: int) -> Instruction:
    return Instruction(opcode=opcode, payload={}, **waits)


def run(program: list[Instruction], load_cycles: float = 10, tile_cycles: float = 100) -> tuple[list[float], list[float], Queues]:
    queues = Queues(program, QUEUE_OF, IDEAL, start=0)
    loads, tiles = Busy(queues, load_cycles, 1), Busy(queues, tile_cycles, 2)
    queues.engines = {0: loads, 1: tiles}
    queues.run()
    return loads.taken, tiles.taken, queues


def test_a_queue_is_in_order_and_offers_so_often() -> None:
    loads, _, _ = run([instruction(Opcode.LOAD) for _ in range(4)], load_cycles=1)
    assert [late - early for early, late in itertools.pairwise(loads)] == [INSTRUCTION_CYCLES] * 3
    slow, _, _ = run([instruction(Opcode.LOAD) for _ in range(3)], load_cycles=50)
    assert [late - early for early, late in itertools.pairwise(slow)] == [50] * 2


def test_a_wait_is_met_a_little_later() -> None:
    loads, tiles, _ = run([instruction(Opcode.LOAD), instruction(Opcode.TILE, wait0_counter=1, wait0_value=1)])
    assert tiles[0] == loads[0] + 10 + POST_LATENCY + MEAN_WAIT


def test_queues_run_side_by_side() -> None:
    """The second queue's instruction is dealt one turn later."""
    loads, tiles, _ = run([instruction(Opcode.LOAD), instruction(Opcode.TILE)])
    assert tiles[0] == loads[0] + DEAL_CYCLES


def test_a_full_queue_holds_up_those_behind_it() -> None:
    """A LOAD behind more TILEs than a queue has room for is dealt when the one too many is."""
    free, _, _ = run([*(instruction(Opcode.TILE) for _ in range(HELD)), instruction(Opcode.LOAD)])
    held, tiles, _ = run([*(instruction(Opcode.TILE) for _ in range(HELD + 2)), instruction(Opcode.LOAD)])
    assert free[0] < tiles[0] + DEAL_CYCLES * HELD + OFFER_LATENCY
    assert held[0] >= tiles[1] + OFFER_LATENCY


def test_timers_and_memory_end_with_the_program() -> None:
    """What was asked for last is waited for."""
    called: list[float] = []
    queues = Queues([instruction(Opcode.LOAD)], QUEUE_OF, IDEAL, start=0)
    engine = Busy(queues, 1, 1)
    queues.engines = {0: engine}
    queues.at(5000, called.append)
    queues.run()
    assert called == [5000]
