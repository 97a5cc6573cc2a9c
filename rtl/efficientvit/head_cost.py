"""What the head engine costs."""

from __future__ import annotations

from amaranth.utils import ceil_log2

from rtl.cost import Cost
from rtl.efficientvit.head_command import PAIR_BITS, PARAMETER_BITS, PARAMETER_WIDTH, VALUE_BITS, WEIGHT_BITS, WORD_CHANNELS
from rtl.efficientvit.head_memories import SLICE_BITS, SLICES, VECTOR_BITS
from rtl.efficientvit.pool_sums import pool_cost
from rtl.logit_memory import BANKS
from rtl.tech.memory_cost import block_memory, memory

#: Two outputs of 32 inputs in pairs, and the requantizers of values and of channels.
_SLICES = WORD_CHANNELS + 6


def head_cost(classes: int, bits: int) -> Cost:
    """Of a `HeadEngine`: memories of weights, vectors, parameters, values and logits, and the pool; the rest by ``bits``."""
    beat_bits = max(1, ceil_log2(-(-classes // BANKS)))
    memories = (
        SLICES * block_memory(SLICE_BITS, 1 << WEIGHT_BITS)
        + block_memory(WORD_CHANNELS * bits, 1 << VECTOR_BITS, granularity=bits)
        + block_memory(PARAMETER_WIDTH, 1 << PARAMETER_BITS)
        + block_memory(2 * VALUE_BITS, 1 << PAIR_BITS)
        + memory(VALUE_BITS * BANKS, 2 << beat_bits, granularity=2 * VALUE_BITS)
    )
    return memories + pool_cost(bits) + Cost(dsp=_SLICES, priced_lut={"constant": 1, "bits": bits}, priced_ff={"constant": 1, "bits": bits})
