"""An instruction-level simulator of the accelerator: runs program bytes as ``rtl.program.isa`` says.

Written from the instruction set, not from the compiler: it knows nothing about tiles' names or tensors. Instructions execute one at a time;
``policy`` chooses which ready queue goes next, so that queues running ahead of each other expose every missing wait.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtl.config import AcceleratorConfig
from rtl.program.instruction import COUNTERS, INSTRUCTION_BYTES
from rtl.program.isa import Instruction, LoadTarget, Mask, Opcode, Source, weight_item_bits
from sim_tests.program.machine import BEAT_BYTES, Machine

QUEUES = {
    Opcode.LOAD: "dma",
    Opcode.STORE: "dma",
    Opcode.END: "dma",
    Opcode.TILE: "array",
    Opcode.ATTEND: "attend",
    Opcode.STREAM: "stream",
    Opcode.INPUT: "input",
}
ITEM_BYTES = {
    LoadTarget.PARAMETER: 8,
    LoadTarget.NORM: 4,
    LoadTarget.TABLE: 1,
    LoadTarget.POSITION: 16,
}
#: The buffered memory that a LOAD fills.
MEMORY = {LoadTarget.PARAMETER: "parameters", LoadTarget.NORM: "norms", LoadTarget.TABLE: "tables"}

Policy = Callable[[list[str]], str]


def first_of(*queues: str) -> Policy:
    """The first of ``queues`` that is ready: the others starve."""
    assert len(queues) == len(set(QUEUES.values()))
    return lambda ready: min(ready, key=queues.index)


dma_first = first_of("dma", "input", "stream", "array", "attend")
stream_first = first_of("stream", "array", "attend", "dma", "input")
array_first = first_of("array", "attend", "stream", "dma", "input")
attend_last = first_of("array", "stream", "input", "dma", "attend")
input_first = first_of("input", "stream", "dma", "array", "attend")


def met(instruction: Instruction, counters: list[int]) -> bool:
    """All waits are."""
    return all(counters[counter] >= value for counter, value in instruction.waits)


class Executor(Machine):
    """``program``, ``weights``, ``image``: contents of the windows. ``numbers`` False: follow queues and buffers only."""

    def __init__(self, config: AcceleratorConfig, program: bytes, weights: bytes, image: bytes, result_bytes: int, numbers: bool = True):
        super().__init__(config, result_bytes)
        self.weights, self.image, self.numbers = weights, image, numbers
        self.counters = [0] * COUNTERS
        self.instructions = [Instruction.decode(program[at : at + INSTRUCTION_BYTES]) for at in range(0, len(program), INSTRUCTION_BYTES)]
        # which instruction last filled each word: compared with what program order says
        self.owner = {name: np.full(len(memory), -1) for name, memory in self.memories().items()}
        self._owners = self._owners_in_program_order()

    def run(self, policy: Policy = dma_first) -> bytes:
        """Execute until END. Returns the RESULT window. Raises on deadlock."""
        queues: dict[str, list[int]] = {name: [] for name in QUEUES.values()}
        for index, instruction in enumerate(self.instructions):
            queues[QUEUES[instruction.opcode]].append(index)
        while True:
            ready = [name for name, queue in queues.items() if queue and met(self.instructions[queue[0]], self.counters)]
            assert ready, f"deadlock: counters {self.counters}, heads {[self.instructions[q[0]] for q in queues.values() if q]}"
            index = queues[policy(ready)].pop(0)
            instruction = self.instructions[index]
            if instruction.opcode == Opcode.END:
                assert not any(queues.values()), f"END before the end: {queues}"
                return bytes(self.result)
            self._execute(index, instruction)
            if instruction.post_enable:
                self.counters[instruction.post_counter] += 1

    def _execute(self, index: int, instruction: Instruction) -> None:
        p = instruction.payload
        if instruction.opcode == Opcode.LOAD:
            self._load(index, p)
        elif instruction.opcode == Opcode.STREAM:
            self._stream(index, p)
        elif instruction.opcode == Opcode.INPUT:
            self._input(p)
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

    def _filled(self, instruction: Instruction) -> tuple[str, slice] | None:
        """The words of a buffered memory that an instruction fills."""
        p = instruction.payload
        if instruction.opcode == Opcode.STREAM:
            name = "words"
        elif instruction.opcode == Opcode.LOAD and p["target"] in MEMORY:
            name = MEMORY[LoadTarget(p["target"])]
        else:
            return None
        assert p["address"] + p["items"] <= len(self.memories()[name]), f"beyond {name}: {p}"
        return name, slice(p["address"], p["address"] + p["items"])

    def _owners_in_program_order(self) -> dict[int, list[tuple[str, slice, int]]]:
        """For each TILE: (memory, words read, instruction that must have filled them)."""
        owner = {name: np.full(len(memory), -1) for name, memory in self.memories().items()}
        needs: dict[int, list[tuple[str, slice, int]]] = {}
        for index, instruction in enumerate(self.instructions):
            if filled := self._filled(instruction):
                owner[filled[0]][filled[1]] = index
            if instruction.opcode == Opcode.TILE:
                needs[index] = [(name, words, self._one(owner[name][words])) for name, words in self._reads(instruction.payload)]
        return needs

    @staticmethod
    def _one(owners: np.ndarray) -> int:
        assert owners[0] >= 0 and (owners == owners[0]).all(), f"one instruction must fill the words of a TILE: {set(owners.tolist())}"
        return int(owners[0])

    def _reads(self, p: dict[str, int]) -> list[tuple[str, slice]]:
        words = slice(p["weight_address"], p["weight_address"] + p["words"])
        parameters = slice(p["weight_address"], p["weight_address"] + p["words"] // p["planes"])
        reads = [] if p["mask"] == Mask.ALL else [("words", words), ("parameters", parameters)]
        if p["source"] == Source.NORMALIZED:
            reads.append(("norms", slice(p["norm_address"], p["norm_address"] + p["activations"])))
        if p["table_enable"]:
            reads.append(("tables", slice(p["table_set"] * 256, p["table_set"] * 256 + 256)))
        return reads

    def _check_owners(self, index: int) -> None:
        for name, words, filler in self._owners[index]:
            found = self.owner[name][words]
            assert (found == filler).all(), f"TILE {index} reads {name} {words} of {filler}, memory holds {set(found.tolist())}"

    # -- transfers ------------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _cut(window: bytes, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``. The hardware moves whole beats, and checks them against the window's limit."""
        assert offset % BEAT_BYTES == 0 and size > 0, f"a transfer must start on a beat and move something: {offset}, {size}"
        assert -(-(offset + size) // BEAT_BYTES) * BEAT_BYTES <= len(window), f"a transfer overruns its window: {offset}, {size}"
        return window[offset : offset + size]

    def _own(self, index: int) -> None:
        if filled := self._filled(self.instructions[index]):
            self.owner[filled[0]][filled[1]] = index

    def _load(self, index: int, p: dict[str, int]) -> None:
        target = LoadTarget(p["target"])
        data = self._cut(self.weights, p["offset"], p["items"] * ITEM_BYTES[target])
        self._own(index)
        if self.numbers:
            self.load(target, data, slice(p["address"], p["address"] + p["items"]), p["image"])

    def _input(self, p: dict[str, int]) -> None:
        shape = self.config.shape
        assert p["items"] == shape.image_size**2 * shape.channels, "INPUT takes a whole image"
        data = self._cut(self.image, p["offset"], p["items"])
        if self.numbers:
            self.pixels(data, p["image"])

    def _stream(self, index: int, p: dict[str, int]) -> None:
        size = p["items"] * weight_item_bits(self.config.slice_inputs) // 8
        slices = [self._cut(self.weights, p["offset"] + port * p["stride"], size) for port in range(self.config.weight_ports)]
        self._own(index)
        if self.numbers:
            self.stream(slices, slice(p["address"], p["address"] + p["items"]))
