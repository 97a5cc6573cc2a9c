"""The fake-quantized run beside the float one."""

import pytest
import torch

from model.quant import representable
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import run
from model.quant.ptq import Techniques, quantize
from sim_tests.model.quantized import ATTENTION, BATCHES, IMAGES, Fine, sqnr


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
