"""The accelerator's memories, and what instructions do to them: ``rtl.program.isa`` with ``model.integer``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model import integer
from rtl.config import AcceleratorConfig
from rtl.program.isa import Accumulate, Destination, LoadTarget, Mask, Source

UNKNOWN = -(1 << 30)
BEAT_BYTES = 16
GROUP_ROWS = 16


@dataclass
class Record:
    """What each row wrote: ``linear[row]`` and ``attention[row]`` hold the values in order."""

    linear: list[list[np.ndarray]]
    attention: list[list[np.ndarray]]


def _unknown(*size: int) -> np.ndarray:
    return np.full(size, UNKNOWN, dtype=np.int64)


class Machine:
    """Everything starts unknown but the tokens' memories. Slots are ``passes * rows``; slot = pass * rows + row. First axis: image slot.

    gathered : the residuals whose LayerNorm statistics are known
    record : what each row wrote        snapshots : (instruction, image slot, slots, (slots, channels) written) per
    step and image that writes
    """

    def __init__(self, config: AcceleratorConfig, result_bytes: int):
        shape, images = config.shape, config.images
        self.config = config
        self.slots = config.passes * config.rows
        self.result = bytearray(result_bytes)
        self.words = np.zeros((config.weight_words, config.inputs), dtype=np.int64)
        self.parameters = _unknown(config.weight_words, 3)
        self.norms = _unknown(2 * shape.embed_dim, 2)
        self.tables = _unknown(2 * 256)
        self.residual = np.zeros((images, self.slots, shape.embed_dim), dtype=np.int64)
        self.gathered = _unknown(images, self.slots, shape.embed_dim)
        self.activations = np.zeros((images, self.slots, max(config.inputs, shape.patch_dim)), dtype=np.int64)
        self.keys_values = np.zeros((2, self.slots, config.key_value_heads, shape.head_dim), dtype=np.int64)
        self.accumulator = _unknown(self.slots, shape.embed_dim)
        self.logits = _unknown(images, shape.classes)
        self.snapshots: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        self.record = Record([[] for _ in range(config.rows)], [[] for _ in range(config.rows)])

    def memories(self) -> dict[str, np.ndarray]:
        """Those that are buffered: a LOAD or STREAM fills one part while a TILE reads another."""
        return {"words": self.words, "parameters": self.parameters, "norms": self.norms, "tables": self.tables}

    # -- LOAD, STREAM, INPUT ---------------------------------------------------------------------------------------------------------------

    def stream(self, slices: list[bytes], to: slice) -> None:
        """One STREAM: the items of each weight port."""
        size = self.config.slice_inputs
        for port, data in enumerate(slices):
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(to.stop - to.start, -1)
            assert not bits[:, size:].any()
            self.words[to, port * size : (port + 1) * size] = bits[:, :size]

    def load(self, target: LoadTarget, data: bytes, to: slice, image: int) -> None:
        """The bytes of one LOAD, into ``to`` of a memory."""
        getattr(self, f"_load_{target.name.lower()}")(data, to, image)

    def _load_parameter(self, data: bytes, to: slice, image: int) -> None:
        items = np.frombuffer(data, "<u8").astype(np.int64)
        bias = (items >> 18) & ((1 << 27) - 1)
        shift = np.asarray(integer.REQUANTIZE_SHIFTS)[(items >> 16) & 3]
        self.parameters[to] = np.stack([items & 0xFFFF, shift, bias - ((bias >> 26) << 27)], -1)

    def _load_norm(self, data: bytes, to: slice, image: int) -> None:
        self.norms[to] = np.frombuffer(data, "<i2").reshape(-1, 2)

    def _load_table(self, data: bytes, to: slice, image: int) -> None:
        self.tables[to] = np.frombuffer(data, np.uint8)

    def _load_position(self, data: bytes, to: slice, image: int) -> None:
        """Beat by beat, as the load bus delivers: row r takes bytes r % 16 and the next of the beat that has its parity."""
        rows, groups = self.config.rows, -(-self.config.rows // GROUP_ROWS)
        beats = np.frombuffer(data, np.uint8).astype(np.int64).reshape(-1, self.config.passes, groups, 2, BEAT_BYTES)
        for row in range(rows):
            group, lane = divmod(row, GROUP_ROWS)
            low, high = (beats[:, :, group, row % 2, (lane + byte) % BEAT_BYTES] for byte in (0, 1))
            value = (low | high << 8) ^ 0x8000
            for pass_index in range(self.config.passes):
                self.residual[image, pass_index * rows + row, to.start : to.start + len(beats)] = value[:, pass_index] - 0x8000
        self.gathered[image] = UNKNOWN

    def pixels(self, data: bytes, image: int) -> None:
        """One INPUT."""
        shape = self.config.shape
        pixels = np.frombuffer(data, np.uint8).reshape(shape.image_size, shape.image_size, shape.channels)
        for patch in range(shape.patches):
            y, x = (shape.patch_size * i for i in divmod(patch, shape.grid))
            block = pixels[y : y + shape.patch_size, x : x + shape.patch_size]
            self.activations[image, shape.first_patch + patch, : shape.patch_dim] = block.reshape(-1) >> (8 - shape.bits)

    # -- TILE -----------------------------------------------------------------------------------------------------------------------------

    def tile(self, index: int, p: dict[str, int]) -> None:
        for image in range(p["image"], p["image"] + p["images"]):
            self._tile_of(index, p, image)

    def _tile_of(self, index: int, p: dict[str, int], image: int) -> None:
        """Fill, products, requantize, write, for one image."""
        rows = self.config.rows
        slots = np.arange(p["first_pass"] * rows, (p["first_pass"] + p["passes"]) * rows)
        raw = self._horner(p, self._fill(p, image, slots))
        first = p["weight_address"]
        multiplier, shift, bias = self.parameters[first : first + p["words"] // p["planes"]].T
        if p["accumulate"] in (Accumulate.MIDDLE, Accumulate.LAST):
            raw = raw + self.accumulator[np.ix_(slots, np.arange(raw.shape[1]))]
            self.accumulator[slots, : raw.shape[1]] = UNKNOWN
        if p["accumulate"] in (Accumulate.FIRST, Accumulate.MIDDLE):
            assert not p["statistics"]
            self.accumulator[slots, : raw.shape[1]] = raw
            return
        if p["mask"] == Mask.ALL:
            multiplier, shift, bias = 0 * multiplier, 0 * shift + integer.REQUANTIZE_SHIFTS[0], 0 * bias
        result = integer.requantize(raw, multiplier, shift, bias, self._limits(p))
        written = getattr(self, f"_write_{Destination(p['destination']).name.lower()}")(p, image, slots, result)
        self.snapshots.append((index, image, slots, written.copy()))
        for offset, slot in enumerate(slots):
            if p["destination"] != Destination.LOGITS or slot == p["logit_row"]:
                self.record.linear[slot % rows].append(written[offset])

    def _fill(self, p: dict[str, int], image: int, slots: np.ndarray) -> np.ndarray:
        count = p["activations"]
        if p["source"] == Source.ACTIVATION:
            source = image ^ p["image"] ^ p["source_image"]
            return self.activations[source, slots, p["source_channel"] : p["source_channel"] + count]
        assert np.array_equal(self.gathered[image, slots], self.residual[image, slots]), "LayerNorm needs the statistics of these residuals"
        assert count == self.config.shape.embed_dim
        gamma, beta = self.norms[p["norm_address"] : p["norm_address"] + count].T
        return integer.layernorm(self.residual[image, slots], gamma, beta, self.config.bits)

    def _horner(self, p: dict[str, int], fill: np.ndarray) -> np.ndarray:
        """(slots, outputs): ``acc = 2*acc + (2*S - total)``, most significant plane first."""
        words = self.words[p["weight_address"] : p["weight_address"] + p["words"]]
        assert p["mask"] == Mask.ALL or not words[:, p["activations"] :].any(), "weight bits beyond the fill must be 0"
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

    def _write_activation(self, p: dict[str, int], image: int, slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        value = self.tables[p["table_set"] * 256 + result] if p["table_enable"] else result
        self.activations[np.ix_([image], slots, p["base_channel"] + np.arange(result.shape[1]))] = value
        return value

    def _write_residual(self, p: dict[str, int], image: int, slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        masked = {Mask.NONE: slots < 0, Mask.ROW_0: slots < 1, Mask.ROWS_0_1: slots < 2, Mask.ALL: slots >= 0}[Mask(p["mask"])]
        result = np.where(masked[:, None], 0, result)
        where = np.ix_(slots, p["base_channel"] + np.arange(result.shape[1]))
        residual = self.residual[image]
        residual[where] = integer.add_residual(residual[where], result)
        if p["statistics"]:
            assert p["base_channel"] == 0 and result.shape[1] == self.config.shape.embed_dim, "statistics need whole tokens"
            self.gathered[image, slots] = residual[slots]
        return residual[where]

    def _write_qkv(self, p: dict[str, int], image: int, slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        """Queries to the activations of the image, keys and values to their memory."""
        dim, heads = self.config.shape.head_dim, p["heads"]
        queries, keys, values = np.split(result, 3, axis=1)
        self.activations[np.ix_([image], slots, p["base_channel"] * dim + np.arange(heads * dim))] = queries
        for part, result_part in enumerate((keys, values)):
            places = p["key_value_head"] + np.arange(heads)
            self.keys_values[part][np.ix_(slots, places)] = result_part.reshape(len(slots), heads, dim)
        return result

    def _write_logits(self, p: dict[str, int], image: int, slots: np.ndarray, result: np.ndarray) -> np.ndarray:
        assert slots[0] == 0 and p["passes"] == 1
        memory = self.logits[image, p["base_channel"] : p["base_channel"] + result.shape[1]]
        memory[:] = integer.add_residual(memory, result[1]) if p["logit_row"] else result[0]
        return result[[p["logit_row"]] * len(slots)]

    # -- ATTEND, STORE --------------------------------------------------------------------------------------------------------------------

    def attend(self, index: int, p: dict[str, int]) -> None:
        """Reads q in the image's activations, writes o in the same channels of these or of the other slot's."""
        shape, rows, image = self.config.shape, self.config.rows, p["image"]
        keys, shift = p["keys"], integer.REQUANTIZE_SHIFTS[p["score_shift"]]
        slots = np.arange(p["first_pass"] * rows, (p["first_pass"] + p["passes"]) * rows)
        outputs = []
        for head in range(p["heads"]):
            channels = (p["first_head"] + head) * shape.head_dim + np.arange(shape.head_dim)
            k, v = self.keys_values[:, :keys, p["key_value_head"] + head]
            where = np.ix_(slots, channels)
            out = self._attention(self.activations[image][where], k, v, p["score_multiplier"], shift, p["dividend"])
            self.activations[p["output_image"]][where] = out
            outputs.append(out)
            for slot, row in zip(slots, out, strict=True):
                self.record.attention[slot % rows].append(row)
        self.snapshots.append((index, image, slots, np.concatenate(outputs, axis=1)))

    def _attention(self, q, k, v, multiplier: int, shift: int, dividend: int) -> np.ndarray:
        """Scores, softmax and weighted sum, keys limited to the real tokens; garbage queries are computed too."""
        scores = integer.requantize(q @ k.T, multiplier, shift, 0, integer.signed(integer.SCORE_BITS))
        numerators = integer.softmax_numerators(scores)
        weighted = integer.round_shift(numerators @ v, integer.attention_accumulator_shift(len(k)))
        product = (weighted * (dividend // numerators.sum(-1, keepdims=True))) >> integer.ATTENTION_SHIFT
        return integer.saturate(product + (1 << (self.config.bits - 1)), integer.unsigned(self.config.bits))

    def store(self, p: dict[str, int]) -> None:
        assert (self.logits[p["image"], : p["items"]] != UNKNOWN).all(), "a STORE before its logits"
        data = np.asarray(self.logits[p["image"], : p["items"]]).astype("<i2").tobytes()
        assert p["offset"] + len(data) <= len(self.result) and p["offset"] % BEAT_BYTES == 0
        self.result[p["offset"] : p["offset"] + len(data)] = data
        self.logits[p["image"]] = UNKNOWN
