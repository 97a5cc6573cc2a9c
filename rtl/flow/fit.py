"""Does a machine fit its board, and if not, which smaller one would: from the estimates of its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rtl.accelerator import BANK_MODULE, ROW_MODULE
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.errors import InputError
from rtl.flow.estimate import Resources, over_budget


def with_rows(config: AcceleratorConfig, rows: int) -> AcceleratorConfig:
    """`config` with other rows, and as many attention lanes, up to its own, as the laws of attention allow.

    Raises
    ------
    InputError : no number of lanes does; the text is of the first law that fails
    """
    tried = [replace(config, rows=rows, lanes=lanes) for lanes in range(min(max(rows, 1), config.lanes), 0, -1)]
    for changed in tried:
        with contextlib.suppress(InputError):
            AttentionConfig.of(changed)
            return changed
    AttentionConfig.of(tried[0])
    raise AssertionError("a law of attention fails for some lanes and for none")


def predicted(config: AcceleratorConfig, rows: int, parts: Mapping[str, Resources]) -> Resources:
    """`config` with other rows, from the parts of `config`: rows and key/value banks counted again, everything else as it is."""
    banks = AttentionConfig.of(with_rows(config, rows)).groups
    others = (found for name, found in parts.items() if name not in (ROW_MODULE, BANK_MODULE, "total"))
    return sum(others, parts[ROW_MODULE] * rows + parts[BANK_MODULE] * banks)


def largest_rows(config: AcceleratorConfig, parts: Mapping[str, Resources], board: Any) -> int | None:
    """The most rows, fewer than `config`'s, that fit `board`; None if there are none."""
    for rows in range(config.rows - 1, 0, -1):
        with contextlib.suppress(InputError):
            if not over_budget(predicted(config, rows, parts), board):
                return rows
    return None


def misfits(config: AcceleratorConfig, parts: Mapping[str, Resources], board: Any) -> list[str]:
    """A line for each resource that exceeds its budget, and one that says what would fit; empty if the machine fits."""
    over = over_budget(parts["total"], board)
    if not over:
        return []
    rows = largest_rows(config, parts, board)
    if rows is None:
        return [*over, f"no number of rows fits at {config.bits} bits; use fewer bits or a smaller network"]
    passes = with_rows(config, rows).passes
    return [*over, f"{rows} rows fit ({passes} passes instead of {config.passes}): use --rows {rows}, or fewer bits"]
