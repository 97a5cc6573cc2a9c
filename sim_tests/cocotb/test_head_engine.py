"""`HeadEngine` against the model's operators, and to the cycle."""

import numpy as np
import pytest

from model.efficientvit.graph import Hardswish, LayerNorm, Requantizer
from model.integer import LayerNormConstants
from rtl.efficientvit.head_command import HEAD_COMMAND, PAYLOAD_BITS
from rtl.efficientvit.head_engine import HeadEngine, HeadEngineConfig
from rtl.efficientvit.program.pack_head import norm_fields, pack_linear, pack_norm, pack_pool, pack_weights
from rtl.errors import InputError
from sim_tests.cocotb.runner import run_bench

BENCH = "sim_tests.cocotb.bench_head_engine"


def head(channels: int, hidden: int, classes: int, pixels: int, rows: int, piece: int, fraction: int = 5, hardswish: int = 10) -> dict:
    return dict(
        channels=channels, hidden=hidden, classes=classes, pixels=pixels, rows=rows, piece=piece, fraction=fraction, hardswish=hardswish
    )


HEADS = [
    head(32, 32, 10, 16, 16, 32),
    head(96, 160, 101, 49, 49, 64, fraction=9, hardswish=8),
    head(64, 128, 17, 81, 49, 96, fraction=2, hardswish=12),
    head(1536, 1600, 1000, 49, 49, 512),
    head(256, 320, 100, 16, 49, 256, fraction=12, hardswish=6),
]
NORMS = [
    (kind, channels, piece)
    for kind in ("random", "halves", "constant", "one")
    for channels, piece in ((32, 32), (96, 64), (416, 416), (160, 32))
]
NORMS += [("random", 4096, 512), ("halves", 4096, 512), ("one", 4096, 512)]


@pytest.mark.parametrize("bits", [5, 8])
def test_head_engine(bits: int) -> None:
    config = HeadEngineConfig(bits=bits)
    shift = LayerNormConstants.of(96).inverse_shift
    cycles = {
        "pool": config.channel_cycles(words=3, pool=True),
        "norm": config.channel_cycles(words=2, channels=96, inverse_shift=shift),
        "codes": config.channel_cycles(words=1),
    }
    parameters = dict(bits=bits, heads=HEADS, norms=NORMS, cycles=cycles, linear_latency=HeadEngine.linear_latency)
    run_bench(config.build(), module=BENCH, parameters=parameters, name="head_engine")


def test_published_timing() -> None:
    engine = HeadEngineConfig()
    assert HeadEngine.linear_latency == 26
    assert engine.channel_cycles(words=48, pool=True) == 1595
    assert engine.channel_cycles(words=50, channels=1600, inverse_shift=25) == 4966
    assert engine.channel_cycles(words=50) == 1643


def test_command_fits_an_instruction() -> None:
    assert HEAD_COMMAND.size == 143 <= PAYLOAD_BITS


def test_sizes() -> None:
    """100 outputs of 1,600 inputs: 50 pairs of 50 words; a missing output and missing inputs weigh 0."""
    assert pack_weights(np.ones((100, 1600), dtype=np.int8)).shape == (2500, 64)
    small = pack_weights(np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int8))
    assert small.shape == (2, 64)
    assert small[0, [0, 1, 2, 32, 33, 34]].tolist() == [1, 2, 0, 3, 4, 0]
    assert small[1, [0, 1, 32, 33]].tolist() == [5, 6, 0, 0]
    constants = requantizer(3, 0)
    assert len(pack_linear(constants, np.ones((3, 2), dtype=np.int8), 0)) == 2 * 16
    assert len(pack_pool(constants, 49, 3)) == 3 * 16


def requantizer(channels: int, bias: int) -> Requantizer:
    return Requantizer(bias=np.full(channels, bias), multiplier=np.ones(channels, dtype=int), shift=np.full(channels, 24))


def norm(channels: int) -> LayerNorm:
    ones = np.ones(channels, dtype=np.int64)
    stage = Hardswish(fraction=10, bias=ones, multiplier=ones, shift=24 * ones)
    return LayerNorm(name="norm", source="x", target="y", gamma=ones, beta=ones, fraction=5, hardswish=stage)


def test_norm_fields_fit() -> None:
    for channels in (32, 33, 1600, 4095, 4096):
        assert all(0 <= value < 1 << HEAD_COMMAND[name].width for name, value in norm_fields(norm(channels)).items())
    assert len(pack_norm(norm(64))) == 64 * 16


def test_wrong_operators() -> None:
    with pytest.raises(InputError, match=r"biases must fit 27 bits: 67108864 does not; quantize again"):
        pack_linear(requantizer(2, (1 << 26) - 64), np.ones((2, 1), dtype=np.int8), 64)
    with pytest.raises(InputError, match=r"biases must fit 27 bits: -67108864 does not"):
        pack_pool(requantizer(2, -(1 << 26) + 49), 49, 1)
    with pytest.raises(InputError, match=r"weights must be -127\.\.127: -128 is not"):
        pack_weights(np.full((2, 2), -128, dtype=np.int8))
    with pytest.raises(InputError, match=r"at most 4096 inputs: 4128 is more"):
        pack_weights(np.ones((2, 4128), dtype=np.int8))
    with pytest.raises(InputError, match=r"a LayerNorm must have 32\.\.4096 channels: 16 is not"):
        norm_fields(norm(16))


def test_wrong_configuration() -> None:
    with pytest.raises(InputError, match=r"classes must be 1\.\.4096: 0 does not"):
        HeadEngineConfig(classes=0)
    with pytest.raises(InputError, match=r"bits must be 4\.\.8: 3 does not"):
        HeadEngineConfig(bits=3)
