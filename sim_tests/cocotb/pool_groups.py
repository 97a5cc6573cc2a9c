"""Groups of pixels as the collector gives them to the pool."""

import numpy as np
from cocotb.triggers import FallingEdge

from rtl.efficientvit.collector import CONTEXTS, pool_group
from sim_tests.cocotb.helpers import bench_parameters

BITS = bench_parameters()["bits"]
POOL_GROUP = pool_group(BITS)


def group_bits(codes: np.ndarray, **fields: int) -> int:
    """codes : (up to 4, 32)."""
    data = [sum(int(code) << BITS * channel for channel, code in enumerate(pixel)) for pixel in codes]
    data += [(1 << 32 * BITS) - 1 - position for position in range(4 - len(codes))]  # noise where no pixel is
    return POOL_GROUP.const({"valid": (1 << len(codes)) - 1, "data": data, **fields}).as_bits()


def passes_of(codes: np.ndarray, rows: int) -> list[list[int]]:
    """codes (pixels, words, 32) -> groups of one pass of a word each, in the order of the array; without their context."""
    found = []
    for first in range(0, len(codes), rows):
        pixels = codes[first : first + rows]
        count = -(-rows // 4)
        for word in range(codes.shape[1]):
            fields = [dict(first=g == 0, last=g == count - 1, word=word, begin=first == 0) for g in range(count)]
            found.append([(pixels[4 * g : 4 * g + 4, word], fields[g]) for g in range(count)])
    return found


def as_collected(passes: list) -> dict[int, int]:
    """Cycle -> group: a word every 16 cycles, its groups every 3."""
    return {
        16 * index + 3 * g: group_bits(codes, context=index % CONTEXTS, **fields)
        for index, groups in enumerate(passes)
        for g, (codes, fields) in enumerate(groups)
    }


def as_dense(passes: list, rng) -> dict[int, int]:
    """Any context's next group, if its last one is 3 cycles away and, for the last of a pass, that of another one 8."""
    waiting, open_, found = list(passes), {}, {}
    free, last, cycle = dict.fromkeys(range(CONTEXTS), 0), -8, 0
    while waiting or open_:
        able = [c for c in range(CONTEXTS) if free[c] <= cycle and (c in open_ or waiting)]
        able = [c for c in able if not (c in open_ and open_[c][0][1]["last"] and cycle - last < 8)]
        if able:
            context = rng.choice(able)
            groups = open_.setdefault(context, None) or list(waiting.pop(0))
            codes, fields = groups.pop(0)
            if fields["last"]:
                last = cycle
            found[cycle], free[context] = group_bits(codes, context=context, **fields), cycle + 3
            if groups:
                open_[context] = groups
            else:
                del open_[context]
        cycle += 1
    return found


async def play(dut, port: str, schedule: dict[int, int]) -> None:
    for cycle in range(max(schedule) + 1):
        getattr(dut, port).value = schedule.get(cycle, 0)
        await FallingEdge(dut.clk)
    getattr(dut, port).value = 0
