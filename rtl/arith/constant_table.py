"""A small table of constants, in LUTs."""

from amaranth.hdl import Array, Const, Signal
from amaranth.utils import bits_for


def constant_table(m, values, index, name):
    """``values[index]`` as LUTs; an index beyond the list, which a legal command does not have, gives any of them."""
    bits = bits_for(len(values) - 1)
    padded = [*values, *[values[-1]] * ((1 << bits) - len(values))]
    width = bits_for(max(values))
    entry = Signal(width, name=name)
    m.d.comb += entry.eq(Array(Const(value, width) for value in padded)[index[:bits]])
    return entry
