"""An instruction-level simulator of the accelerator: runs program bytes as ``rtl.program.isa`` says, with ``model.integer`` numbers.

Written from the instruction set, not from the compiler: it knows nothing about tiles' names or tensors. Instructions execute one at a time;
``policy`` chooses which ready queue goes next, so that DMA-first and array-first orders expose every missing wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from model import integer
from rtl.config import AcceleratorConfig
from rtl.program.isa import (
    COUNTERS,
    INSTRUCTION_BYTES,
    Accumulate,
    Destination,
    Instruction,
    LoadTarget,
    Opcode,
    Source,
    Window,
    weight_item_bits,
)

QUEUES = {Opcode.LOAD: "dma", Opcode.STORE: "dma", Opcode.END: "dma", Opcode.TILE: "array", Opcode.ATTEND: "attend"}
UNKNOWN = -(1 << 30)
BEAT_BYTES = 16

Policy = Callable[[list[str]], str]


def dma_first(ready: list[str]) -> str:
    return min(ready, key=["dma", "array", "attend"].index)


def array_first(ready: list[str]) -> str:
    return min(ready, key=["array", "attend", "dma"].index)


@dataclass
class Record:
    """What each row wrote: ``linear[row]`` and ``attention[row]`` hold the values in order."""

    linear: list[list[np.ndarray]]
    attention: list[list[np.ndarray]]


def _unknown(*size: int) -> np.ndarray:
    return np.full(size, UNKNOWN, dtype=np.int64)


@dataclass
class Executor:
    """Memories start unknown; reading an unknown word is an error. Slots are ``passes * rows``."""

    config: AcceleratorConfig
    program: bytes
    weights: bytes
    image: bytes
    numbers: bool = True  # False: follow queues and buffers only
    counters: list[int] = field(default_factory=lambda: [0] * COUNTERS)

    def __post_init__(self) -> None:
        config, shape = self.config, self.config.shape
        self.slots = config.passes * config.rows
        self.result = bytearray(-(-2 * shape.classes // BEAT_BYTES) * BEAT_BYTES)
        self.words = np.zeros((config.weight_words, config.inputs), dtype=np.int64)
        self.parameters = _unknown(config.weight_words, 3)
        self.norms = _unknown(2 * shape.embed_dim, 2)
        self.tables = _unknown(2 * 256)
        self.residual = np.zeros((self.slots, shape.embed_dim), dtype=np.int64)
        self.activations = np.zeros((self.slots, config.inputs), dtype=np.int64)
        self.qkv = np.zeros((3, self.slots, shape.heads, shape.head_dim), dtype=np.int64)
        self.accumulator = _unknown(self.slots, shape.embed_dim)
        self.logits = _unknown(shape.classes)
        self.in_statistics = False
        self.snapshots: list[tuple[int, str, np.ndarray]] = []
        self.record = Record([[] for _ in range(config.rows)], [[] for _ in range(config.rows)])
        count = len(self.program) // INSTRUCTION_BYTES
        self.instructions = [Instruction.decode(self.program[i * INSTRUCTION_BYTES : (i + 1) * INSTRUCTION_BYTES]) for i in range(count)]
        # which LOAD last wrote each word: compared with what program order says
        self.owner = {target: np.full(len(memory), -1) for target, memory in self._memories().items()}

    def _memories(self) -> dict[LoadTarget, np.ndarray]:
        return {
            LoadTarget.WEIGHT: self.words,
            LoadTarget.PARAMETER: self.parameters,
            LoadTarget.NORM: self.norms,
            LoadTarget.TABLE: self.tables,
        }

    # -- queues ---------------------------------------------------------------------------------------------------------------------------

    def run(self, policy: Policy = dma_first) -> np.ndarray:
        """Execute until END. Returns the logits in the RESULT window. Raises on deadlock."""
        self._owners = self._owners_in_program_order()
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
            getattr(self, f"_{instruction.opcode.name.lower()}")(index, instruction.payload)
            if instruction.post_enable:
                self.counters[instruction.post_counter] += 1

    def _ready(self, i: Instruction) -> bool:
        return self.counters[i.wait0_counter] >= i.wait0_value and self.counters[i.wait1_counter] >= i.wait1_value

    # -- buffers in use -------------------------------------------------------------------------------------------------------------------

    def _owners_in_program_order(self) -> dict[int, list[tuple[LoadTarget, slice, int]]]:
        """For each TILE: (memory, words read, LOAD that must have written them)."""
        owner = {target: np.full(len(memory), -1) for target, memory in self._memories().items()}
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

    # -- instructions ---------------------------------------------------------------------------------------------------------------------

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
            getattr(self, f"_load_{target.name.lower()}")(data, slice(p["address"], p["address"] + p["items"]))

    def _load_weight(self, data: bytes, to: slice) -> None:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(to.stop - to.start, -1)
        assert not bits[:, self.config.inputs :].any()
        self.words[to] = bits[:, : self.config.inputs]

    def _load_parameter(self, data: bytes, to: slice) -> None:
        items = np.frombuffer(data, "<u8").astype(np.int64)
        bias = (items >> 18) & ((1 << 27) - 1)
        shift = np.asarray(integer.REQUANTIZE_SHIFTS)[(items >> 16) & 3]
        self.parameters[to] = np.stack([items & 0xFFFF, shift, bias - ((bias >> 26) << 27)], -1)

    def _load_norm(self, data: bytes, to: slice) -> None:
        self.norms[to] = np.frombuffer(data, "<i2").reshape(-1, 2)

    def _load_table(self, data: bytes, to: slice) -> None:
        self.tables[to] = np.frombuffer(data, np.uint8)

    def _load_position(self, data: bytes, to: slice) -> None:
        tokens = np.frombuffer(data, "<i2").reshape(-1, self.config.shape.embed_dim)
        self.residual[: len(tokens)] = tokens

    def _load_pixel(self, data: bytes, to: slice) -> None:
        shape = self.config.shape
        image = np.frombuffer(data, np.uint8).reshape(shape.image_size, shape.image_size, shape.channels)
        for patch in range(shape.patches):
            y, x = (shape.patch_size * i for i in divmod(patch, shape.grid))
            block = image[y : y + shape.patch_size, x : x + shape.patch_size]
            self.activations[patch + 1, : shape.patch_dim] = block.reshape(-1) >> (8 - shape.bits)

    def _tile(self, index: int, p: dict[str, int]) -> None:
        self._check_owners(index)
        if p["destination"] == Destination.RESIDUAL:
            self._statistics(p)
        if not self.numbers:
            return
        rows = self.config.rows
        slots = np.arange(p["first_pass"] * rows, (p["first_pass"] + p["passes"]) * rows)
        raw = self._horner(p, self._fill(p, slots))
        first = p["weight_address"]
        multiplier, shift, bias = self.parameters[first : first + p["words"] : p["planes"]].T
        if p["accumulate"] in (Accumulate.MIDDLE, Accumulate.LAST):
            raw = raw + self.accumulator[np.ix_(slots, range(raw.shape[1]))]
            self.accumulator[slots, : raw.shape[1]] = UNKNOWN
        if p["accumulate"] in (Accumulate.FIRST, Accumulate.MIDDLE):
            self.accumulator[slots, : raw.shape[1]] = raw
            return
        result = integer.requantize(raw, multiplier, shift, bias, self._limits(p))
        written = getattr(self, f"_write_{Destination(p['destination']).name.lower()}")(p, slots, result)
        self.snapshots.append((index, Destination(p["destination"]).name, written.copy()))
        for offset, slot in enumerate(slots):
            if p["destination"] != Destination.LOGITS or slot == 0:
                self.record.linear[slot % rows].append(written[offset])

    def _statistics(self, p: dict[str, int]) -> None:
        """Residual tiles between first and last; a NORMALIZED source must find them complete."""
        if p["accumulate"] in (Accumulate.FIRST, Accumulate.MIDDLE):
            assert not (p["statistics_first"] or p["statistics_last"] or self.in_statistics)
            return
        assert bool(p["statistics_first"]) != self.in_statistics, "statistics_first opens, once"
        self.in_statistics = not p["statistics_last"]

    def _fill(self, p: dict[str, int], slots: np.ndarray) -> np.ndarray:
        count = p["activations"]
        if p["source"] == Source.ACTIVATION:
            return self.activations[slots, :count]
        assert not self.in_statistics and count == self.config.shape.embed_dim
        gamma, beta = self.norms[p["norm_address"] : p["norm_address"] + count].T
        return integer.layernorm(self.residual[slots], gamma, beta, self.config.bits)

    def _horner(self, p: dict[str, int], fill: np.ndarray) -> np.ndarray:
        """(slots, outputs): ``acc = 2*acc + (2*S - total)``, most significant plane first."""
        words = self.words[p["weight_address"] : p["weight_address"] + p["words"]]
        assert not words[:, p["activations"] :].any(), "weight bits beyond the fill must be 0"
        total = fill.sum(-1)[:, None, None]
        sums = (fill @ words[:, : p["activations"]].T).reshape(len(fill), -1, p["planes"])
        accumulator = np.zeros(sums.shape[:2], dtype=np.int64)
        for plane in range(p["planes"]):
            accumulator = 2 * accumulator + 2 * sums[..., plane] - total[..., 0]
        return accumulator

    def _limits(self, p: dict[str, int]) -> integer.Saturation:
        if p["destination"] == Destination.ACTIVATION:
            return integer.unsigned(8 if p["table_enable"] else self.config.bits)
        return integer.SIGNED8 if p["destination"] == Destination.QKV else integer.signed(16)

    def _write_activation(self, p: dict[str, int], slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        value = self.tables[p["table_set"] * 256 + result] if p["table_enable"] else result
        self.activations[np.ix_(slots, p["base_channel"] + np.arange(result.shape[1]))] = value
        return value

    def _write_residual(self, p: dict[str, int], slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        if p["mask_enable"]:
            result = np.where(slots[:, None] == 0, 0, result)
        where = np.ix_(slots, p["base_channel"] + np.arange(result.shape[1]))
        self.residual[where] = integer.add_residual(self.residual[where], result)
        return self.residual[where]

    def _write_qkv(self, p: dict[str, int], slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        heads = np.arange(p["base_channel"], p["base_channel"] + p["heads"])
        parts = result.reshape(len(slots), 3, p["heads"], self.config.shape.head_dim)
        self.qkv[np.ix_(range(3), slots, heads)] = parts.transpose(1, 0, 2, 3)
        return result

    def _write_logits(self, p: dict[str, int], slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        assert slots[0] == 0
        self.logits[p["base_channel"] : p["base_channel"] + result.shape[1]] = result[0]
        return result

    def _attend(self, index: int, p: dict[str, int]) -> None:
        if not self.numbers:
            return
        shape, rows = self.config.shape, self.config.rows
        keys, shift = p["keys"], integer.REQUANTIZE_SHIFTS[p["score_shift"]]
        for head in range(p["heads"]):
            q, k, v = self.qkv[:, :, head]
            out = self._attention(q, k[:keys], v[:keys], p["score_multiplier"], shift, p["dividend"])
            self.activations[:, head * shape.head_dim : (head + 1) * shape.head_dim] = out
            for slot in range(p["passes"] * rows):
                self.record.attention[slot % rows].append(out[slot])
        self.snapshots.append((index, "ATTENTION", self.activations[:, : shape.embed_dim].copy()))

    def _attention(self, q, k, v, multiplier: int, shift: int, dividend: int) -> np.ndarray:
        """Scores, softmax and weighted sum, keys limited to the real tokens; garbage queries are computed too."""
        scores = integer.requantize(q @ k.T, multiplier, shift, 0, integer.signed(integer.SCORE_BITS))
        numerators = integer.softmax_numerators(scores)
        weighted = integer.round_shift(numerators @ v, integer.attention_accumulator_shift(len(k)))
        product = (weighted * (dividend // numerators.sum(-1, keepdims=True))) >> integer.ATTENTION_SHIFT
        return integer.saturate(product + (1 << (self.config.bits - 1)), integer.unsigned(self.config.bits))

    def _store(self, index: int, p: dict[str, int]) -> None:
        data = np.asarray(self.logits[: p["items"]]).astype("<i2").tobytes()
        assert p["offset"] + len(data) <= len(self.result)
        self.result[p["offset"] : p["offset"] + len(data)] = data
