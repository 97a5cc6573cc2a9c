"""A small table of constants, in LUTs."""

from amaranth.hdl import Array, Signal
from amaranth.utils import bits_for

from rtl.tech.generic import Generic

#: Index bits of one LUT.
_LUT_INPUTS = 6


def constant_table(m, values, index, name, technology=None):
    """``values[index]`` as LUTs; an index beyond the list, which a legal command does not have, gives any of them.

    technology : of the LUTs, see `rtl.tech.technology`; `Generic` if None
    """
    bits = bits_for(len(values) - 1)
    padded = [*values, *[values[-1]] * ((1 << bits) - len(values))]
    entry = Signal(bits_for(max(values)), name=name)
    low, size = index[: min(bits, _LUT_INPUTS)], 1 << min(bits, _LUT_INPUTS)
    parts = [(technology or Generic()).table(m, padded[first : first + size], low) for first in range(0, len(padded), size)]
    m.d.comb += entry.eq(Array(parts)[index[_LUT_INPUTS:bits]] if len(parts) > 1 else parts[0])
    return entry
