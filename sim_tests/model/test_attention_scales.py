"""Divisors and scales of linear attention as powers of two."""

import numpy as np
import pytest
import torch

from model.efficientvit import integer
from model.efficientvit.graph import Divisor, Scale
from model.quant import representable
from model.quant.attention_scales import exponent_window, exponents_of, first_exponent
from model.quant.calibration import calibrate, divisor_counts
from model.quant.fake_quantized import quotients, rounded_log2
from model.quant.folded import fold
from model.quant.ptq import Techniques, quantize
from model.quant.quantization import ScaleQuantization
from sim_tests.model.efficientvit_networks import network_of
from sim_tests.model.quantized import ATTENTION, BATCHES, SHIFTED


def test_attention_scales_use_their_codes(folded, calibration):
    quantization = quantize(folded, BATCHES, calibration, Techniques())
    operator = next(op for op in folded.operators if op.name == ATTENTION)
    for source, scale, statistics in zip(
        operator.sources, quantization.attentions[ATTENTION], calibration.attentions[ATTENTION], strict=True
    ):
        step = quantization.tensors[source].scale
        state, total = statistics.state / step**2 * scale.state_ratio, statistics.total / step * scale.sum_ratio
        torch.testing.assert_close(torch.maximum(state, total), torch.full_like(state, 127), rtol=1e-3, atol=0)
        ratio = scale.state_ratio / scale.sum_ratio
        torch.testing.assert_close(ratio, ratio[:1].expand(2), rtol=1e-3, atol=0)
        assert scale.quotient_ratio * float(ratio[0]) == pytest.approx(step / quantization.tensors[ATTENTION].scale, rel=1e-3)


def test_exponent_window():
    counts = divisor_counts(torch.tensor([[[2.0**20, 1.4 * 2**20, 1.6 * 2**20]], [[4.0, 4.0, 2.0**-30]]]).transpose(0, 1))
    exponents = exponents_of(counts, torch.tensor([2.0, 1.0]).double())
    assert exponents[[19, 20, 2, 0]].tolist() == [2, 1, 2, 1] and exponents.sum() == 6
    assert exponent_window(exponents) == 4 or float(exponents[5:21].sum()) == 3
    assert exponent_window(torch.tensor([1.0, 0, 0])) == 0
    held = torch.zeros(20)
    held[[1, 18]] = 1.0
    held[19] = 0.5
    assert exponent_window(held) == 4


@pytest.mark.parametrize(("ratio", "first"), ((0.01, 0), (15.9, 0), (16.0, 1), (31.9, 1), (142.0, 4)))
def test_first_exponent_lets_the_quotient_be_multiplied(ratio, first):
    """A window from 0, and one from 4, which holds for all of these ratios."""
    assert first_exponent(torch.tensor([1.0, 2, 3]), ratio) == first
    assert first_exponent(torch.cat([torch.zeros(19), torch.ones(1)]), ratio) == 4


@pytest.mark.parametrize("fraction", (6, 12))
def test_centres_are_whole_units_of_hardswish(fraction):
    unit = 3 / (1 << fraction)
    got = representable.whole_centre(torch.tensor([0, 0.4 * unit, -0.6 * unit, 7.5 * unit]).double(), fraction)
    assert (got / unit).tolist() == [0, 0, -1, 8]


def test_a_far_centre_leaves_its_tensors_step_alone():
    """One channel of Hardswish's result that lies far off: with shifting the step is that of the channels' ranges all the same."""
    net = network_of()
    steps = []
    for bias in (3.0, 100.0):
        with torch.no_grad():
            net.stages[0].blocks[1].main.depth_conv.norm.bias[3] = bias
        folded = fold(net)
        quantization = quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques(constant_channels="keep"))
        steps.append(quantization.tensors[SHIFTED].scale)
    centre, fraction = quantization.tensors[SHIFTED].centre, quantization.convolutions[SHIFTED].fraction
    assert steps[1] == pytest.approx(steps[0], rel=1e-6) and centre[3] > 1000 * steps[1] and fraction == 9


def test_rounded_log2_is_the_integers():
    values = torch.arange(0, 70_000)
    np.testing.assert_array_equal(rounded_log2(values.float()).numpy(), integer.rounded_log2(values.numpy()))


@pytest.mark.parametrize("kind", integer.DIVISOR_KINDS)
def test_quotients_are_the_integers(kind):
    rng = np.random.default_rng(0)
    dividend, divisor = rng.integers(-(10**5), 10**5, 4000), rng.integers(0, 2 ** rng.integers(1, 19, 4000))
    low = 3 if kind == "log2" else 0
    rule = Divisor(kind=kind, low=low, multiplier=40_960, shift=24)
    logarithmic, share = kind.startswith("log2"), 40_960 / 2**24 if kind in ("log2_8bit", "uniform") else 1.0
    ratio = 1.25
    multiplier = round(ratio * share * 2 ** (22 - low)) if logarithmic else round(ratio * share * 2**22)
    scale = Scale(
        source="", state_multiplier=np.zeros(1), state_shift=np.zeros(1), sum_multiplier=np.zeros(1), sum_shift=np.zeros(1), divisor=rule,
        output_multiplier=multiplier, output_shift=22,
    )  # fmt: skip
    one = torch.ones(1)
    mine = ScaleQuantization(state_ratio=one, sum_ratio=one, kind=kind, low=low, divisor_ratio=40_960 / 2**24, quotient_ratio=ratio)
    got = quotients(torch.from_numpy(dividend).float(), torch.from_numpy(divisor).float(), mine).numpy()
    expected = integer.divide(dividend, divisor, scale)
    assert (np.abs(got - expected) <= 0.51 + np.abs(expected) * (1e-3 if logarithmic else 0.05)).all() and np.abs(expected).max() > 200
