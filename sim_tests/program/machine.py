"""The accelerator's memories, and what LOAD, TILE, ATTEND and STORE do to them: ``rtl.program.isa`` in ``model.integer`` numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model import integer
from rtl.config import AcceleratorConfig
from rtl.program.isa import Accumulate, Destination, LoadTarget, Source

UNKNOWN = -(1 << 30)
BEAT_BYTES = 16


@dataclass
class Record:
    """What each row wrote: ``linear[row]`` and ``attention[row]`` hold the values in order."""

    linear: list[list[np.ndarray]]
    attention: list[list[np.ndarray]]


def _unknown(*size: int) -> np.ndarray:
    return np.full(size, UNKNOWN, dtype=np.int64)


class Machine:
    """Parameters, norms, tables, sums and logits start unknown. Slots are ``passes * rows``; slot = pass * rows + row.

    record : what each row wrote        snapshots : (instruction, destination, (slots, channels) written) per step that writes
    """

    def __init__(self, config: AcceleratorConfig):
        shape = config.shape
        self.config = config
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

    def memories(self) -> dict[LoadTarget, np.ndarray]:
        return {
            LoadTarget.WEIGHT: self.words,
            LoadTarget.PARAMETER: self.parameters,
            LoadTarget.NORM: self.norms,
            LoadTarget.TABLE: self.tables,
        }

    def load(self, target: LoadTarget, data: bytes, to: slice) -> None:
        """The bytes of one LOAD, into ``to`` of a memory."""
        getattr(self, f"_load_{target.name.lower()}")(data, to)

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

    def tile(self, index: int, p: dict[str, int]) -> None:
        """Fill, products, requantize, write. Statistics must open before they close, and be closed before LayerNorm reads."""
        if p["destination"] == Destination.RESIDUAL:
            self._statistics(p)
        rows = self.config.rows
        slots = np.arange(p["first_pass"] * rows, (p["first_pass"] + p["passes"]) * rows)
        raw = self._horner(p, self._fill(p, slots))
        first = p["weight_address"]
        multiplier, shift, bias = self.parameters[first : first + p["words"] : p["planes"]].T
        if p["accumulate"] in (Accumulate.MIDDLE, Accumulate.LAST):
            raw = raw + self.accumulator[np.ix_(slots, np.arange(raw.shape[1]))]
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
        self.qkv[np.ix_(np.arange(3), slots, heads)] = parts.transpose(1, 0, 2, 3)
        return result

    def _write_logits(self, p: dict[str, int], slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        assert slots[0] == 0
        self.logits[p["base_channel"] : p["base_channel"] + result.shape[1]] = result[0]
        return result

    def attend(self, index: int, p: dict[str, int]) -> None:
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

    def store(self, p: dict[str, int]) -> None:
        data = np.asarray(self.logits[: p["items"]]).astype("<i2").tobytes()
        assert p["offset"] + len(data) <= len(self.result)
        self.result[p["offset"] : p["offset"] + len(data)] = data
