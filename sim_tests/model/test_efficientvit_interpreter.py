"""The interpreter of EfficientVitGraphs against torch and plain loops, and the graph's checks and files."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from model.configs import EfficientVitConfig
from model.efficientvit import checkpoint, interpreter
from model.efficientvit.bounds import check_graph
from model.efficientvit.graph import IMAGE, Convolution, Divisor, EfficientVitGraph, LinearAttention
from model.efficientvit.integer import DIVISOR_KINDS
from model.efficientvit.random_graph import random_graph, smooth_image
from model.errors import InputError
from model.integer import Saturation, signed

SMALL = EfficientVitConfig(
    name="small", image_size=22, widths=(8, 16, 32), depths=(1, 2, 1), attention_stages=1, head_dim=16, head_widths=(48, 32), classes=7,
    mean=(0.3, 0.6), std=(0.2, 0.3),
)  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> EfficientVitGraph:
    return random_graph(SMALL, 8, 3)


@pytest.fixture(scope="module")
def codes(graph: EfficientVitGraph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return interpreter.interpret(graph, np.stack([smooth_image(rng, 22, 2) for _ in range(2)]))


def test_accumulators_are_torchs_convolution(graph: EfficientVitGraph, codes: dict[str, np.ndarray]) -> None:
    """Every convolution of the network: strides, kernels, groups, odd sizes; the padding is the zero point."""
    kinds = set()
    for operator in graph.operators:
        if isinstance(operator, Convolution):
            zero = graph.tensors[operator.source].zero
            values = torch.from_numpy(codes[operator.source] - zero).double().permute(0, 3, 1, 2)
            weight = torch.from_numpy(operator.weight).double()
            wanted = torch.nn.functional.conv2d(
                values, weight, stride=operator.stride, padding=operator.kernel // 2, groups=operator.groups
            )
            got = interpreter.accumulators(codes[operator.source], operator, zero)
            assert np.array_equal(got, wanted.permute(0, 2, 3, 1).numpy()), operator.name
            kinds.add((operator.kernel, operator.stride, operator.depthwise, 1 < operator.groups < operator.outputs))
    assert kinds >= {(3, 2, False, False), (3, 1, True, False), (3, 2, True, False), (5, 1, True, False), (1, 1, False, False),
                     (1, 1, False, True)}  # fmt: skip


def test_heads_are_interleaved(graph: EfficientVitGraph, codes: dict[str, np.ndarray]) -> None:
    """Head h of a scale reads channels 3dh ... as q, k, v and gives d channels; the second scale's heads follow the first's."""
    attention = next(operator for operator in graph.operators if isinstance(operator, LinearAttention))
    d, position = attention.head_dim, 0
    for scale in attention.scales:
        values = codes[scale.source] - graph.tensors[scale.source].zero
        for head in range(values.shape[-1] // (3 * d)):
            q, k, v = (values[1, :, :, (3 * head + part) * d : (3 * head + part + 1) * d].reshape(-1, d) for part in range(3))
            one = dataclasses.replace(
                scale,
                **{
                    name: getattr(scale, name)[head : head + 1]
                    for name in ("state_multiplier", "state_shift", "sum_multiplier", "sum_shift")
                },
            )
            wanted = interpreter.integer.linear_attention(q[None], k[None], v[None], one)[0] + graph.tensors[attention.target].zero
            got = codes[attention.target][1, :, :, position : position + d].reshape(-1, d)
            assert np.array_equal(got, np.clip(wanted, 0, 255))
            position += d
    assert position == codes[attention.target].shape[-1]


def test_pool_is_the_mean(graph: EfficientVitGraph, codes: dict[str, np.ndarray]) -> None:
    pool = graph.operators[-4]
    sums = codes[pool.source].astype(object).sum((1, 2)) - int(graph.tensors[pool.source].zero) * graph.tensors[pool.source].pixels
    r = pool.requantizer
    p = [[(int(s + b) * int(m) + (1 << (int(h) - 1))) >> int(h) for s, b, m, h in zip(row, r.bias, r.multiplier, r.shift, strict=True)]
         for row in sums]  # fmt: skip
    wanted = np.clip((np.clip(np.array(p), -32768, 32767) + 32 >> 6) + graph.tensors[pool.target].zero, 0, 255)
    assert np.array_equal(codes[pool.target][:, 0, 0], wanted)


def test_one_image_and_a_batch_agree(graph: EfficientVitGraph) -> None:
    images = np.stack([smooth_image(np.random.default_rng(index), 22, 2) for index in range(3)])
    together = interpreter.logits_of(graph, images, batch=2)
    alone = [interpreter.interpret(graph, image)["logits"][0, 0] for image in images]
    assert np.array_equal(together, alone) and len({tuple(row) for row in alone}) == 3


def test_wrong_images_are_named(graph: EfficientVitGraph) -> None:
    with pytest.raises(InputError, match=r"shape \(22, 22, 2\).*\(22, 22, 3\) is not"):
        interpreter.interpret(graph, np.zeros((22, 22, 3), np.uint8))


@pytest.mark.parametrize("bits, weight_bits", [(8, 8), (6, 8), (4, 4)])
@pytest.mark.parametrize("kind", DIVISOR_KINDS)
def test_random_graphs_neither_die_nor_saturate(bits: int, weight_bits: int, kind: str) -> None:
    graph = random_graph(SMALL, bits, 5, weight_bits, kind)
    codes = interpreter.interpret(graph, smooth_image(np.random.default_rng(8), 22, 2))
    for name, tensor in graph.tensors.items():
        u = codes[name]
        assert u.min() >= tensor.limits.low and u.max() <= tensor.limits.high
        if name != IMAGE:
            ends = ((u == tensor.limits.low) | (u == tensor.limits.high)).mean()
            # in few codes much of Hardswish's lower half is the lowest
            assert len(np.unique(u)) >= 5 and ends < (0.45 if bits > 4 else 0.65), name


@pytest.mark.parametrize("bits", (4, 8))
def test_limits_are_of_three_kinds(bits: int) -> None:
    """What an accelerator relies on: s16 before the LayerNorm and as logits, else all codes, of which q, k, v lack 0."""
    graph = random_graph(SMALL, bits, 5)
    sources = {scale.source for operator in graph.operators if isinstance(operator, LinearAttention) for scale in operator.scales}
    for name, tensor in graph.tensors.items():
        top = (1 << bits) - 1
        wide = name in ("logits", "head.classifier.0")
        assert tensor.limits == (signed(16) if wide else Saturation(low=int(name in sources), high=top)), name


def test_the_image_has_the_upper_bits_of_its_pixels() -> None:
    pixels = smooth_image(np.random.default_rng(4), 22, 2)
    for bits in (4, 7, 8):
        graph = random_graph(SMALL, bits, 5)
        assert np.array_equal(interpreter.interpret(graph, pixels)[IMAGE], pixels // 2 ** (8 - bits))
        step, first = 2 ** (8 - bits), (2 ** (8 - bits) - 1) / 2
        assert np.abs(graph.tensors[IMAGE].zero * step + first - 255 * np.array(SMALL.mean)).max() <= step / 2


def test_files_give_the_graph_back(graph: EfficientVitGraph, tmp_path: Path) -> None:
    """Same logits, same bytes twice; a changed constant is another network."""
    path, again = tmp_path / "a.npz", tmp_path / "b.npz"
    checkpoint.save_graph(path, graph, {"accuracy": 91.5})
    checkpoint.save_graph(again, random_graph(SMALL, 8, 3), {"accuracy": 91.5})
    assert path.read_bytes() == again.read_bytes()
    loaded, metadata = checkpoint.load_graph(path)
    image = smooth_image(np.random.default_rng(2), 22, 2)
    first, second = (interpreter.interpret(each, image) for each in (graph, loaded))
    assert metadata == {"accuracy": 91.5} and all(np.array_equal(first[name], second[name]) for name in first)


def mutated(graph: EfficientVitGraph, index: int, **changes) -> EfficientVitGraph:
    operators = list(graph.operators)
    operators[index] = dataclasses.replace(operators[index], **changes)
    return dataclasses.replace(graph, operators=tuple(operators))


def with_requantizer(graph: EfficientVitGraph, index: int, **changes) -> EfficientVitGraph:
    return mutated(graph, index, requantizer=dataclasses.replace(graph.operators[index].requantizer, **changes))


def with_tensor(graph: EfficientVitGraph, name: str, **changes) -> EfficientVitGraph:
    return dataclasses.replace(graph, tensors=graph.tensors | {name: dataclasses.replace(graph.tensors[name], **changes)})


def with_hardswish(graph: EfficientVitGraph, **changes) -> EfficientVitGraph:
    """Of the first operator."""
    return with_requantizer(graph, 0, hardswish=dataclasses.replace(graph.operators[0].requantizer.hardswish, **changes))


def with_scale(graph: EfficientVitGraph, **changes) -> EfficientVitGraph:
    """The first scale of the first attention."""
    index, attention = next((i, op) for i, op in enumerate(graph.operators) if isinstance(op, LinearAttention))
    return mutated(graph, index, scales=(dataclasses.replace(attention.scales[0], **changes), *attention.scales[1:]))


def with_limits(graph: EfficientVitGraph, name: str, low: int, high: int) -> EfficientVitGraph:
    return with_tensor(graph, name, limits=Saturation(low=low, high=high))


MUTANTS = {
    "weight must lie in": lambda g: mutated(g, 0, weight=np.full_like(g.operators[0].weight, -128)),
    "must read what an earlier operator made": lambda g: dataclasses.replace(g, operators=g.operators[::-1]),
    "accumulator \\+ bias must lie in": lambda g: with_requantizer(g, 0, bias=np.full(8, 2**26 - 1)),
    "shift must be one of": lambda g: with_requantizer(g, 0, shift=np.full(8, 13)),
    "multiplier must lie in": lambda g: with_requantizer(g, 0, multiplier=np.full(8, 1 << 16)),
    "one value per channel": lambda g: with_requantizer(g, 0, bias=np.zeros(9, dtype=np.int64)),
    "must give 11 x 11": lambda g: with_tensor(g, "stem.in_conv", height=12),
    "bits must be 4..8": lambda g: dataclasses.replace(g, bits=9),
    r"in_conv Hardswish bias must lie in \[-32768, 32767\]": lambda g: with_hardswish(g, bias=np.full(8, 32768)),
    "in_conv Hardswish bias must have one value per channel": lambda g: with_hardswish(g, bias=np.zeros(9, dtype=np.int64)),
    r"scale 0 output shift must be one of \(12, 16, 20, 24\)": lambda g: with_scale(g, output_shift=11),
    "scale 0 output shift must be 0 with exact divisors": lambda g: with_scale(g, divisor=Divisor(kind="exact"), output_shift=12),
    "stem.in_conv limits must be one of": lambda g: with_limits(g, "stem.in_conv", 2, 255),
    "stem.res0.main.point_conv limits must be one of": lambda g: with_limits(g, "stem.res0.main.point_conv", 0, 254),
    "global_pool limits must be one of": lambda g: with_limits(g, "head.global_pool", -32768, 32767),
    "logits limits must be one of": lambda g: with_limits(g, "logits", 0, 255),
    "image limits must be one of": lambda g: with_limits(g, "image", 1, 255),
    "stem.in_conv zero must lie in": lambda g: with_tensor(g, "stem.in_conv", zero=256),
    "logits zero must lie in": lambda g: with_tensor(g, "logits", zero=1),
    "every tensor must be made": lambda g: dataclasses.replace(g, tensors=g.tensors | {"spare": g.tensors["logits"]}),
}  # fmt: skip


@pytest.mark.parametrize("rule", MUTANTS)
def test_what_does_not_fit_is_named(rule: str, graph: EfficientVitGraph) -> None:
    with pytest.raises(InputError, match=rule):
        check_graph(MUTANTS[rule](graph))


def test_damaged_files_are_named(graph: EfficientVitGraph, tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    checkpoint.save_graph(path, graph)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"whole \.npz file"):
        checkpoint.load_graph(path)
    arrays = dict(np.load(io.BytesIO(whole)))
    del arrays["stem.in_conv.weight"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"does not \(KeyError: 'stem.in_conv.weight'"):
        checkpoint.load_graph(path)
