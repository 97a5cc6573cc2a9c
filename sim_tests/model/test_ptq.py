"""Each technique by its formula, what each refuses, and the fake-quantized run beside the float one."""

import dataclasses

import numpy as np
import pytest
import torch

from model.efficientvit import integer
from model.efficientvit.graph import Divisor, Scale
from model.errors import InputError
from model.quant import representable
from model.quant.attention_scales import exponent_window, exponents_of, first_exponent
from model.quant.calibration import Extent, Histogram, calibrate, divisor_counts, histogram_of
from model.quant.fake_quantized import FakeQuantized, quotients, rounded_log2
from model.quant.folded import FoldedConvolution, fold, run
from model.quant.ptq import Techniques, channel_centres, migration_factors, quantize
from model.quant.quantization import ScaleQuantization, TensorQuantization
from model.quant.ranges import activation_scale, nearest_weight, weight_scale, zero_of
from sim_tests.model.efficientvit_networks import SMALL, images_of, network_of

IMAGES = images_of(SMALL, 16)
BATCHES = [IMAGES[:8], IMAGES[8:]]
MIGRATED, SHIFTED = "stages.0.blocks.1.main.inverted_conv", "stages.0.blocks.1.main.depth_conv"
ATTENTION = "stages.1.blocks.1.context_module.main.attention"


@pytest.fixture(scope="module")
def folded():
    return fold(network_of())


@pytest.fixture(scope="module")
def calibration(folded):
    return calibrate(folded, BATCHES, 16)


class Fine(Techniques):
    """Precisions beyond what the integer graph has."""

    def __post_init__(self) -> None:
        pass


def sqnr(reference: torch.Tensor, x: torch.Tensor) -> float:
    """dB."""
    return float(10 * torch.log10(reference.double().pow(2).sum() / (reference - x).double().pow(2).sum()))


# -- ranges -------------------------------------------------------------------------------------------------------------------------------


def counted(x: torch.Tensor) -> Histogram:
    low, high = float(x.min()), float(x.max())
    return Histogram(low=low, high=high, counts=histogram_of(x, low, high))


@pytest.mark.parametrize("symmetric", (False, True))
@pytest.mark.parametrize("bits", (4, 6, 8))
def test_mse_range_is_the_best_of_eighty_on_the_data_itself(bits, symmetric):
    """Histograms stand for the data: the cost of what they choose is the least, to a thousandth."""
    rng = np.random.default_rng(bits)
    x = torch.from_numpy(rng.laplace(0.5, 1, 40_960)).double()
    low, high = float(x.min()), float(x.max())
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    top = (1 << bits) - 1

    def cost(shrink: float) -> float:
        scale = shrink * (high - low) / (top - symmetric)
        zero = 1 << (bits - 1) if symmetric else int(np.floor(-shrink * low / scale + 0.5))
        quantized = scale * ((x / scale + 0.5).floor() + zero).clamp(int(symmetric), top) - scale * zero
        return float((x - quantized).abs().pow(2.4).sum())

    costs = [cost(1 - 0.01 * step) for step in range(80)]
    scale, least = activation_scale(counted(x.float()), bits, symmetric, "mse")
    assert cost(scale * (top - symmetric) / (high - low)) <= min(costs) * 1.001 < costs[0]
    assert least / low == pytest.approx(scale * (top - symmetric) / (high - low), rel=1e-5)
    assert activation_scale(counted(x.float()), bits, symmetric, "minmax")[0] == pytest.approx((high - low) / (top - symmetric), rel=1e-5)


def test_ranges_hold_zero():
    positive = Histogram(low=2.0, high=4.0, counts=torch.ones(64, dtype=torch.float64))
    assert activation_scale(positive, 8, False, "minmax") == (pytest.approx(4 / 255), 0.0) and zero_of(0.0, 4 / 255, 8, False) == 0
    negative = Histogram(low=-4.0, high=-2.0, counts=torch.ones(64, dtype=torch.float64))
    scale, low = activation_scale(negative, 8, False, "minmax")
    assert zero_of(low, scale, 8, False) == 255
    assert zero_of(-1.0, 0.1, 8, True) == 128


def test_weight_scales():
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 40, 3, 3))).float()
    weight[2] = 0
    full = weight_scale(weight, 4, "minmax")
    torch.testing.assert_close(full, weight.double().abs().amax((1, 2, 3)) / 7)

    def cost(scale: torch.Tensor) -> torch.Tensor:
        quantized = nearest_weight(weight, scale.clamp_min(1e-9), 4) * scale[:, None, None, None]
        return (weight - quantized).abs().pow(2.4).sum((1, 2, 3))

    best = weight_scale(weight, 4, "mse")
    every = torch.stack([cost(full * (1 - 0.01 * step)) for step in range(80)])
    alive = torch.tensor([0, 1, 3, 4])
    assert (cost(best)[alive] <= every.min(0).values[alive] * 1.001).all() and (cost(best)[alive] < cost(full)[alive]).all()
    assert nearest_weight(torch.tensor([[[[0.3125]]], [[[-9.0]]]]), torch.tensor([0.125, 0.125]).double(), 4).flatten().tolist() == [3, -7]


def test_quantizers_agree_with_torch():
    """Where the semantics coincide: everywhere but on ties, which torch rounds to even."""
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(4, 5, 6, 7))).float()
    one = torch.ones(5, dtype=torch.float64)
    tensor = TensorQuantization(scale=0.013, zero=91 * one, migration=one, centre=0 * one, low=0, high=255, size=(6, 7))
    torch.testing.assert_close(tensor.values(tensor.codes(x)), torch.fake_quantize_per_tensor_affine(x, 0.013, 91, 0, 255))
    weight = torch.from_numpy(rng.normal(size=(5, 4, 3, 3))).float()
    scale = weight_scale(weight, 6, "minmax") * 0.7
    mine = nearest_weight(weight, scale, 6) * scale[:, None, None, None]
    theirs = torch.fake_quantize_per_channel_affine(weight, scale.float(), torch.zeros(5, dtype=torch.int32), 0, -31, 31)
    torch.testing.assert_close(mine.float(), theirs)


# -- techniques ---------------------------------------------------------------------------------------------------------------------------


def test_migration_factors():
    """Largest over typical, typical the greater of the 0.99 quantile and the mean of the largest; within [0.1, 64]."""
    high = torch.tensor([0.01, 1.0, 2.0, 400.0]).double()
    extent = Extent(low=-torch.ones(4).double(), high=high, size=(2, 2))
    flat = Histogram(low=-1.0, high=1.0, counts=torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(migration_factors(extent, flat), (high / high.mean()).clamp(0.1, 64))
    mostly_large = Histogram(low=0.0, high=400.0, counts=torch.ones(4000, dtype=torch.float64))
    torch.testing.assert_close(migration_factors(extent, mostly_large), (high / 396.0).clamp(0.1, 64), rtol=1e-3, atol=0)
    many = Extent(low=-torch.ones(1000).double(), high=torch.cat([torch.full((999,), 0.5), torch.tensor([80.0])]).double(), size=(2, 2))
    assert migration_factors(many, flat).max() == 64 and channel_centres(many)[-1] == 39.5


@pytest.mark.parametrize("name", ("migration", "shifting"))
def test_each_technique_can_be_switched_off(folded, calibration, name):
    all_of_them = quantize(folded, BATCHES, calibration, Techniques()).tensors
    without = quantize(folded, BATCHES, calibration, Techniques(**{name: False})).tensors
    field, tensor = {"migration": ("migration", MIGRATED), "shifting": ("centre", SHIFTED)}[name]
    neutral = 1.0 if name == "migration" else 0.0
    used = {key for key, quantized in all_of_them.items() if (getattr(quantized, field) != neutral).any()} - {"image"}
    assert tensor in used and all(key.endswith(tensor.rsplit(".", 1)[-1]) and not key.startswith("stem") for key in used) and len(used) == 4
    assert all((getattr(quantized, field) == neutral).all() for key, quantized in without.items() if key != "image")


def test_shifting_is_exact(folded, calibration):
    """Dequantized codes through the quantized weights: the bias, a whole number, holds all that the centres take away."""
    quantization = quantize(folded, BATCHES, calibration, Techniques())
    operator = next(op for op in folded.operators if isinstance(op, FoldedConvolution) and op.source == SHIFTED)
    convolution, source = quantization.convolutions[operator.name], quantization.tensors[SHIFTED]
    codes = torch.randint(0, 256, (2, len(source.zero), 3, 3)).double()
    sums = torch.einsum("oi,bihw->bohw", convolution.weight[:, :, 0, 0].double(), source.differences(codes))
    scales = quantization.accumulator_scales(SHIFTED, convolution)
    real = sums * scales[:, None, None] + convolution.bias[:, None, None]
    weight = convolution.weight[:, :, 0, 0] * convolution.weight_scale[:, None]
    expected = torch.einsum("oi,bihw->bohw", weight, source.values(codes)) + operator.bias.double()[:, None, None]
    assert ((real - expected).abs() <= 0.501 * scales[:, None, None]).all()
    extent = calibration.extents[SHIFTED]
    whole = source.centre / (3 / (1 << quantization.convolutions[SHIFTED].fraction))
    torch.testing.assert_close(whole, whole.round())
    assert ((source.centre - (extent.low + extent.high) / 2).abs() <= source.steps / 8).all()  # units are a quarter of a step at most


def test_migration_leaves_depthwise_integers_alone(folded, calibration):
    """A filter is scaled by its channel's factor, and so is its scale."""
    with_it, without = (quantize(folded, BATCHES, calibration, Techniques(migration=flag)) for flag in (True, False))
    assert torch.equal(with_it.convolutions[SHIFTED].weight, without.convolutions[SHIFTED].weight)
    factors = with_it.tensors[MIGRATED].migration
    torch.testing.assert_close(with_it.convolutions[SHIFTED].weight_scale, without.convolutions[SHIFTED].weight_scale * factors)
    assert factors.min() < 0.9 and factors.max() > 1.1


@pytest.mark.parametrize("techniques", (Techniques(), Techniques(symmetric=True, bits=6, weight_bits=5)))
def test_formats(folded, calibration, techniques):
    quantization = quantize(folded, BATCHES, calibration, techniques)
    middle, top, limit = 1 << (techniques.bits - 1), (1 << techniques.bits) - 1, (1 << (techniques.weight_bits - 1)) - 1
    for name, tensor in quantization.tensors.items():
        limits = (tensor.low, tensor.high)
        if name in ("logits", "head.classifier.0"):
            assert limits == (-32768, 32767) and (tensor.zero == 0).all()
        elif name == "image":
            assert limits == (0, top) and tensor.zero.tolist() == {8: [124, 116, 104], 6: [31, 29, 26]}[techniques.bits]
        elif techniques.symmetric or name.endswith((".qkv", ".aggreg.0.1")):
            assert limits == (1, top) and (tensor.zero == middle).all(), name
        else:
            assert limits == (0, top) and (tensor.zero == tensor.zero[0]).all() and 0 <= tensor.zero[0] <= top
    largest = max(int(convolution.weight.abs().max()) for convolution in quantization.convolutions.values())
    assert largest == limit and (quantization.bits, quantization.weight_bits) == (techniques.bits, techniques.weight_bits)


def test_rounded_weights_replace_the_nearest(folded, calibration):
    plain = quantize(folded, BATCHES, calibration, Techniques())
    other = (plain.convolutions[SHIFTED].weight - 1).clamp_min(-127)
    again = quantize(folded, BATCHES, calibration, Techniques(), {SHIFTED: other})
    assert torch.equal(again.convolutions[SHIFTED].weight, other)
    assert torch.equal(again.convolutions[SHIFTED].weight_scale, plain.convolutions[SHIFTED].weight_scale)
    assert torch.equal(again.convolutions[MIGRATED].weight, plain.convolutions[MIGRATED].weight)


# -- attention ----------------------------------------------------------------------------------------------------------------------------


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


# -- float -> fake-quantized --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("migration", (True, False))
@pytest.mark.parametrize("shifting", (True, False))
def test_high_precision_agrees_with_the_float_network(folded, calibration, migration, shifting, monkeypatch):
    """14 bits, as if multipliers could be any; S and the sum of K keep their 8, hence the lower ratio behind the attention."""
    monkeypatch.setattr(representable, "RATIO_LIMIT", 1e6)
    techniques = Fine(bits=14, weight_bits=14, divisor="exact", activation_range="minmax", migration=migration, shifting=shifting)
    quantization = quantize(folded, BATCHES, calibration, techniques)
    expected, got = {}, {}
    logits = run(folded, torch.from_numpy(IMAGES), lambda name, tensor: expected.__setitem__(name, tensor))
    quantized = FakeQuantized(quantization)(torch.from_numpy(IMAGES), lambda name, tensor: got.__setitem__(name, tensor))
    ratios = {name: sqnr(expected[name], got[name]) for name in expected}
    before = list(ratios)[: list(ratios).index(ATTENTION)]
    assert ratios["image"] > 100 and min(ratios[name] for name in before) > 53, ratios
    assert min(ratios.values()) > 25 and sqnr(logits, quantized) > 25, ratios


def test_eight_bits_lose_more_than_fourteen_and_four_most(folded, calibration):
    logits, found = run(folded, torch.from_numpy(IMAGES)), []
    for bits in (14, 8, 4):
        techniques = Fine(bits=bits, weight_bits=bits, divisor="exact", activation_range="minmax")
        found.append(sqnr(logits, FakeQuantized(quantize(folded, BATCHES, calibration, techniques))(torch.from_numpy(IMAGES))))
    assert found[0] > found[1] + 3 > found[2] + 6, found


def test_codes_and_values_belong_together(folded, calibration):
    quantization, codes, values = quantize(folded, BATCHES, calibration, Techniques()), {}, {}
    fake = FakeQuantized(quantization)
    last = fake.codes(torch.from_numpy(IMAGES), lambda name, tensor: codes.__setitem__(name, tensor))
    logits = fake(torch.from_numpy(IMAGES), lambda name, tensor: values.__setitem__(name, tensor))
    assert torch.equal(codes["image"], torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float())
    for name, tensor in quantization.tensors.items():
        assert codes[name].min() >= tensor.low and codes[name].max() <= tensor.high and torch.equal(codes[name], codes[name].round()), name
        torch.testing.assert_close(tensor.values(codes[name]), values[name])
    torch.testing.assert_close(quantization.tensors["logits"].values(last).flatten(1), logits)
    torch.testing.assert_close(values["image"], folded.image(torch.from_numpy(IMAGES)))


@pytest.mark.parametrize("bits", (4, 6, 7))
def test_image_codes_stand_for_the_mean_of_their_pixels(folded, calibration, bits):
    """All pixels there are: no error exceeds half a code, and on average there is none."""
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    quantization = quantize(folded, BATCHES, calibration, Techniques(bits=bits))
    image, codes = quantization.tensors["image"], quantization.image_codes(pixels)
    assert torch.equal(codes[0, 0].flatten(), torch.arange(256) // 2 ** (8 - bits))
    error = image.values(codes) - folded.image(pixels)
    assert error.abs().max() < 2 ** (7 - bits) and error.mean((2, 3)).abs().max() < 1e-3
    assert image.centre.abs().max() <= 2 ** (7 - bits)  # the padding is the nearest code to the mean pixel


# -- bad input ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    (
        ({"bits": 3}, r"^bits must be 4\.\.8: 3 is not; choose 8, 6 or 4$"),
        ({"weight_bits": 9}, r"^weight_bits must be 4\.\.8: 9 is not"),
        ({"divisor": "log3"}, r"^divisor must be one of log2, log2_8bit, uniform, exact: 'log3' is not; choose one of these$"),
        ({"activation_range": "max"}, r"^activation_range must be one of mse, minmax: 'max' is not"),
        ({"constant_channels": "drop"}, r"^constant_channels must be one of refuse, keep: 'drop' is not"),
    ),
)
def test_wrong_techniques_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        Techniques(**wrong)


def test_constant_channels_are_named_or_kept():
    net = network_of()
    layer = net.stages[0].blocks[1].main.inverted_conv
    with torch.no_grad():
        layer.norm.weight[[3, 5]] = 0
    folded = fold(net)
    calibration = calibrate(folded, BATCHES, 16)
    message = (
        r"^channels must vary over the calibration images: 2 of 32 of stages\.0\.blocks\.1\.main\.inverted_conv do not \(3, 5\); give more"
    )
    with pytest.raises(InputError, match=message):
        quantize(folded, BATCHES, calibration, Techniques())
    kept = quantize(folded, BATCHES, calibration, Techniques(constant_channels="keep"))
    assert sqnr(run(folded, torch.from_numpy(IMAGES)), FakeQuantized(kept)(torch.from_numpy(IMAGES))) > 5


def test_a_tensor_of_zeros_is_named():
    net = network_of()
    with torch.no_grad():
        net.head.classifier[0].weight.zero_()
    folded = fold(net)
    with pytest.raises(InputError, match=r"^a tensor must vary over the calibration images: head\.classifier\.0 is 0 on all of them"):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())


def test_divisors_of_zero_are_named():
    """Keys that are never positive."""
    net = network_of()
    qkv = net.stages[1].blocks[1].context_module.main.qkv.conv
    with torch.no_grad():
        for head in range(2):
            qkv.weight[head * 24 + 8 : head * 24 + 16] = 0
    folded = fold(net)
    name = r"stages\.1\.blocks\.1\.context_module\.main\.attention scale 0"
    with pytest.raises(InputError, match=rf"^divisors must not all be zero over the calibration images: those of {name} are"):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())


def test_one_head_without_keys_is_quantized():
    net = network_of()
    qkv = net.stages[1].blocks[1].context_module.main.qkv.conv
    with torch.no_grad():
        qkv.weight[8:16] = 0
    folded = fold(net)
    quantization = quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())
    seen = {}
    FakeQuantized(quantization)(torch.from_numpy(IMAGES), lambda name, tensor: seen.__setitem__(name, tensor))
    assert (seen[ATTENTION][:, :8].abs() <= quantization.tensors[ATTENTION].scale / 2).all() and seen[ATTENTION][:, 8:16].any()


def test_arguments_beyond_16_bits_are_named():
    net = network_of()
    with torch.no_grad():
        net.stages[0].blocks[1].main.depth_conv.norm.weight.mul_(1000)
    folded = fold(net)
    with pytest.raises(
        InputError, match=r"^Hardswish's argument must stay below 1229: that of stages\.0\.blocks\.1\.main\.depth_conv reaches"
    ):
        quantize(folded, BATCHES, calibrate(folded, BATCHES, 16), Techniques())


def test_hardswish_fractions():
    x = torch.tensor([-5.0, 0.5, 2.9, 3.0, 7.0])
    results = torch.nn.functional.hardswish(x)
    assert [representable.hardswish_argument(float(y)) for y in results] == pytest.approx([0, 0.5, 2.9, 3, 7], rel=1e-5)
    fractions = [representable.hardswish_fraction("layer", argument) for argument in (5.0, 19.1, 19.3, 38.5, 154.0, 307.0)]
    assert fractions == [12, 12, 11, 10, 8, 8]
    assert representable.hardswish_fraction("layer", 5.0, torch.tensor([0.01, 0.04])) == 10
    assert dataclasses.replace(Techniques(), bits=4).bits == 4
