"""The lowering arrow: the integer graph computes what the fake-quantized network computes.

Tolerance, where each operator is fed the interpreter's own codes: codes differ by one at most, in TOLERANCE percent of each tensor at most
(COARSE_TOLERANCE for W4A4 and far centres, for there Hardswish's argument has few fraction bits); s16 codes (fc1, logits) by WIDE_TOLERANCE
at most.
"""

import dataclasses

import numpy as np
import pytest
import torch

from model.configs import efficientvit_config_of
from model.data.photos import load_photos
from model.efficientvit.bounds import check_graph
from model.efficientvit.graph import Convolution, Divisor
from model.efficientvit.interpreter import interpret
from model.efficientvit.lower import lower, lower_requantizer, output_constants
from model.errors import InputError
from model.integer import REQUANTIZE_SHIFTS
from model.quant.calibration import calibrate
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import fold, run
from model.quant.ptq import Techniques, quantize
from model.quant.quantization import Quantization, ScaleQuantization, TensorQuantization
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

TOLERANCE, COARSE_TOLERANCE, WIDE_TOLERANCE = 2.5, 4.0, 2
IMAGES = images_of(SMALL, 16)
OTHERS = images_of(SMALL, 24, seed=5)


def quantized(techniques: Techniques, seed: int = 0) -> Quantization:
    folded = fold(network_of(seed=seed))
    return quantize(folded, [IMAGES], calibrate(folded, [IMAGES], 16), techniques)


def interpreted(quantization: Quantization, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Codes by tensor, (batch, channels, height, width)."""
    return {name: torch.from_numpy(codes).permute(0, 3, 1, 2).float() for name, codes in interpret(lower(quantization), images).items()}


def check_operators(quantization: Quantization, codes: dict[str, torch.Tensor], tolerance: float) -> None:
    fake = FakeQuantized(quantization)
    for operator in quantization.folded.operators:
        difference = (fake.execute(operator, codes) - codes[operator.target]).abs()
        if quantization.tensors[operator.target].wide:
            assert difference.max() <= WIDE_TOLERANCE, (operator.name, difference.max())
        else:
            assert difference.max() <= 1 and 100 * (difference > 0).double().mean() <= tolerance, (operator.name, difference.max())


def sqnr(reference: torch.Tensor, x: torch.Tensor) -> float:
    return float(10 * torch.log10(reference.double().pow(2).sum() / (reference - x).double().pow(2).sum()))


@pytest.mark.parametrize(
    "techniques",
    (
        Techniques(),
        Techniques(divisor="log2_8bit", symmetric=True),
        Techniques(divisor="uniform", migration=False),
        Techniques(divisor="exact", shifting=False, activation_range="minmax"),
        Techniques(bits=7, weight_bits=7, weight_range="mse"),
        Techniques(bits=6, weight_bits=6, migration=False, shifting=False),
        Techniques(bits=5, weight_bits=5),
        Techniques(bits=4, weight_bits=4),
        Techniques(bits=4),
        Techniques(weight_bits=4),
    ),
)
def test_every_operator_computes_what_the_fake_quantized_one_does(techniques):
    quantization = quantized(techniques)
    coarse = techniques.bits == techniques.weight_bits == 4
    check_operators(quantization, interpreted(quantization, OTHERS), COARSE_TOLERANCE if coarse else TOLERANCE)


@pytest.mark.parametrize("seed", (1, 2))
def test_other_networks(seed):
    quantization = quantized(Techniques(), seed)
    check_operators(quantization, interpreted(quantization, OTHERS), TOLERANCE)


def test_logits_end_to_end():
    """Single codes that differ grow on their way through a random network; what remains stays far below the loss to quantization itself."""
    quantization = quantized(Techniques(divisor="exact"))
    expected = run(quantization.folded, torch.from_numpy(OTHERS))
    fake = FakeQuantized(quantization)(torch.from_numpy(OTHERS))
    integer = quantization.tensors["logits"].values(interpreted(quantization, OTHERS)["logits"]).flatten(1)
    assert sqnr(fake, integer) > max(sqnr(expected, fake), 15) and sqnr(expected, integer) > 10
    assert abs(sqnr(expected, integer) - sqnr(expected, fake)) < 3


def test_first_operator_is_the_integers_up_to_ties():
    """The image's bytes, its padding and the stem, on the same codes as the interpreter has them."""
    quantization, codes = quantized(Techniques()), {}
    FakeQuantized(quantization).codes(torch.from_numpy(OTHERS), lambda name, tensor: codes.__setitem__(name, tensor))
    mine = interpreted(quantization, OTHERS)
    difference = (codes["stem.in_conv"] - mine["stem.in_conv"]).abs()
    assert difference.max() <= 1 and (difference > 0).double().mean() < 0.025
    border = difference.clone()
    border[:, :, 1:-1, 1:-1] = 0
    assert (border > 0).sum() <= 0.03 * (2 * 15 + 2 * 13) * difference[:, :, 0, 0].numel()


def test_requantizer_follows_the_ratios():
    one = torch.ones(3, dtype=torch.float64)
    target = TensorQuantization(scale=0.02, zero=7 * one, migration=torch.tensor([1, 0.5, 4]).double(),
                                centre=torch.tensor([0, 0.1, -0.2]).double(), low=0, high=255, size=(1, 1))  # fmt: skip
    sums, bias = np.array([1e-4, 2e-4, 3e-5]), np.array([0.5, -1.0, 2.0])
    gated = lower_requantizer("layer", sums, bias, target, fraction=12)
    unit, ratios = 3 / 4096, gated.multiplier / 2.0**gated.shift
    np.testing.assert_allclose(ratios * unit, sums, rtol=1e-4)
    np.testing.assert_allclose(gated.bias * ratios * unit, bias, rtol=1e-3)
    assert gated.hardswish is not None and gated.hardswish.fraction == 12
    step = np.array([0.02, 0.01, 0.08]) / 64
    np.testing.assert_allclose(gated.hardswish.multiplier / 2.0**gated.hardswish.shift, unit / step, rtol=1e-4)
    assert gated.hardswish.bias.tolist() == [0, round(-0.1 / unit), round(0.2 / unit)] == [0, -137, 273]
    plain = lower_requantizer("layer", sums, bias, dataclasses.replace(target, migration=one, centre=0 * one))
    np.testing.assert_allclose(plain.multiplier / 2.0**plain.shift, sums / 0.02 * 64, rtol=1e-4)
    with pytest.raises(InputError, match=r"^layer: requantize ratios must stay below 16: .* does not; quantize the network again$"):
        lower_requantizer("layer", sums * 1e4, bias, dataclasses.replace(target, migration=one, centre=0 * one))


def quotient_constants(ratio: float, low: int) -> tuple[int, int]:
    one = torch.ones(1)
    scale = ScaleQuantization(state_ratio=one, sum_ratio=one, kind="log2", low=low, divisor_ratio=0.01, quotient_ratio=ratio)
    return output_constants("attention", scale, Divisor(kind="log2", low=low))


@pytest.mark.parametrize("ratio, low", ((1e-3, 2), (0.7, 2), (15.9, 0), (63.9, 2), (5000.0, 9)))
def test_quotients_multiplier(ratio, low):
    multiplier, shift = quotient_constants(ratio, low)
    assert shift in REQUANTIZE_SHIFTS and 0 < multiplier < 1 << 16
    assert multiplier * 2.0**-shift * 2**low == pytest.approx(ratio, rel=1e-4 if ratio > 0.1 else 2e-3)
    with pytest.raises(InputError, match=r"^attention quotient: requantize ratios must stay below 16: .* does not; quantize"):
        quotient_constants(16.01 * 2**low, low)


def test_constants_that_do_not_fit_are_named():
    quantization = quantized(Techniques())
    name = "stages.0.blocks.1.main.point_conv"
    convolution = quantization.convolutions[name]
    wide = dataclasses.replace(convolution, bias=convolution.bias + 1e6)
    broken = dataclasses.replace(quantization, convolutions={**quantization.convolutions, name: wide})
    with pytest.raises(InputError, match=rf"^{name} bias must lie in \[-67108864, 67108863\]: \d+ does not"):
        lower(broken)
    graph = lower(quantization)
    operator = next(operator for operator in graph.operators if operator.name == name)
    assert isinstance(operator, Convolution)
    nearly = dataclasses.replace(operator.requantizer, bias=np.full_like(operator.requantizer.bias, (1 << 26) - 1))
    changed = dataclasses.replace(operator, requantizer=nearly)
    operators = tuple(changed if other is operator else other for other in graph.operators)
    with pytest.raises(InputError, match=rf"^{name} accumulator \+ bias must lie in"):
        check_graph(dataclasses.replace(graph, operators=operators))


def test_dead_weights_beside_a_large_bias_fit():
    """A channel that is nearly its bias alone: its weight scale grows so that 27 bits hold it, and its value stays."""
    net = network_of()
    layer = net.stages[0].blocks[0].main.point_conv
    with torch.no_grad():
        layer.norm.weight[2] = 1e-9
        layer.norm.bias[2] = 3.0
    folded = fold(net)
    quantization = quantize(folded, [IMAGES], calibrate(folded, [IMAGES], 16), Techniques())
    codes, name = interpreted(quantization, OTHERS), "stages.0.blocks.0.main.point_conv"
    values = quantization.tensors[name].values(codes[name])[:, 2]
    assert (values - 3).abs().max() <= 0.51 * quantization.tensors[name].scale + 0.01
    check_operators(quantization, codes, TOLERANCE)


def test_a_centre_far_from_zero():
    """More than a thousand steps away, and codes as good as the others'; few fraction bits, for the argument reaches 40."""
    net = network_of()
    with torch.no_grad():
        net.stages[0].blocks[1].main.depth_conv.norm.bias[3] = 40.0
    folded = fold(net)
    quantization = quantize(folded, [IMAGES], calibrate(folded, [IMAGES], 16), Techniques(constant_channels="keep"))
    codes, target = interpreted(quantization, OTHERS), "stages.0.blocks.1.main.depth_conv"
    assert quantization.tensors[target].centre[3] > 1000 * quantization.tensors[target].scale and codes[target][:, 3].std() > 10
    check_operators(quantization, codes, COARSE_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(f"efficientvit_{size}_r224" for size in ("b0", "b1", "b2", "b3")), "efficientvit_b1_r256", "efficientvit_b1_r288"]
)
def test_photos(name):
    """Every network of the B series, quantized with photos: operator by operator within the tolerance."""
    config = efficientvit_config_of(name)
    images = load_photos("train", config, 16)[0]
    folded = fold(network_of(config, images=images))
    batches = [images[start : start + 8] for start in range(0, 16, 8)]
    quantization = quantize(folded, batches, calibrate(folded, batches, 16), Techniques())
    check_operators(quantization, interpreted(quantization, load_photos("test", config, 2)[0]), TOLERANCE)
