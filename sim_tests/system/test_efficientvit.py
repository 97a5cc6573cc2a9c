"""Whole EfficientViT machines in Verilator. efficientvit_micro's serves every network here: building its simulator takes minutes."""

import dataclasses
import json
import re

import numpy as np
import pytest

from model.configs import EfficientVitConfig
from model.efficientvit.graph import Convolution, EfficientVitGraph
from model.efficientvit.interpreter import interpret
from model.efficientvit.random_graph import random_graph, smooth_image
from model.zoo import load_graph
from rtl.efficientvit.preset import preset
from rtl.efficientvit.program.compiler import compile_graph
from rtl.efficientvit.program.expected import Expected, compare, expected_trace
from rtl.flow.ddr import Memory
from rtl.flow.family import EfficientVit
from rtl.flow.machine import accelerator_verilog
from rtl.flow.simulate import SimulationResult, simulate
from rtl.program.expected import Recorded
from rtl.top import main

#: What efficientvit_micro lacks: half-filled words in several layers, one attention block, a stem without a shortcut over its input.
TINY = EfficientVitConfig(
    name="tiny", image_size=28, widths=(8, 16, 32), depths=(1, 1, 1), attention_stages=1, head_dim=16, head_widths=(64, 48), classes=10,
    mean=(0.3,), std=(0.3,),
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> EfficientVitGraph:
    return random_graph(TINY, 8, seed=1)


@pytest.fixture(scope="module")
def verilog(tiny: EfficientVitGraph) -> str:
    return accelerator_verilog(preset(tiny))


def blobs(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [smooth_image(rng, TINY.image_size, TINY.channels) for _ in range(count)]


def run(graph: EfficientVitGraph, verilog: str, count: int = 2, reference: EfficientVitGraph | None = None, **options) -> SimulationResult:
    """Simulate and compare with ``reference``, or with the graph itself."""
    truth = reference or graph
    return simulate(graph, preset(graph), blobs(count), lambda image: interpret(truth, image), verilog=verilog, **options)


@pytest.mark.parametrize("bits", [6, pytest.param(4, marks=pytest.mark.slow)])
def test_fewer_bits(bits: int) -> None:
    """A machine of its own: words, lanes, memories and units of so many bits."""
    graph = random_graph(TINY, bits, seed=1)
    exact(run(graph, accelerator_verilog(preset(graph))))


def exact(result: SimulationResult) -> None:
    assert result.bit_exact, "\n".join(map(str, result.mismatches[:4]))
    assert all(image.exact for image in result.images)


def test_tiny(tiny: EfficientVitGraph, verilog: str) -> None:
    """One image, and two that overlap; behind a memory with latency, refresh and random stalls the same values, later."""
    one, two = run(tiny, verilog, 1), run(tiny, verilog, memory=Memory())
    slow = run(tiny, verilog, memory=Memory(latency=90, efficiency=70, stall=30, seed=5))
    for result in (one, two, slow):
        exact(result)
    assert two.cycles_per_further_image is None and two.runs[0].cycles < 2 * one.runs[0].cycles
    assert slow.cycles_per_image > two.cycles_per_image > 0
    assert sum(two.account.total.values()) == two.runs[0].cycles
    assert two.account.total["compute"] * EfficientVit().multipliers(preset(tiny)) > 2 * EfficientVit().macs(tiny)
    assert two.utilisation > one.utilisation > 0


@pytest.mark.slow
def test_slices_at_twice_the_clock(tiny: EfficientVitGraph, verilog: str) -> None:
    """The same values of the same program in as many cycles, but for what the shorter pipeline moves."""
    config = preset(tiny, dsp_clock=2)
    twice = simulate(tiny, config, blobs(2), lambda image: interpret(tiny, image), verilog=accelerator_verilog(config))
    exact(twice)
    once = run(tiny, verilog)
    assert abs(twice.runs[0].cycles - once.runs[0].cycles) < 0.02 * once.runs[0].cycles
    assert [image.logits.tolist() for image in twice.images] == [image.logits.tolist() for image in once.images]


def test_both_images_are_compared(tiny: EfficientVitGraph, verilog: str) -> None:
    """A reference with one code changed: in the first and the second image, of the array and of the depthwise engine."""
    for image, tensor, place in ((0, "stages.0.blocks.0.main.inverted_conv", (13, 7, 30)), (1, "stem.res0.main.depth_conv", (5, 13, 3))):
        pictures = blobs(2)

        def changed(picture: np.ndarray, image=image, tensor=tensor, place=place, pictures=pictures) -> dict[str, np.ndarray]:
            tensors = interpret(tiny, picture)
            if np.array_equal(picture, pictures[image]):
                tensors[tensor][place] ^= 1
            return tensors

        found = simulate(tiny, preset(tiny), pictures, changed, verilog=verilog).mismatches
        width, first = tiny.tensors[tensor].width, found[0]
        assert first.expected is not None and first.token is not None and first.cycle is not None
        assert len(found) == 1 and first.got == first.expected ^ 1
        assert (first.image, first.tensor) == (image, tensor)
        assert first.to_dict()["pixel"] == place[0] * width + place[1] and first.channel == place[2]
        assert first.row == first.token % preset(tiny).rows and first.cycle > 0


def _replaced(graph: EfficientVitGraph, name: str, weight: np.ndarray) -> EfficientVitGraph:
    operators = [
        dataclasses.replace(operator, weight=weight) if isinstance(operator, Convolution) and operator.name == name else operator
        for operator in graph.operators
    ]
    return dataclasses.replace(graph, operators=tuple(operators))


@pytest.mark.parametrize("layer", ["stages.0.blocks.0.main.depth_conv", "stages.1.blocks.1.context_module.main.aggreg.0.1", "head.in_conv"])
def test_a_wrong_weight_is_named(tiny: EfficientVitGraph, verilog: str, layer: str) -> None:
    """One weight of channel 5 of a depthwise, a grouped and a plain layer."""
    operator = next(operator for operator in tiny.operators if operator.name == layer)
    weight = operator.weight.copy()
    weight[5].reshape(-1)[-1] ^= 0x20
    result = run(_replaced(tiny, layer, weight), verilog, 1, reference=tiny)
    first = result.mismatches[0]
    assert (first.image, first.tensor, first.channel) == (0, layer, 5)
    assert first.got != first.expected and first.cycle is not None and first.token is not None


@pytest.mark.slow
def test_a_broken_operator_is_named(tiny: EfficientVitGraph, verilog: str) -> None:
    """The zero point of a shortcut is added, not subtracted, in the first lane of every row: the first layer that has one shows it."""
    broken, count = re.subn(r"(shortcut_late_0_\d+) - ", r"\1 + ", verilog)
    assert count == 1
    first = run(tiny, broken, 1).mismatches[0]
    assert first.tensor == "stem.res0.main.point_conv" and first.channel is not None and first.channel < 16 and first.image == 0


def test_command_line(tmp_path, capsys) -> None:
    """The shipped network on real images: one JSON object, with what an image costs in the steady state."""
    assert main(["--model", "efficientvit_micro", "--out", str(tmp_path), "--json", "simulate", "--images", "8"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bit_exact"] is True and told["mismatches"] == [] and told["images"] == 8
    assert (told["weight_bits"], told["bits"], told["rows"], told["inputs"], told["lanes"]) == (8, 8, 16, 32, 2)
    assert told["accuracy"] == told["reference_accuracy"] and told["agreement"] == 100
    assert told["fps"] == pytest.approx(told["clock_mhz"] * 1e6 / told["cycles_per_image"])
    assert 0 < told["utilisation"] < told["utilisation_of_further_images"] < 1
    assert told["cycles_per_further_image"] < told["cycles_per_image"] == told["cycles"] / 8
    account = told["account"]
    assert sum(account["total"].values()) == told["cycles"] and "attention_busy" not in account
    assert {"stem.in_conv", "stages.1.blocks.1.context_module.main.attention", "head.in_conv"} <= set(account["layers"])


def test_table_of_the_command_line(tmp_path, capsys) -> None:
    assert main(["--model", "efficientvit_micro", "--out", str(tmp_path), "simulate", "--images", "1"]) == 0
    told = capsys.readouterr().out
    assert "efficientvit_micro W8A8: 1 images" in told and "gpw" in told
    assert "every write of every row and every logit equal to the reference: yes" in told


def _recorded(expected: Expected, channel: str, change=lambda values: values) -> list[Recorded]:
    """What perfect rows would have written, changed in row 3."""
    rows = []
    for row in range(expected.rows):
        values = np.ascontiguousarray(expected.trace(row, channel).values).view("<u2").ravel()
        values = change(values) if row == 3 else values
        rows.append(Recorded(values=values, cycles=np.arange(len(values))))
    return rows


def test_every_value_is_compared_once(tiny: EfficientVitGraph) -> None:
    """Of every tensor that the array or the depthwise engine makes; what a row lacks, or has too much, is found."""
    config = preset(tiny)
    tensors = [interpret(tiny, image) for image in blobs(2)]
    expected = expected_trace(compile_graph(tiny, config, images=2), tiny, tensors, config)
    cared = sum(int(expected.trace(row, channel).care.sum()) for channel in ("linear", "attention") for row in range(config.rows))
    behind_the_pool = {operator.target for operator in tiny.operators if tiny.tensors[operator.target].pixels == 1}
    made = [tensor.size for name, tensor in tensors[0].items() if name not in {"image"} | behind_the_pool]
    assert cared == 2 * sum(made)
    perfect = {channel: _recorded(expected, channel) for channel in ("linear", "attention")}
    assert compare(expected, perfect) == []
    short = compare(expected, perfect | {"linear": _recorded(expected, "linear", lambda values: values[:-400])})
    assert short[0].got is None and short[0].cycle is None and short[0].row == 3
    surplus = compare(expected, perfect | {"attention": _recorded(expected, "attention", lambda values: np.append(values, values[:1]))})
    assert [found.tensor for found in surplus] == ["(nothing)"] and surplus[0].expected is None


def test_macs_by_hand() -> None:
    """efficientvit_micro: pointwise layers, the stem, the grouped layers and the quotients of both blocks."""
    graph = load_graph("efficientvit_micro", 8)
    stem = 196 * (9 * 16 + 16 * 16)
    first = 196 * 16 * 64 + 49 * 64 * 32 + 49 * (32 * 128 + 128 * 32)
    second = 49 * 32 * 128 + 16 * 128 * 64
    block = 16 * (64 * 192 + 192 * 16 + 8 * 16 * 17 + 128 * 64 + 64 * 256 + 256 * 64)
    head = 16 * 64 * 128
    assert EfficientVit().macs(graph) == stem + first + second + 2 * block + head
