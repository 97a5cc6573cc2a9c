"""The kernels against plain torch: values and gradients of each, on random inputs that reach both ends of every range."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from model.configs import DeiTConfig
from model.errors import InputError
from model.quant import kernels
from model.quant.arithmetic import DIFFERENTIABLE, Arithmetic
from model.quant.fused import Fused
from model.quant.kernels import kernels_of
from model.quant.quantizers import BinaryWeight, LearnedStep, PlaneWeight
from sim_tests.model.networks import SMALL, images_of, quantized

#: Other head and token counts: no dimension is a multiple of what is padded or unrolled.
ODD = DeiTConfig(name="odd", image_size=12, patch_size=4, embed_dim=60, depth=1, heads=5, mlp_ratio=2, classes=3)
BATCH = 6


def close(compute: Callable[[Arithmetic], Tensor], config: DeiTConfig, leaves: list[Tensor], unequal: float = 0.002) -> Tensor:
    """Both arithmetics give the same codes, but for ``unequal`` of them (ties), and the same gradients of every leaf."""
    results = []
    for arithmetic in (DIFFERENTIABLE, Fused(kernels_of(config))):
        for leaf in leaves:
            leaf.grad = None
        codes = compute(arithmetic)
        torch.manual_seed(1)
        codes.backward(torch.randn_like(codes))
        results.append((codes.detach(), [leaf.grad.clone() for leaf in leaves]))
    (expected, wanted), (got, found) = results
    assert (expected != got).float().mean() <= unequal
    for number, (a, b) in enumerate(zip(wanted, found, strict=True)):
        assert (a - b).norm() <= 0.01 * a.norm(), number
        assert a.norm() > 0, number
    return got


def quantizer(bits: int, step: float) -> LearnedStep:
    made = LearnedStep.mid_rise(bits)
    with torch.no_grad():
        made.log_step.fill_(np.log(step))
    return made


@pytest.mark.parametrize("bits", (8, 4, 1))
@pytest.mark.parametrize("config", (SMALL, ODD))
def test_norm_codes(config, bits):
    torch.manual_seed(bits)
    x = (3 * torch.randn(BATCH, 7, config.embed_dim) + 1).requires_grad_()
    gamma = (2**bits / 4 * torch.rand(config.embed_dim)).requires_grad_()
    beta = (2**bits / 2 + torch.randn(config.embed_dim)).detach().requires_grad_()
    target = quantizer(bits, 1.0)
    codes = close(lambda arithmetic: arithmetic.norm_codes(x, gamma, beta, target), config, [x, gamma, beta])
    assert codes.min() == 0 and codes.max() == 2**bits - 1


@pytest.mark.parametrize("bits", (8, 4, 2))
@pytest.mark.parametrize("config", (SMALL, ODD))
def test_attention_codes(config, bits):
    torch.manual_seed(bits)
    parts = [LearnedStep.symmetric8() for _ in range(3)]
    with torch.no_grad():
        for part, step in zip(parts, (0.05, 0.04, 0.06), strict=True):
            part.log_step.fill_(np.log(step))
    target = quantizer(bits, 3.0 / 2**bits)
    qkv = (50 * torch.randn(BATCH, config.shape(8).tokens, 3 * config.embed_dim)).requires_grad_()
    leaves = [qkv, *(part.log_step for part in parts), target.log_step]
    q, k, v = parts
    codes = close(lambda arithmetic: arithmetic.attention_codes(qkv, (q, k, v), config.heads, target), config, leaves)
    assert codes.min() == 0 and codes.max() == 2**bits - 1 and float(qkv.detach().abs().max()) > 128


@pytest.mark.parametrize(("step", "span"), [(0.03, 2.5), (0.004, 1.5)])
@pytest.mark.parametrize("bits", (8, 4, 1))
def test_gelu_codes(bits, step, span):
    """Saturated after GELU, or before it where its slope is far from 0."""
    torch.manual_seed(bits)
    before, target = quantizer(8, step), LearnedStep.above(bits, -0.17)
    with torch.no_grad():
        target.log_step.fill_(np.log(span / 2**bits))
    y = (128 + 90 * torch.randn(BATCH, 9, 40)).requires_grad_()
    codes = close(lambda arithmetic: arithmetic.gelu_codes(y, before, target), SMALL, [y, before.log_step, target.log_step])
    assert step < 0.01 or (codes.min() == 0 and codes.max() == 2**bits - 1)


@pytest.mark.parametrize("per_row", (True, False))
@pytest.mark.parametrize("kind", (BinaryWeight, PlaneWeight))
def test_folded(kind, per_row):
    torch.manual_seed(3)
    rows, inputs = 24, 37
    weight = (0.7 * torch.randn(rows, inputs)).requires_grad_()
    bias = torch.randn(rows).requires_grad_()
    gain, shift = ((0.1 + torch.rand(rows if per_row else ())).requires_grad_() for _ in range(2))

    def both(arithmetic: Arithmetic) -> Tensor:
        return torch.cat([part.reshape(-1) for part in arithmetic.folded(kind(), weight, bias, gain, shift)])

    torch.testing.assert_close(both(DIFFERENTIABLE), both(Fused(kernels_of(SMALL))), atol=1e-5, rtol=1e-5)
    close(both, SMALL, [weight, bias, gain, shift], unequal=1.0)


def test_a_network_trains_alike():
    """One step of the whole network: the logits agree, and so do the gradients of what is far from the first block's ties."""
    network, images = quantized(8), torch.from_numpy(images_of(SMALL, 40))
    network.train()
    seen = []
    for arithmetic in (DIFFERENTIABLE, Fused(kernels_of(SMALL))):
        network.training_arithmetic = arithmetic
        network.zero_grad()
        logits = network(images)
        logits.square().sum().backward()
        seen.append((logits.detach(), network.net.head.weight.grad.clone(), network.blocks[0].norm1.log_step.grad.clone()))
    for expected, got in zip(*seen, strict=True):
        assert (expected - got).norm() < 0.05 * expected.norm()


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(InputError, match=r"^training on a CPU needs a C compiler: "):
        kernels_of.__wrapped__(SMALL)


def test_a_broken_compiler_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("POPVIT_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"^kernels.c must compile: .*false says nothing; use another compiler"):
        kernels_of.__wrapped__(SMALL)
    assert not list((tmp_path / "kernels").iterdir())
    assert kernels.SOURCE.exists()
