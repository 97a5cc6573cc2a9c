"""An instruction-level simulator of the accelerator: runs program bytes as ``rtl.program.isa`` says.

Written from the instruction set, not from the compiler: it knows nothing about tiles' names or tensors. Instructions execute one at a time;
``policy`` chooses which ready queue goes next, so that DMA-first and array-first orders expose every missing wait.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtl.config import AcceleratorConfig
from rtl.program.isa import COUNTERS, INSTRUCTION_BYTES, Instruction, LoadTarget, Opcode, Source, Window, weight_item_bits
from sim_tests.program.machine import BEAT_BYTES, Machine

QUEUES = {Opcode.LOAD: "dma", Opcode.STORE: "dma", Opcode.END: "dma", Opcode.TILE: "array", Opcode.ATTEND: "attend"}

Policy = Callable[[list[str]], str]


def dma_first(ready: list[str]) -> str:
    return min(ready, key=["dma", "array", "attend"].index)


def array_first(ready: list[str]) -> str:
    return min(ready, key=["array", "attend", "dma"].index)


class Executor(Machine):
    """``program``, ``weights``, ``image``: contents of the windows. ``numbers`` False: follow queues and buffers only."""

    def __init__(self, config: AcceleratorConfig, program: bytes, weights: bytes, image: bytes, numbers: bool = True):
        super().__init__(config)
        self.weights, self.image, self.numbers = weights, image, numbers
        self.counters = [0] * COUNTERS
        self.instructions = [Instruction.decode(program[at : at + INSTRUCTION_BYTES]) for at in range(0, len(program), INSTRUCTION_BYTES)]
        # which LOAD last wrote each word: compared with what program order says
        self.owner = {target: np.full(len(memory), -1) for target, memory in self.memories().items()}
        self._owners = self._owners_in_program_order()

    def run(self, policy: Policy = dma_first) -> np.ndarray:
        """Execute until END. Returns the logits in the RESULT window. Raises on deadlock."""
        queues: dict[str, list[int]] = {"dma": [], "array": [], "attend": []}
        for index, instruction in enumerate(self.instructions):
            queues[QUEUES[instruction.opcode]].append(index)
        while True:
            ready = [name for name, queue in queues.items() if queue and self._ready(self.instructions[queue[0]])]
            assert ready, f"deadlock: counters {self.counters}, heads {[self.instructions[q[0]] for q in queues.values() if q]}"
            index = queues[policy(ready)].pop(0)
            instruction = self.instructions[index]
            if instruction.opcode == Opcode.END:
                assert not any(queues.values()), f"END before the end: {queues}"
                return np.frombuffer(bytes(self.result), "<i2").astype(np.int64)[: self.config.shape.classes]
            self._execute(index, instruction)
            if instruction.post_enable:
                self.counters[instruction.post_counter] += 1

    def _ready(self, i: Instruction) -> bool:
        return self.counters[i.wait0_counter] >= i.wait0_value and self.counters[i.wait1_counter] >= i.wait1_value

    def _execute(self, index: int, instruction: Instruction) -> None:
        p = instruction.payload
        if instruction.opcode == Opcode.LOAD:
            self._load(index, p)
        elif instruction.opcode == Opcode.TILE:
            self._check_owners(index)
        if not self.numbers:
            return
        if instruction.opcode == Opcode.TILE:
            self.tile(index, p)
        elif instruction.opcode == Opcode.ATTEND:
            self.attend(index, p)
        elif instruction.opcode == Opcode.STORE:
            self.store(p)

    # -- buffers in use -------------------------------------------------------------------------------------------------------------------

    def _owners_in_program_order(self) -> dict[int, list[tuple[LoadTarget, slice, int]]]:
        """For each TILE: (memory, words read, LOAD that must have written them)."""
        owner = {target: np.full(len(memory), -1) for target, memory in self.memories().items()}
        needs: dict[int, list[tuple[LoadTarget, slice, int]]] = {}
        for index, instruction in enumerate(self.instructions):
            p = instruction.payload
            if instruction.opcode == Opcode.LOAD and p["target"] in owner:
                owner[LoadTarget(p["target"])][p["address"] : p["address"] + p["items"]] = index
            if instruction.opcode == Opcode.TILE:
                needs[index] = [(target, words, self._one(owner[target][words])) for target, words in self._reads(p)]
        return needs

    @staticmethod
    def _one(owners: np.ndarray) -> int:
        assert len(set(owners.tolist())) == 1 and owners[0] >= 0, f"one LOAD must fill the words of a TILE: {set(owners.tolist())}"
        return int(owners[0])

    def _reads(self, p: dict[str, int]) -> list[tuple[LoadTarget, slice]]:
        words = slice(p["weight_address"], p["weight_address"] + p["words"])
        reads = [(LoadTarget.WEIGHT, words), (LoadTarget.PARAMETER, words)]
        if p["source"] == Source.NORMALIZED:
            reads.append((LoadTarget.NORM, slice(p["norm_address"], p["norm_address"] + p["activations"])))
        if p["table_enable"]:
            reads.append((LoadTarget.TABLE, slice(p["table_set"] * 256, p["table_set"] * 256 + 256)))
        return reads

    def _check_owners(self, index: int) -> None:
        for target, words, load in self._owners[index]:
            found = set(self.owner[target][words].tolist())
            assert found == {load}, f"TILE {index} reads {target.name} {words} of LOAD {load}, memory holds LOADs {found}"

    def _load(self, index: int, p: dict[str, int]) -> None:
        config, target = self.config, LoadTarget(p["target"])
        width = {
            LoadTarget.WEIGHT: weight_item_bits(config.inputs) // 8,
            LoadTarget.PARAMETER: 8,
            LoadTarget.NORM: 4,
            LoadTarget.TABLE: 1,
            LoadTarget.POSITION: 2,
            LoadTarget.PIXEL: 1,
        }[target]
        window = {Window.WEIGHTS: self.weights, Window.IMAGE: self.image}[Window(p["window"])]
        end = p["offset"] + p["items"] * width
        assert p["offset"] % BEAT_BYTES == 0 and p["items"] > 0, f"LOAD {index} must start on a beat and move something"
        assert -(-end // BEAT_BYTES) * BEAT_BYTES <= len(window), f"LOAD {index} overruns window {p['window']}: {end} > {len(window)}"
        data = window[p["offset"] : end]
        if target in self.owner:
            assert p["address"] + p["items"] <= len(self.owner[target]), f"LOAD {index} beyond the {target.name} memory"
            self.owner[target][p["address"] : p["address"] + p["items"]] = index
        if self.numbers:
            self.load(target, data, slice(p["address"], p["address"] + p["items"]))
