"""What a `KeyValueBank` and the choice behind the banks cost."""

from __future__ import annotations

from functools import cache

from amaranth.utils import bits_for

from rtl.attention_config import AttentionConfig
from rtl.cost import Cost
from rtl.shapes import ceil_div
from rtl.tech.memory_cost import block_memory, multiplexer_luts, shift_register_luts
from rtl.units.key_value import column_width, memory_parts


def bank_cost(config: AttentionConfig, rows: int) -> Cost:
    """Of a bank of so many rows.

    LUTs: pairs of keys are joined by OR, five more to a LUT; a byte per row waits for the last row in shift registers; a memory in two
    parts has a choice behind it. Flip-flops: a word of keys per row, twice that per pair, and the memories' words.
    """
    words, pairs, wait = 16 * config.lanes, ceil_div(rows, 2), rows - 1
    address = bits_for(config.value_depth - 1)
    waiting = 8 * sum(map(shift_register_luts, range(rows))) + shift_register_luts(wait) + address * shift_register_luts(wait - 1)
    own = Cost(
        lut=words * ceil_div(pairs - 1, 5) + waiting,
        ff=8 * config.lanes * rows + words * pairs + words + 8 * rows,
        priced_lut={"constant": 1, "address bits": bits_for(config.key_depth - 1) + address},
        priced_ff={"constant": 1, "rows": rows},
    )
    return own + _memory(config.key_depth, words) + _memory(config.value_depth, 16 * rows)


@cache
def _memory(depth: int, size: int) -> Cost:
    """A memory in columns, its word's register, and the choice between its parts."""
    cost, parts = Cost(ff=size), memory_parts(depth, size)
    for words in parts:
        width = column_width(words)
        cost += sum((block_memory(min(width, size - first), words) for first in range(0, size, width)), Cost())
    return cost + Cost(lut=size * multiplexer_luts(len(parts)))


def selection_cost(config: AttentionConfig) -> Cost:
    """Behind the banks: a word of keys or of values of one of the groups, and its register. A LUT per bit that may be chosen: what a group
    lacks of values is 0."""
    words = 16 * config.lanes
    return Cost(ff=words, lut=words * config.groups + 16 * config.rows)
