"""A `Diagnosis` as one HTML page that needs nothing else: tables, and plots in SVG drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from model.quant import explain_tables as tables
from model.quant.explain import PLAIN, ChannelRanges, Diagnosis, DivisorHistogram

#: Of each technique, the tensors that are drawn: those whose median channel has the fewest codes without it.
WORST = 3
_WIDTH, _LABEL, _BAR = 900, 330, 15
_PANEL = (420, 200)
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 960px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { padding: 2px 9px; text-align: right; border-bottom: 1px solid #ddd } td:first-child, th:first-child { text-align: left }
svg { display: block; margin: 1em 0; max-width: 100% } text { font: 12px system-ui, sans-serif; fill: #1b1b1b }
.plain { fill: #c2410c; stroke: #c2410c } .cured { fill: #1d6fb8; stroke: #1d6fb8 } .axis { stroke: #888 } .lost { fill: #fde5d8 }
.kept { fill: #dcebf8 } details { margin: 1em 0 } summary { cursor: pointer }
"""


def _svg(width: float, height: float, parts: Sequence[str], told: str) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {size} role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" class="{kind}" stroke="none"/>'


def _line(x: float, y: float, x2: float, y2: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="axis"/>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _bars(rows: Sequence[tuple[str, Sequence[tuple[float, str]]]], unit: str, told: str) -> str:
    """Rows of (label, bars of (value, class)); negative values have no length."""
    longest = max(value for _, bars in rows for value, _ in bars)
    parts, y = [], 4.0
    for label, bars in rows:
        parts.append(_text(_LABEL - 8, y + _BAR * len(bars) / 2 + 4, label, "end"))
        for value, kind in bars:
            length = (_WIDTH - _LABEL - 80) * max(value, 0) / max(longest, 1e-9)
            parts += [_rectangle(_LABEL, y, length, _BAR - 3, kind), _text(_LABEL + length + 5, y + 11, f"{value:.1f} {unit}")]
            y += _BAR
        y += 5
    return _svg(_WIDTH, y, parts, told)


def _ablation(diagnosis: Diagnosis) -> str:
    measured = diagnosis.float_accuracy is not None
    rows = [
        (row.name, [(row.accuracy if row.accuracy is not None else row.logits_db, "plain" if row.name == PLAIN else "cured")])
        for row in diagnosis.ablation
    ]
    if diagnosis.float_accuracy is not None:
        rows.append(("float", [(diagnosis.float_accuracy, "kept")]))
    return _bars(rows, "%" if measured else "dB", "accuracy, or signal-to-noise ratio of the logits, by techniques")


def _layers(diagnosis: Diagnosis) -> str:
    rows = [(name, [(diagnosis.plain[name].channel, "plain"), (noise.channel, "cured")]) for name, noise in diagnosis.layers.items()]
    return _bars(rows, "dB", "signal-to-noise ratio of the median channel by tensor")


def _panel(x: float, limits: np.ndarray, step: float, kind: str, title: str) -> list[str]:
    """One line per channel, from its least to its greatest value."""
    width, height = _PANEL
    low, high = min(float(limits.min()), 0.0), max(float(limits.max()), 0.0)

    def at(value: float) -> float:
        return 24 + (height - 30) * (high - value) / max(high - low, 1e-12)

    left, pitch = x + 50, (width - 60) / len(limits)
    path = "".join(f"M{left + (i + 0.5) * pitch:.1f} {at(b):.1f}V{at(a) + 0.5:.1f}" for i, (a, b) in enumerate(limits))
    span = float(np.median(np.ptp(limits, axis=1)))
    return [
        _text(left, 14, f"{title}: one code {step:.3g}, median channel {span / step:.1f} codes"), _line(left, at(0), x + width - 8, at(0)),
        f'<path d="{path}" class="{kind}" stroke-width="{max(0.5, 0.7 * pitch):.2f}" fill="none"/>',
        _text(left - 6, at(high) + 4, f"{high:.3g}", "end"), _text(left - 6, at(low) + 4, f"{low:.3g}", "end"),
    ]  # fmt: skip


def _ranges(ranges: ChannelRanges) -> str:
    before = _panel(0, ranges.before, ranges.step_before, "plain", "before")
    after = _panel(_PANEL[0] + 30, ranges.after, ranges.step_after, "cured", "after")
    told = f"channel ranges of {ranges.name}"
    return f"<h3>{escape(ranges.name)}</h3>{_svg(2 * _PANEL[0] + 30, _PANEL[1] + 4, [*before, *after], told)}"


def _worst(diagnosis: Diagnosis, technique: str) -> str:
    of_it = sorted((ranges for ranges in diagnosis.ranges if ranges.technique == technique), key=lambda ranges: ranges.codes_before)
    return "".join(_ranges(ranges) for ranges in of_it[:WORST])


def _divisors(divisors: DivisorHistogram) -> str:
    """Shaded: what an 8-bit uniform divisor cannot tell apart, and the window of the log2 divisor beneath."""
    left, bottom, pitch = 40.0, 170.0, 26.0
    low, high = min(divisors.low, 0), divisors.low + len(divisors.counts)

    def at(exponent: float) -> float:
        return left + pitch * (min(max(exponent, low), high) - low)

    parts = [_rectangle(at(low), 20, at(0) - at(low), bottom - 20, "lost"), _text(at(low) + 3, 14, "below one 8-bit step")]
    tallest = float(divisors.counts.max())
    for index, count in enumerate(divisors.counts):
        height = (bottom - 30) * float(count) / tallest
        parts.append(_rectangle(at(divisors.low + index) + 1, bottom - height, pitch - 2, height, "cured"))
    parts += [_text(at(exponent), bottom + 15, str(exponent), "middle") for exponent in range(low, high + 1, 2)]
    first, last = divisors.window
    parts += [_rectangle(at(first), bottom + 21, at(last + 1) - at(first), 5, "cured"), _line(left, bottom, at(high), bottom)]
    parts.append(_text(at(high) + 8, bottom + 28, "exponents of the log2 divisor"))
    return f"<h3>{escape(divisors.name)}</h3>{_svg(at(high) + 220, bottom + 34, parts, f'divisors of {divisors.name}')}"


def _verdict(diagnosis: Diagnosis) -> str:
    """What the first rows of the page say, in words."""
    rows = {row.name: row for row in diagnosis.ablation}

    def told(name: str) -> str:
        row = rows[name]
        return f"{row.logits_db:.1f} dB" + ("" if row.accuracy is None else f" ({row.accuracy:.2f} %)")

    lost = np.mean([divisors.below(0) for divisors in diagnosis.divisors]) if diagnosis.divisors else 0.0
    starved = min(diagnosis.ranges, key=lambda ranges: ranges.codes_before)
    return (
        f"All techniques off, the logits have {told(PLAIN)}; with migration alone {told('CM')}, with shifting alone {told('FS')}, "
        f"with both {told('CM + FS')}. Uniform divisors then leave {told('CM + FS, uniform divisors')}, "
        f"log2 ones {told('CM + FS, log2 divisors')}. "
        f"Worst without them is {starved.name}: its median channel is spread over {starved.codes_before:.1f} codes, and over "
        f"{starved.codes_after:.1f} as asked for. {100 * lost:.1f} % of the divisors are below one step of an 8-bit uniform divisor."
    )


def page(diagnosis: Diagnosis) -> str:
    """The same diagnosis gives the same text."""
    shown = [
        f"<h1>Quantization of {escape(diagnosis.model)}</h1><p>{escape(tables.heading(diagnosis))}</p><p>{escape(_verdict(diagnosis))}</p>",
        "<h2>Each technique removed</h2>", _ablation(diagnosis), _table(tables.ABLATION_COLUMNS, tables.ablation_rows(diagnosis)),
        "<h2>Layer by layer</h2><p>Median channel, all techniques off (red) and as asked for (blue), with all noise before it.</p>",
        _layers(diagnosis),
        f"<details><summary>Table</summary><p>{escape(tables.LAYER_NOTE)}</p>{_table(tables.LAYER_COLUMNS, tables.layer_rows(diagnosis))}"
        "</details>",
        "<h2>Wide channels: inputs of depthwise convolutions</h2><p>One line per channel, least to greatest value. One step has to serve "
        "all; migration divides each channel by a factor that the next weights take back.</p>", _worst(diagnosis, "migration"),
        "<h2>Asymmetric channels: inputs of second pointwise convolutions</h2><p>Shifting takes each channel's centre away, which comes "
        "back in the bias.</p>", _worst(diagnosis, "shifting"),
        f"<details><summary>All of them</summary>{_table(tables.RANGE_COLUMNS, tables.range_rows(diagnosis))}</details>",
    ]  # fmt: skip
    if diagnosis.divisors:
        shown += [
            f"<h2>Divisors of the attention</h2><p>log2, octave by octave. {escape(tables.DIVISOR_NOTE)} A log2 divisor is within a half "
            "of each, small or large.</p>", *(_divisors(divisors) for divisors in diagnosis.divisors),
            _table(tables.DIVISOR_COLUMNS, tables.divisor_rows(diagnosis)),
        ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>Quantization of {escape(diagnosis.model)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(shown) + "\n</body></html>\n"
