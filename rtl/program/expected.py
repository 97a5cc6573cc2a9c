"""What every row must write, in order: the reference side of the layer-by-layer comparison.

A row has two write channels. ``linear``: each result of the linear datapath, in program order; per TILE, per image, per pass, per output
channel:

* ACTIVATION: the activation, after the table        * QKV: the s8 value, word order q, k, v
* RESIDUAL: the new residual, after the addition (where masked, as all is when only statistics are gathered: its unchanged value)
* LOGITS: the s16 result of the head, row ``logit_row`` only        * accumulate FIRST and MIDDLE: nothing

``attention``: per ATTEND, the outputs o that the row writes, in the order of the engine: heads outer, passes inner, dims ascending.

Values are 16 bits and compared modulo 2**16. Rows whose slot holds no token compute garbage: the entries are there, but not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rtl.config import AcceleratorConfig
from rtl.program.compiler import CompiledProgram, Step
from rtl.program.isa import Destination, Opcode

LINEAR, ATTENTION = "linear", "attention"
VALUE_MASK = 0xFFFF
EVERY_ROW = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """The writes of one channel in program order, as row 0 sees them; arrays of equal length.

    step : index in CompiledProgram.steps        tensor : index in Expected.names, of image number ``image``
    pass_index : the row's token is pass_index * rows + row        channel : of the tensor
    only_row : the one row that writes it, or EVERY_ROW
    """

    step: np.ndarray
    image: np.ndarray
    tensor: np.ndarray
    pass_index: np.ndarray
    channel: np.ndarray
    only_row: np.ndarray

    def of_row(self, row: int) -> Entries:
        keep = (self.only_row == EVERY_ROW) | (self.only_row == row)
        return Entries(**{name: values[keep] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What one row writes on one channel. ``values`` int64 where ``care``; elsewhere 0."""

    entries: Entries
    token: np.ndarray
    values: np.ndarray
    care: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """Traces of all rows, made on demand. ``flat`` holds the tensors of each image end to end, s16; see ``_flatten``."""

    rows: int
    names: tuple[str, ...]
    channels: Mapping[str, Entries]
    flat: np.ndarray
    base: np.ndarray
    tokens: np.ndarray
    width: np.ndarray

    def trace(self, row: int, channel: str = LINEAR) -> Trace:
        entries = self.channels[channel].of_row(row)
        slot = entries.pass_index.astype(np.int32) * self.rows + row
        token = np.where(entries.only_row == EVERY_ROW, slot, 0)  # a logit has no token
        care = token < self.tokens[entries.tensor]
        where = self.base[entries.tensor] + token * self.width[entries.tensor] + entries.channel
        values = np.zeros(len(where), dtype=np.int64)
        values[care] = self.flat[entries.image[care], where[care]]
        return Trace(entries=entries, token=token, values=values, care=care)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """What one row wrote on one channel: values (any integer dtype, low 16 bits count) and, if known, the cycle of each."""

    values: np.ndarray
    cycles: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One difference. ``got`` None: the row wrote too little; ``expected`` None: too much. ``step``: index in CompiledProgram.steps.

    image : number of the image in the program, where one is known        place : what ``token`` is called
    """

    place: ClassVar[str] = "token"
    step: int
    tensor: str
    token: int | None
    channel: int | None
    row: int
    got: int | None
    expected: int | None
    cycle: int | None
    image: int | None = None

    def __str__(self) -> str:
        image = "" if self.image is None else f"image {self.image}: "
        where = f"{image}{self.tensor}[{self.token}, {self.channel}]"
        return f"{where}: got {self.got}, expected {self.expected}, row {self.row}, cycle {self.cycle}"

    def to_dict(self) -> dict[str, int | str | None]:
        """Plain values, for JSON."""
        parts = {name: getattr(self, name) for name in ("channel", "row", "got", "expected", "cycle")}
        return {"image": self.image, "tensor": self.tensor, self.place: self.token, **parts}


def expected_trace(compiled: CompiledProgram, tensors: Sequence[Mapping[str, np.ndarray]], config: AcceleratorConfig) -> Expected:
    """Expected writes of every row.

    tensors : per image, named as in ``model.graph``; (tokens, channels), or (channels,) for the logits
    """
    if len(tensors) != compiled.images:
        raise ValueError(f"tensors must be given for every image: {len(tensors)} for {compiled.images}")
    names = tuple(dict.fromkeys(write.tensor for step in compiled.steps for write in step.writes))
    index = {name: number for number, name in enumerate(names)}
    parts: dict[str, list[Entries]] = {LINEAR: [], ATTENTION: []}
    for number, step in enumerate(compiled.steps):
        payload = compiled.instructions[step.instruction].payload
        if step.opcode == Opcode.TILE:
            parts[LINEAR].append(_tile_entries(number, step, payload, index))
        else:
            parts[ATTENTION].append(_attention_entries(number, step, payload, index, config.shape.head_dim))
    return Expected(
        rows=config.rows,
        names=names,
        channels={channel: _join(entries) for channel, entries in parts.items()},
        **_flatten([[np.atleast_2d(each[name]) for name in names] for each in tensors]),
    )


def compare(expected: Expected, got: Mapping[str, Sequence[Recorded]], limit: int = 16) -> list[Mismatch]:
    """The first ``limit`` mismatches in program order; empty when every row of every channel given agrees.

    got : per channel ("linear", "attention"), one Recorded per row
    """
    found: list[Mismatch] = []
    for channel, recorded in got.items():
        if len(recorded) != expected.rows:
            raise ValueError(f"a recording must have {expected.rows} rows: {channel} has {len(recorded)}")
        for row, record in enumerate(recorded):
            found += _compare_row(expected, channel, row, record, limit)
    order = sorted(found, key=lambda m: (m.step, m.cycle is None, m.cycle or 0, m.row))
    return order[:limit]


def _compare_row(expected: Expected, channel: str, row: int, record: Recorded, limit: int) -> Iterator[Mismatch]:
    trace = expected.trace(row, channel)
    values = np.asarray(record.values).astype(np.int64)
    both = min(len(values), len(trace.values))
    differ = ((values[:both] ^ trace.values[:both]) & VALUE_MASK != 0) & trace.care[:both]
    missing = both + np.flatnonzero(trace.care[both:])
    for position in [*np.flatnonzero(differ)[:limit], *missing[:limit]]:
        yield _mismatch(expected, trace, row, record, int(position))
    if len(values) > len(trace.values):
        last = int(trace.entries.step[-1]) if both else 0
        yield Mismatch(step=last + 1, tensor="(nothing)", token=None, channel=None, row=row, got=_signed(values[both]), expected=None,
                       cycle=None if record.cycles is None else int(record.cycles[both]))  # fmt: skip


def _mismatch(expected: Expected, trace: Trace, row: int, record: Recorded, position: int) -> Mismatch:
    wrote = position < len(record.values)
    return Mismatch(
        step=int(trace.entries.step[position]),
        image=int(trace.entries.image[position]),
        tensor=expected.names[trace.entries.tensor[position]],
        token=int(trace.token[position]),
        channel=int(trace.entries.channel[position]),
        row=row,
        got=_signed(record.values[position]) if wrote else None,
        expected=int(trace.values[position]),
        cycle=int(record.cycles[position]) if wrote and record.cycles is not None else None,
    )


def _signed(value: int) -> int:
    """The low 16 bits as a signed number: every value written fits."""
    return ((int(value) & VALUE_MASK) ^ 0x8000) - 0x8000


def _tile_entries(number: int, step: Step, payload: Mapping[str, int], index: Mapping[str, int]) -> Entries:
    """Images outer, then passes, the step's writes inner."""
    tensor = np.concatenate([np.full(write.count, index[write.tensor]) for write in step.writes] or [np.zeros(0, dtype=np.int64)])
    channel = np.concatenate([write.first + np.arange(write.count) for write in step.writes] or [np.zeros(0, dtype=np.int64)])
    passes = payload["first_pass"] + np.arange(payload["passes"])
    steps, images = len(passes) * step.images, step.image + np.arange(step.images)
    only_row = payload["logit_row"] if payload["destination"] == Destination.LOGITS else EVERY_ROW
    return _entries(
        step=np.full(len(tensor) * steps, number),
        image=np.repeat(images, len(tensor) * len(passes)),
        tensor=np.tile(tensor, steps),
        pass_index=np.tile(np.repeat(passes, len(tensor)), step.images),
        channel=np.tile(channel, steps),
        only_row=np.full(len(tensor) * steps, only_row),
    )


def _attention_entries(number: int, step: Step, payload: Mapping[str, int], index: Mapping[str, int], head_dim: int) -> Entries:
    """Heads outer, then passes, dims inner."""
    head, place, dim = np.indices((payload["heads"], payload["passes"], head_dim)).reshape(3, -1)
    count = len(dim)
    return _entries(
        step=np.full(count, number),
        image=np.full(count, step.image),
        tensor=np.full(count, index[step.writes[0].tensor]),
        pass_index=payload["first_pass"] + place,
        channel=(payload["first_head"] + head) * head_dim + dim,
        only_row=np.full(count, EVERY_ROW),
    )


#: Compact, because a pair of full-size images has half a million entries a row.
_KINDS = {"step": np.int32, "image": np.int32, "tensor": np.int16, "pass_index": np.int8, "channel": np.int16, "only_row": np.int8}


def _entries(**values: np.ndarray) -> Entries:
    return Entries(**{name: values[name].astype(kind) for name, kind in _KINDS.items()})


def _join(parts: list[Entries]) -> Entries:
    """All parts end to end."""
    return Entries(**{name: np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)]) for name, kind in _KINDS.items()})


def _flatten(images: list[list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Tensor t, (tokens[t], width[t]), of image n starts at flat[n, base[t]]: element (i, c) is flat[n, base + i * width + c]."""
    sizes = np.array([0, *(tensor.size for tensor in images[0])])
    return {
        "flat": np.stack([np.concatenate([tensor.reshape(-1).astype(np.int16) for tensor in tensors]) for tensors in images]),
        "base": np.cumsum(sizes)[:-1],
        "tokens": np.array([len(tensor) for tensor in images[0]]),
        "width": np.array([tensor.shape[1] for tensor in images[0]]),
    }
