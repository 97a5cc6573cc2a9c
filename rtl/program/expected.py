"""What every row must write, in order: the reference side of the layer-by-layer comparison.

A row has two write channels. ``linear``: each result of the linear datapath, in program order; per TILE, per pass, per output channel:

* ACTIVATION: the activation, after the table        * QKV: the s8 value, word order q, k, v
* RESIDUAL: the new residual, after the addition (for the masked class token: its unchanged value)
* LOGITS: the s16 logit, row 0 only        * accumulate FIRST and MIDDLE: nothing

``attention``: per ATTEND, the outputs o that the row writes, in the order of the engine (``attention_order``).

Values are 16 bits and compared modulo 2**16. Rows whose slot holds no token compute garbage: the entries are there, but not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtl.config import AcceleratorConfig
from rtl.program.compiler import CompiledProgram, Step
from rtl.program.isa import Destination, Opcode

LINEAR, ATTENTION = "linear", "attention"
VALUE_MASK = 0xFFFF

#: The (pass, head, dim) of each value that a row writes during one ATTEND, in order.
AttentionOrder = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """The writes of one channel in program order, as row 0 sees them; arrays of equal length.

    step : index in CompiledProgram.steps        tensor : index in Expected.names
    pass_index : the row's token is pass_index * rows + row        channel : of the tensor        first_row_only : other rows skip it
    """

    step: np.ndarray
    tensor: np.ndarray
    pass_index: np.ndarray
    channel: np.ndarray
    first_row_only: np.ndarray

    def of_row(self, row: int) -> Entries:
        keep = slice(None) if row == 0 else ~self.first_row_only
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
    """Traces of all rows, made on demand. ``flat`` holds the tensors end to end; see ``_flatten``."""

    rows: int
    names: tuple[str, ...]
    channels: Mapping[str, Entries]
    flat: np.ndarray
    base: np.ndarray
    tokens: np.ndarray
    width: np.ndarray

    def trace(self, row: int, channel: str = LINEAR) -> Trace:
        entries = self.channels[channel].of_row(row)
        token = entries.pass_index * self.rows + row
        care = token < self.tokens[entries.tensor]
        where = self.base[entries.tensor] + token * self.width[entries.tensor] + entries.channel
        values = np.zeros(len(where), dtype=np.int64)
        values[care] = self.flat[where[care]]
        return Trace(entries=entries, token=token, values=values, care=care)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """What one row wrote on one channel: values (any integer dtype, low 16 bits count) and, if known, the cycle of each."""

    values: np.ndarray
    cycles: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One difference. ``got`` None: the row wrote too little; ``expected`` None: too much. ``step``: index in CompiledProgram.steps."""

    step: int
    tensor: str
    token: int | None
    channel: int | None
    row: int
    got: int | None
    expected: int | None
    cycle: int | None

    def __str__(self) -> str:
        where = f"{self.tensor}[{self.token}, {self.channel}]"
        return f"{where}: got {self.got}, expected {self.expected}, row {self.row}, cycle {self.cycle}"


def default_attention_order(config: AcceleratorConfig) -> list[tuple[int, int, int]]:
    """Heads outer, passes inner, dims ascending."""
    shape = config.shape
    return [(p, head, dim) for head in range(shape.heads) for p in range(config.passes) for dim in range(shape.head_dim)]


def expected_trace(
    compiled: CompiledProgram,
    tensors: Mapping[str, np.ndarray],
    config: AcceleratorConfig,
    attention_order: Sequence[AttentionOrder] | None = None,
) -> Expected:
    """Expected writes of every row.

    tensors : named as in ``model.graph``; (tokens, channels), or (channels,) for the logits
    attention_order : one order per ATTEND; None means ``default_attention_order`` for each
    """
    names = tuple(dict.fromkeys(write.tensor for step in compiled.steps for write in step.writes))
    index = {name: number for number, name in enumerate(names)}
    attends = sum(step.opcode == Opcode.ATTEND for step in compiled.steps)
    orders: list[AttentionOrder] = [default_attention_order(config)] * attends if attention_order is None else list(attention_order)
    if len(orders) != attends:
        raise ValueError(f"attention_order must name one order per ATTEND: {len(orders)} for {attends}")
    linear = [_tile_entries(number, step, compiled, index) for number, step in enumerate(compiled.steps) if step.opcode == Opcode.TILE]
    return Expected(
        rows=config.rows,
        names=names,
        channels={LINEAR: _join(linear), ATTENTION: _join(list(_attention_entries(compiled, index, orders, config)))},
        **_flatten([np.atleast_2d(tensors[name]) for name in names]),
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


def _tile_entries(number: int, step: Step, compiled: CompiledProgram, index: Mapping[str, int]) -> Entries:
    """Passes outer, the step's writes inner."""
    payload = compiled.instructions[step.instruction].payload
    tensor = np.concatenate([np.full(write.count, index[write.tensor]) for write in step.writes] or [np.zeros(0, dtype=np.int64)])
    channel = np.concatenate([write.first + np.arange(write.count) for write in step.writes] or [np.zeros(0, dtype=np.int64)])
    passes = payload["first_pass"] + np.arange(payload["passes"])
    count = len(tensor) * len(passes)
    return Entries(
        step=np.full(count, number),
        tensor=np.tile(tensor, len(passes)),
        pass_index=np.repeat(passes, len(tensor)),
        channel=np.tile(channel, len(passes)),
        first_row_only=np.full(count, payload["destination"] == Destination.LOGITS),
    )


def _attention_entries(
    compiled: CompiledProgram, index: Mapping[str, int], orders: list[AttentionOrder], config: AcceleratorConfig
) -> Iterator[Entries]:
    attends = [(number, step) for number, step in enumerate(compiled.steps) if step.opcode == Opcode.ATTEND]
    for (number, step), order in zip(attends, orders, strict=True):
        pass_index, head, dim = np.asarray(order, dtype=np.int64).reshape(-1, 3).T
        yield Entries(
            step=np.full(len(dim), number),
            tensor=np.full(len(dim), index[step.writes[0].tensor]),
            pass_index=pass_index,
            channel=head * config.shape.head_dim + dim,
            first_row_only=np.zeros(len(dim), dtype=bool),
        )


def _join(parts: list[Entries]) -> Entries:
    """All parts end to end, in compact integers."""
    kinds = {"step": np.int32, "tensor": np.int32, "pass_index": np.int64, "channel": np.int64, "first_row_only": bool}
    joined = {name: np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)]) for name, kind in kinds.items()}
    return Entries(**{name: values.astype(kinds[name]) for name, values in joined.items()})


def _flatten(tensors: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Tensor t, (tokens[t], width[t]), starts at flat[base[t]]: element (i, c) is flat[base + i * width + c]."""
    sizes = np.array([0, *(tensor.size for tensor in tensors)])
    return {
        "flat": np.concatenate([tensor.reshape(-1).astype(np.int64) for tensor in tensors]),
        "base": np.cumsum(sizes)[:-1],
        "tokens": np.array([len(tensor) for tensor in tensors]),
        "width": np.array([tensor.shape[1] for tensor in tensors]),
    }
