"""`DepthwiseConv`: bit-exact, and exact to the cycle."""

import pytest

from rtl.errors import InputError
from rtl.tech.tap_cascade import tap_sum_width
from rtl.units.depthwise_channel import PLACES, SUM_BITS
from rtl.units.depthwise_conv import DepthwiseConv, DepthwiseConvConfig
from rtl.units.depthwise_window import tap_place
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_depthwise_conv"
STATIC = ("kernel_5", "stride_2", "hardswish", "fraction", "low", "pad", "zero")
CASES = [
    dict(kernel=kernel, stride=stride, width=width, hardswish=hardswish)
    for kernel in (3, 5)
    for stride, width, hardswish in ((1, 4, False), (1, 7, True), (1, 5, False), (2, 4, True), (2, 10, False))
]


@pytest.mark.parametrize(("bits", "channels"), [(8, 4), (6, 4), (4, 8)])
def test_depthwise_conv(bits: int, channels: int) -> None:
    config = DepthwiseConvConfig(bits=bits, channels=channels)
    parameters = dict(bits=bits, channels=channels, offsets=DepthwiseConv.OFFSETS, sums=DepthwiseConv.SUMS, latency=config.latency)
    run_bench(config.build(), module=BENCH, parameters=parameters | dict(static=STATIC, cases=CASES), name="depthwise_conv")


def test_published_timing() -> None:
    assert (DepthwiseConv.SUMS, DepthwiseConvConfig().latency) == (13, 40)
    assert DepthwiseConv.OFFSETS == {"control": 0, "shift": 1, "lines": 1, "weights": 3, "parameters": 9}
    assert PLACES == (0, 1, 2, 3, 4, 0, 1, 2, 3)


def test_widths_hold_at_their_extremes() -> None:
    assert SUM_BITS == tap_sum_width(25) == 20
    for taps in range(1, 30):
        width, extreme = tap_sum_width(taps), taps * 128 * 127
        assert 1 << width - 2 <= extreme < 1 << width - 1
    assert 8 * 128 * 127 < 1 << 17 <= 9 * 128 * 127  # why a cascade stops at 8 taps


@pytest.mark.parametrize(("kernel", "steps"), [(3, 1), (5, 3)])
def test_every_tap_has_one_slot(kernel: int, steps: int) -> None:
    places = [tap_place(kernel, step, tap) for step in range(steps) for tap in range(9)]
    found = [place for place in places if place is not None]
    first = 1 if kernel == 3 else 0
    assert sorted(found) == [(first + column, line) for column in range(kernel) for line in range(kernel)]


def test_wrong_configuration() -> None:
    with pytest.raises(InputError, match=r"bits must be 4\.\.8: 9 does not; choose a width in that range"):
        DepthwiseConvConfig(bits=9)
    with pytest.raises(InputError, match="channels must be a multiple of 4: 6 does not; use 16"):
        DepthwiseConvConfig(channels=6)
