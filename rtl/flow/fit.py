"""Does a machine fit its board, and if not, which smaller one would: from the estimates of its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rtl.accelerator import BANK_MODULE, ROW_MODULE
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.efficientvit import accelerator as efficientvit
from rtl.efficientvit.config import EfficientVitMachine
from rtl.errors import InputError
from rtl.flow.estimate import Resources, over_budget
from rtl.flow.machine import Config


def with_rows(config: Config, rows: int) -> Config:
    """`config` with other rows; a DeiT's with as many attention lanes, up to its own, as the laws of attention allow.

    Raises
    ------
    InputError : no machine has so many rows; the text is of the first law that fails
    """
    return replace(config, rows=rows) if isinstance(config, EfficientVitMachine) else _with_rows(config, rows)


def _with_rows(config: AcceleratorConfig, rows: int) -> AcceleratorConfig:
    tried = [replace(config, rows=rows, lanes=lanes) for lanes in range(min(max(rows, 1), config.lanes), 0, -1)]
    for changed in tried:
        with contextlib.suppress(InputError):
            AttentionConfig.of(changed)
            return changed
    AttentionConfig.of(tried[0])
    raise AssertionError("a law of attention fails for some lanes and for none")


def _counts(config: Config) -> dict[str, int]:
    """How often the modules are used whose number follows the rows."""
    if isinstance(config, EfficientVitMachine):
        return {efficientvit.ROW_MODULE: config.rows}
    return {ROW_MODULE: config.rows, BANK_MODULE: AttentionConfig.of(config).groups}


def predicted(config: Config, rows: int, parts: Mapping[str, Resources]) -> Resources:
    """`config` with other rows, from the parts of `config`: rows and key/value banks counted again, everything else as it is."""
    before, after = _counts(config), _counts(with_rows(config, rows))
    return sum((parts[name] * (after[name] - before[name]) for name in before), parts["total"])


def largest_rows(config: Config, parts: Mapping[str, Resources], board: Any) -> int | None:
    """The most rows, fewer than `config`'s, that fit `board`; None if there are none."""
    for rows in range(config.rows - 1, 0, -1):
        with contextlib.suppress(InputError):
            if not over_budget(predicted(config, rows, parts), board):
                return rows
    return None


def misfits(config: Config, parts: Mapping[str, Resources], board: Any) -> list[str]:
    """A line for each resource that exceeds its budget, and one that says what would fit; empty if the machine fits."""
    over = over_budget(parts["total"], board)
    if not over:
        return []
    rows = largest_rows(config, parts, board)
    fewer_bits = isinstance(config, AcceleratorConfig)
    if rows is None:
        return [*over, f"no number of rows fits at {config.bits} bits; use {'fewer bits or ' * fewer_bits}a smaller network"]
    found = with_rows(config, rows)
    passes = f" ({found.passes} passes instead of {config.passes})" if fewer_bits else ""
    return [*over, f"{rows} rows fit{passes}: use --rows {rows}{', or fewer bits' * fewer_bits}"]
