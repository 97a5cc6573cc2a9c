"""The width laws of LayerNorm at their extremes, for every width of token that is allowed."""

import math

import numpy as np
import pytest
from amaranth.hdl import Const, Shape, signed

from model import integer
from rtl.units import layernorm_statistics as unit

WIDTHS = range(4, unit.MAXIMUM_EMBED_DIM + 1, 4)
LOW, HIGH = -32768, 32767


def fits(value: int, shape: Shape) -> bool:
    return Const.cast(Const(value, shape)).value == value


@pytest.mark.parametrize("group", range(8))
def test_operands_fit(group: int) -> None:
    for embed_dim in WIDTHS[group::8]:
        constants = integer.LayerNormConstants.of(embed_dim)
        quarter, half = embed_dim // 4, 1 << (constants.inverse_shift - 1)
        assert fits(half - 1, signed(48)) and fits(quarter, signed(27))
        assert fits(embed_dim * LOW * LOW, unit.sum2_shape(embed_dim))
        assert fits(-constants.inverse, signed(unit.MEAN2_BITS))
        for x in (LOW, HIGH):
            sum1 = embed_dim * x
            mean2 = int(integer.round_shift(np.int64(sum1 * constants.inverse), constants.inverse_shift))
            assert fits(sum1, unit.sum1_shape(embed_dim)) and fits(sum1, signed(27))
            assert fits(mean2, signed(18)) and abs(mean2) <= 65537
            assert fits(2 * x - mean2, signed(18))
            assert fits(quarter * mean2, signed(27)) and fits(sum1 - quarter * mean2, signed(27)), "bracket of the last product"


@pytest.mark.parametrize("embed_dim", [4, 12, 64, 100, 192, 384, 508, 512, 516, 768, 1020, 1024])
def test_minus_mean2_and_energy_from_shared_operands(embed_dim: int) -> None:
    """The two products as the hardware forms them, against the contract."""
    numbers = np.random.default_rng(embed_dim)
    constants = integer.LayerNormConstants.of(embed_dim)
    quarter, half = embed_dim // 4, 1 << (constants.inverse_shift - 1)
    vectors = [np.tile([LOW, HIGH], embed_dim // 2), np.full(embed_dim, LOW), np.full(embed_dim, HIGH)]
    vectors += [numbers.integers(LOW, HIGH + 1, embed_dim) >> shift for shift in range(16)]
    for x in vectors:
        sum1, sum2 = int(x.sum()), int((x * x).sum())
        minus_mean2 = (sum1 * -constants.inverse + half - 1) >> constants.inverse_shift
        energy = 4 * ((sum1 + quarter * minus_mean2) * minus_mean2 + sum2)
        mean2, rsqrt = integer.layernorm_statistics(x)
        assert minus_mean2 == -mean2
        assert 0 <= energy < 1 << unit.energy_bits(embed_dim)
        assert min(constants.dividend // max(math.isqrt(energy), 1), (1 << 26) - 1) == rsqrt
