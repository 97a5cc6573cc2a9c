"""The width laws at their extremes: every bound is reached, no value passes it, and the hardware agrees."""

import numpy as np
import pytest
from amaranth.hdl import Const
from hypothesis import given
from hypothesis import strategies as st

from rtl import shapes
from rtl.arith.ternary_tree import tree_levels
from rtl.tech.table_layout import RAM_PORTS, TableLayout

BITS = st.integers(1, 8)
INPUTS = st.integers(4, 256).map(lambda groups: groups * shapes.GROUP)


def holds(shape, value: int) -> bool:
    """Whether `value` survives a conversion to `shape`: Amaranth truncates without a word."""
    return Const.cast(Const(value, shape)).value == value


@given(maximum=st.integers(0, 1 << 40))
def test_unsigned_for_is_tight(maximum: int) -> None:
    shape = shapes.unsigned_for(maximum)
    assert not shape.signed and maximum < 1 << shape.width
    assert shape.width == 1 or maximum >= 1 << (shape.width - 1)


@given(magnitude=st.integers(1, 1 << 40))
def test_signed_for_is_tight(magnitude: int) -> None:
    shape = shapes.signed_for(magnitude)
    assert holds(shape, magnitude) and holds(shape, -magnitude)
    assert magnitude >= 1 << (shape.width - 2)


@given(inputs=INPUTS, bits=BITS, data=st.data())
def test_dot_product_fits(inputs: int, bits: int, data: st.DataObject) -> None:
    """Random vectors stay inside every law; the extreme ones reach the ends."""
    top = shapes.activation_maximum(bits)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    vectors = [np.full(inputs, top), np.zeros(inputs, int), rng.integers(0, top + 1, inputs)]
    weights = [np.ones(inputs, int), np.zeros(inputs, int), rng.integers(0, 2, inputs)]
    results = [int(2 * (x * w).sum() - x.sum()) for x in vectors for w in weights]
    magnitude = shapes.total_maximum(inputs, bits)
    assert max(results) == magnitude and min(results) == -magnitude
    assert all(holds(shapes.dot_shape(inputs, bits), value) for value in results)
    assert holds(shapes.total_shape(inputs, bits), int(vectors[0].sum()))
    assert holds(shapes.table_shape(bits), int(vectors[0][: shapes.GROUP].sum()))


@pytest.mark.parametrize(
    "inputs, bits, dot, total, table", [(768, 8, 19, 18, 10), (768, 6, 17, 16, 8), (64, 1, 8, 7, 3), (1024, 8, 19, 18, 10)]
)
def test_known_widths(inputs: int, bits: int, dot: int, total: int, table: int) -> None:
    assert shapes.dot_shape(inputs, bits).width == dot
    assert shapes.total_shape(inputs, bits).width == total
    assert shapes.table_shape(bits).width == table


@given(value=st.integers(-(1 << 11), (1 << 11) - 1))
def test_wrap_gives_the_shape(value: int) -> None:
    narrowed = shapes.wrap(Const(value, shapes.signed_for(1 << 20)), shapes.signed_for(1 << 11))
    assert narrowed.shape() == shapes.signed_for(1 << 11)


@given(operands=st.integers(1, 3000))
def test_tree_levels(operands: int) -> None:
    levels = tree_levels(operands)
    assert 3**levels >= operands and (levels == 0 or 3 ** (levels - 1) < operands)


@given(inputs=INPUTS, bits=BITS, shared=st.booleans())
def test_table_layout(inputs: int, bits: int, shared: bool) -> None:
    """Every bit pair of every group has one port; a RAM has at most seven and spans two chunks at most; kept lanes hold both chunks."""
    layout = TableLayout(inputs=inputs, bits=bits, shared=shared)
    ports = [port for ram in layout.rams for port in ram.ports]
    assert sorted(ports) == [(group, pair) for group in range(layout.groups) for pair in range(layout.pairs)]
    for ram in layout.rams:
        assert len(ram.ports) <= RAM_PORTS
        assert ram.last - ram.first <= int(shared)
        chunk_of = {}
        for group, _ in ram.ports:
            chunk = group // shapes.SLOTS
            if chunk < ram.last:  # rewritten while the next chunk is held: needs a generator that the next chunk does not load
                assert layout.lanes[layout.lane_of(group)].parity == chunk % 2
            chunk_of.setdefault(layout.lane_of(group), set()).add(group)
        assert all(len(groups) == 1 for groups in chunk_of.values()), "one generator cannot serve two groups at a time"


def test_smallest_layout() -> None:
    """RAM32M16s of a 768-input row: shared where left-over ports would cost more than two more generators."""
    assert [len(TableLayout.smallest(768, bits).rams) for bits in (8, 6, 4, 2)] == [144, 110, 83, 55]
    assert [TableLayout.smallest(768, bits).shared for bits in (8, 6, 4, 2)] == [False, True, True, True]
