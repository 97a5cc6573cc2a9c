"""`DepthEngine` and `ExpansionRing` against the interpreter, and to the cycle."""

import numpy as np
import pytest

from model.efficientvit.graph import Requantizer
from rtl.efficientvit.depth_command import COMMAND, PAYLOAD_BITS, sweep_cycles
from rtl.efficientvit.depth_engine import DepthEngineConfig
from rtl.efficientvit.expansion_ring import ExpansionRingConfig, place
from rtl.efficientvit.program.pack_depthwise import pack_parameters, pack_weights
from rtl.errors import InputError
from sim_tests.cocotb.depth_harness import DepthHarness, modules
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_depth_engine"


def case(kernel: int, stride: int, width: int, height: int, channels: int, hardswish: bool = False, **more) -> dict:
    return dict(kernel=kernel, stride=stride, width=width, height=height, channels=channels, hardswish=hardswish, **more)


CASES = [
    case(3, 1, 4, 4, 32),
    case(3, 1, 7, 7, 96, hardswish=True),
    case(5, 1, 7, 7, 96, weights=224, parameters=300),
    case(3, 2, 14, 14, 32, hardswish=True),
    case(3, 2, 4, 5, 16),
    case(5, 2, 6, 7, 32),
    case(3, 2, 7, 7, 32),
    case(5, 2, 5, 5, 32, hardswish=True),
    case(5, 1, 4, 4, 16),
    case(3, 1, 5, 3, 32),
    case(5, 1, 5, 6, 32),
    case(3, 1, 28, 6, 32),
    case(3, 2, 56, 11, 16, hardswish=True),
    case(5, 1, 14, 9, 32),
    case(3, 1, 112, 3, 16),
]
QUEUED = [
    case(5, 1, 7, 5, 32, hardswish=True),
    case(3, 1, 4, 6, 96, weights=200, parameters=200),
    case(5, 2, 8, 7, 16, weights=300, parameters=300),
]
STALLED = [
    case(3, 1, 7, 19, 32, hardswish=True, lines=8),
    case(5, 1, 5, 18, 96, lines=8, weights=100, parameters=100),
    case(3, 2, 6, 18, 32, lines=8),
    case(3, 1, 4, 3, 16, weights=100, parameters=100),
]


@pytest.mark.parametrize(("bits", "rows"), [(4, 5), (8, 49)])
def test_depth_engine(bits: int, rows: int) -> None:
    harness = DepthHarness(rows, bits)
    latency = {kernel: harness.engine.config.latency(kernel) for kernel in (3, 5)}
    parameters = dict(bits=bits, rows=rows, cases=CASES, stalled=STALLED, queued=QUEUED, latency=latency)
    run_bench(harness, module=BENCH, parameters=parameters, name="depth_engine", modules=modules(bits))


def test_published_timing() -> None:
    config = DepthEngineConfig(rows=49)
    assert [config.latency(kernel) for kernel in (3, 5)] == [47, 52]
    assert (sweep_cycles(3, 14), sweep_cycles(5, 14)) == (14, 42)


def test_command_fits() -> None:
    assert COMMAND.size - 1 <= PAYLOAD_BITS


@pytest.mark.parametrize("width", [4, 5, 7, 14, 28, 56, 112])
@pytest.mark.parametrize("lines", [8, 16, 24])
def test_pixels_that_meet_lie_in_distinct_banks(width: int, lines: int) -> None:
    """Seven lines of a column, also across the ring's end."""
    for y in range(2 * lines):
        for x in range(width):
            assert len({place(x, y + line, 0, width=width, words=3, lines=lines)[0] for line in range(7)}) == 7


@pytest.mark.parametrize("width", [4, 5, 7, 14, 28])
def test_groups_lie_in_distinct_banks(width: int) -> None:
    """Four pixels in raster order, across the ends of lines and of the ring."""
    places = [place(index % width, index // width, 0, width=width, words=1, lines=8)[0] for index in range(20 * width)]
    assert all(len(set(places[first : first + 4])) == 4 for first in range(len(places) - 3))


def test_places_are_distinct() -> None:
    held = [place(x, y, word, width=6, words=3, lines=8) for y in range(8) for x in range(6) for word in range(3)]
    assert len(set(held)) == len(held)


def test_sizes() -> None:
    assert len(pack_weights(np.ones((2048, 1, 3, 3), dtype=np.int8))) == 128 * 16 * 16
    assert len(pack_weights(np.ones((1536, 1, 5, 5), dtype=np.int8))) == 288 * 16 * 16


@pytest.mark.parametrize("weight", [np.ones((24, 1, 3, 3)), np.ones((16, 1, 7, 7))])
def test_wrong_weights(weight: np.ndarray) -> None:
    with pytest.raises(InputError, match="a depthwise layer must have a multiple of 16 channels and kernel 3 or 5"):
        pack_weights(weight)


def test_wrong_bias() -> None:
    constants = Requantizer(bias=np.full(16, 67_108_863), multiplier=np.ones(16, dtype=int), shift=np.full(16, 24))
    with pytest.raises(InputError, match="biases must fit 27 bits"):
        pack_parameters(constants, np.ones((16, 1, 3, 3), dtype=np.int8), 0)


def test_wrong_configuration() -> None:
    with pytest.raises(InputError, match=r"rows must be 1\.\.64: 65 does not"):
        DepthEngineConfig(rows=65)
    with pytest.raises(InputError, match=r"bits must be 4\.\.8: 3 does not"):
        DepthEngineConfig(rows=49, bits=3)
    with pytest.raises(InputError, match=r"depth must be 1\.\.1024: 2048 does not"):
        ExpansionRingConfig(depth=2048)
