"""A `Diagnosis` as tables: the rows of each, and all of them as plain text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.quant.explain import Diagnosis

NOTE = "Exact divisors where none are named. CM: channel-wise migration. FS: filter-wise shifting."
ABLATION_COLUMNS = ("techniques", "logits dB", "accuracy")
LAYER_COLUMNS = ("tensor", "plain: own", "channel", "total", "asked for: own", "channel", "total")
RANGE_COLUMNS = ("tensor", "technique", "widest channel", "median channel", "largest", "codes before", "codes after")
DIVISOR_COLUMNS = ("attention", "log2 in 8-bit steps", "below 1 step", "below 4 steps")
LAYER_NOTE = (
    "Signal-to-noise ratio, dB. own: what the tensor's codes alone add, median channel; channel: with all noise before it, median channel; "
    "total: all channels together. plain: all techniques off."
)
RANGE_NOTE = (
    "Channel ranges of what is migrated and shifted; codes: that the median channel is spread over, all techniques off and as asked."
)
DIVISOR_NOTE = "Divisors of the attentions, in steps of an 8-bit uniform divisor: below one step, they are 0 or 1."


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    cells = [[line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def ablation_rows(diagnosis: Diagnosis) -> list[list[str]]:
    rows = [[row.name, f"{row.logits_db:.1f}", percent(row.accuracy)] for row in diagnosis.ablation]
    return [*rows, ["float", "-", percent(diagnosis.float_accuracy)]]


def layer_rows(diagnosis: Diagnosis) -> list[list[str]]:
    pairs = [(name, diagnosis.plain[name], noise) for name, noise in diagnosis.layers.items()]
    return [[name, *(f"{x:.1f}" for x in (a.own, a.channel, a.total, b.own, b.channel, b.total))] for name, a, b in pairs]


def range_rows(diagnosis: Diagnosis) -> list[list[str]]:
    return [
        [r.name, r.technique, f"{np.ptp(r.before, axis=1).max():.3g}", f"{np.median(np.ptp(r.before, axis=1)):.3g}",
         f"{r.before.max():.3g}", f"{r.codes_before:.1f}", f"{r.codes_after:.1f}"]
        for r in diagnosis.ranges
    ]  # fmt: skip


def divisor_rows(diagnosis: Diagnosis) -> list[list[str]]:
    return [
        [d.name, f"{d.low} ... {d.low + len(d.counts)}", f"{100 * d.below(0):.1f} %", f"{100 * d.below(2):.1f} %"]
        for d in diagnosis.divisors
    ]


def heading(diagnosis: Diagnosis) -> str:
    t = diagnosis.techniques
    return (
        f"{diagnosis.model} W{t.weight_bits}A{t.bits}, {'symmetric' if t.symmetric else 'asymmetric'} activations, {diagnosis.images} "
        f"calibration images, accuracy on {diagnosis.labelled or 'no'} labelled ones. {NOTE}"
    )


def as_text(diagnosis: Diagnosis) -> str:
    """The tables for a terminal."""
    parts = [
        heading(diagnosis), aligned(ABLATION_COLUMNS, ablation_rows(diagnosis)), LAYER_NOTE, aligned(LAYER_COLUMNS, layer_rows(diagnosis)),
        RANGE_NOTE, aligned(RANGE_COLUMNS, range_rows(diagnosis)),
    ]  # fmt: skip
    if diagnosis.divisors:
        parts += [DIVISOR_NOTE, aligned(DIVISOR_COLUMNS, divisor_rows(diagnosis))]
    return "\n\n".join(parts) + "\n"
