"""What memories of one write and one read port cost in UltraScale+ as yosys maps them, and the multiplexers behind them.

A block memory is cut into chunks of as many words as a block has; words of all chunks lie side by side in blocks, each write enable's bits
in bytes of nine of its own. Among the blocks' shapes the cheapest is taken.
"""

from __future__ import annotations

from functools import cache

from rtl.cost import Cost
from rtl.shapes import ceil_div

#: (bits, words) of the shapes of a block of 18 Kb; one of 36 Kb has twice the words, or 72 bits.
_HALVES = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024), (36, 512))
_WHOLES = (*((bits, 2 * words) for bits, words in _HALVES), (72, 512))
#: Yosys' costs: of a block of 18 and of 36 Kb, of a LUT memory, and of a bit's choice between two chunks.
_HALF, _WHOLE, _LUT_PRICE, _CHOICE = 129, 257, 16, 0.5
_BYTE = 9
#: A LUT memory of 8 LUTs: 14 bits of 32 words, or 7 bits of 64.
_LUT_MEMORIES, _LUT_MEMORY = ((14, 32), (7, 64)), 8


def multiplexer_luts(choices: int) -> int:
    """LUTs of one bit chosen among so many: four to a LUT, whose outputs the slice's multiplexers join."""
    return 0 if choices <= 1 else ceil_div(choices, 4)


def shift_register_luts(cycles: int) -> int:
    """LUTs of one bit's delay without reset: from 3 cycles on, 32 in a LUT."""
    return 0 if cycles < 3 else ceil_div(cycles, 32)


@cache
def block_memory(width: int, depth: int, *, granularity: int = 0) -> Cost:
    """A memory in block RAMs, with the choice between its chunks.

    granularity : bits of a write enable; 0 if there is one for the word
    """
    return _in_blocks(width, depth, granularity or width)[1]


@cache
def lut_memory(width: int, depth: int) -> Cost:
    """A memory in LUTs, with the choice between its chunks."""
    return _in_luts(width, depth, width)[1]


@cache
def memory(width: int, depth: int, *, granularity: int = 0) -> Cost:
    """A memory whose kind is left to yosys: the cheaper one."""
    granularity = granularity or width
    return min(_in_blocks(width, depth, granularity), _in_luts(width, depth, granularity), key=_price)[1]


def _price(found: tuple[float, Cost]) -> float:
    return found[0]


def _in_blocks(width: int, depth: int, granularity: int) -> tuple[float, Cost]:
    """Yosys' price, and what the cheapest blocks cost."""
    found = []
    for shapes, price, size in ((_HALVES, _HALF, 0.5), (_WHOLES, _WHOLE, 1.0)):
        for bits, words in shapes:
            chunks = ceil_div(depth, words)
            if bits < _BYTE:
                blocks = chunks * ceil_div(width, bits)
            else:
                blocks = ceil_div(chunks * ceil_div(width, granularity) * ceil_div(granularity, _BYTE), bits // _BYTE)
            cost = Cost(bram36=size * blocks, lut=width * multiplexer_luts(chunks))
            found.append((price * blocks + _CHOICE * width * (chunks - 1), cost))
    return min(found, key=_price)


def _in_luts(width: int, depth: int, granularity: int) -> tuple[float, Cost]:
    found = []
    for bits, words in _LUT_MEMORIES:
        chunks = ceil_div(depth, words)
        memories = ceil_div(width, granularity) * ceil_div(granularity, bits) * chunks
        cost = Cost(lutram=_LUT_MEMORY * memories, lut=_LUT_MEMORY * memories + width * multiplexer_luts(chunks))
        found.append((_LUT_PRICE * memories + _CHOICE * width * (chunks - 1), cost))
    return min(found, key=_price)
