"""What the page says of EfficientViT: networks' work, Trio-ViT's cycle model, the plan, and a page of results that are made up."""

import pytest

from benchmarks import table, trio_vit
from benchmarks.families import EFFICIENTVIT
from benchmarks.layers import DEPTHWISE, GROUPED, LINEAR, layers
from benchmarks.sections.plan import PLAN
from benchmarks.sections.plan_groups import NOTABLE, Group, group_of, groups
from model.configs import EFFICIENTVIT_CONFIGS, efficientvit_config_of
from model.efficientvit.graph import Convolution, LinearAttention
from model.efficientvit.random_graph import random_graph
from rtl.flow.account import EFFICIENTVIT_KINDS

B1 = "efficientvit_b1_r224"
#: papers/trio_vit.md, section 1.2: millions at 224, 256 and 288.
TOTALS = {
    "efficientvit_b0": (100.233, 130.124, 164.000),
    "efficientvit_b1": (519.215, 676.916, 855.644),
    "efficientvit_b2": (1584.938, 2067.534, 2614.476),
    "efficientvit_b3": (3953.822, 5161.587, 6530.386),
}
#: The same, section 3.6: what the authors' script counts, in millions.
COUNTED = dict(zip(trio_vit.SCRIPT_CYCLES, (489.37, 639.17, 808.95, 1506.79, 1968.05, 2490.81), strict=True))


@pytest.mark.parametrize("name", TOTALS)
def test_work_of_a_network(name):
    for size, wanted in zip((224, 256, 288), TOTALS[name], strict=True):
        assert EFFICIENTVIT.macs_per_image(f"{name}_r{size}") / 1e6 == pytest.approx(wanted, abs=6e-4)


def test_layers_are_those_of_the_graph():
    """Names, channels, sides and multiplications of every convolution, by the graph's own weights."""
    graph = random_graph(EFFICIENTVIT_CONFIGS["efficientvit_micro"], 8, seed=0)
    found = {layer.name: layer for layer in layers(EFFICIENTVIT_CONFIGS["efficientvit_micro"])}
    operators = [op for op in graph.operators if isinstance(op, Convolution | LinearAttention)]
    assert [*found][:-1] == [op.target for op in operators][:-1] and operators[-1].target == "logits"
    for operator in operators[:-1]:
        layer, target = found[operator.target], graph.tensors[operator.target]
        assert (layer.outputs, layer.pixels) == (target.channels, target.pixels), operator.target
        if isinstance(operator, Convolution):
            assert layer.macs == target.pixels * operator.weight.size, operator.target


@pytest.mark.parametrize(("model", "script"), trio_vit.SCRIPT_CYCLES.items())
def test_trio_vits_closed_form_gives_what_its_script_gives(model, script):
    config = efficientvit_config_of(model)
    assert trio_vit.cycles(config) == pytest.approx(script, rel=2e-4 if "_b1_" in model else 2e-3)
    assert trio_vit.counted_macs(config) / 1e6 == pytest.approx(COUNTED[model], abs=6e-3)


def test_trio_vit_on_b1():
    """The printed 250,333; and with the head's three layers, 16 outputs x 8 inputs a cycle and core."""
    config = efficientvit_config_of(B1)
    assert round(trio_vit.cycles(config)) == 250_333
    head = (1536 // 16 * 256 // 8 * 49 + 1600 // 16 * 1536 // 8 + 63 * 1600 // 8) / 16
    assert trio_vit.cycles(config, head=True) - trio_vit.cycles(config) == pytest.approx(head)
    rate = 2e-3 * trio_vit.counted_macs(config) * trio_vit.CLOCK_MHZ / trio_vit.cycles(config)
    assert rate == pytest.approx(trio_vit.PUBLISHED_GOPS, rel=3e-3)


def test_the_plan_has_every_layer():
    every = {layer.name: layer.kind for layer in layers(efficientvit_config_of(PLAN["network"]))}
    for batch, plan in PLAN["layers"].items():
        assert set(plan["depth"]) == {name for name, kind in every.items() if kind == DEPTHWISE}
        assert set(plan["array"]) == {name for name, kind in every.items() if kind not in (DEPTHWISE, LINEAR)}
        stream = next(stage["stream"] for stage in PLAN["ladder"] if stage["batch"] == int(batch))
        assert sum(map(sum, plan["array"].values())) == pytest.approx(stream, abs=40)  # each layer is rounded


@pytest.mark.parametrize(
    ("layer", "group"),
    [
        ("stem.res0.main.point_conv", "stem"),
        ("stages.0.blocks.0.main.inverted_conv", "stage 0, stride 2"),
        ("stages.1.blocks.2.main.point_conv", "stage 1, MBConvs"),
        ("stages.2.blocks.1.context_module.main.aggreg.0.1", "stage 2, attention"),
        ("stages.3.blocks.4.local_module.main.inverted_conv", "stage 3, MBConvs"),
        ("head.in_conv", "head"),
    ],
)
def test_group_of_a_layer(layer, group):
    assert group_of(layer) == group


def group(**changes):
    values = {"planned": 5000, "planned_idle": 0, "planned_depth": 6000, "computes": 5000, "waits": {"depth": 0, "align": 0}, "depth": 6000}
    return Group(name="stage 0, stride 2", **values | changes)


def test_only_what_differs_is_put_in_words():
    assert group().why == "-" == group(waits={"depth": 140, "align": 0}).why
    slow = group(waits={"depth": 900, "align": 40}, depth=12_000)
    assert slow.why == "900 for depthwise results or room in the ring, the engine takes 6,000 more than planned"
    assert slow.row[-2:] == ["+18.8 %", slow.why]
    fast = group(planned_idle=1000, computes=5200)
    assert (
        fast.why == "computes +200: 16 channels fill half a word, and a step takes 16 cycles all the same; less the plan's own idle 1,000"
    )


def result(images: int, **changes):
    """A run in which each layer computes as planned, the stem twice as long, and waits at one MBConv and after the end."""
    plan, kinds = PLAN["layers"]["2"], dict.fromkeys(EFFICIENTVIT_KINDS, 0)
    found = {name: kinds | {"compute": images * pair[0] * (1 + name.startswith("stem."))} for name, pair in plan["array"].items()}
    found["stages.0.blocks.1.main.inverted_conv"]["depth"] = images * 3000
    found["head.in_conv"]["drain"] = 76_000
    total = {kind: sum(counts[kind] for counts in found.values()) for kind in EFFICIENTVIT_KINDS}
    cycles, macs = sum(total.values()) / images, EFFICIENTVIT.macs_per_image(B1)
    engines = {"depth": {name: images * count for name, count in plan["depth"].items()}, "outer": {"x": 0}, "head": {"y": 0}}
    stage = {"levels": 2, "carries": 1, "ns": 1.9, "path": "c -> d"}
    part = {"count": 49, "lut": 1846, "ff": 3000, "dsp": 36, "bram36": 4, "deepest": "a -> b", "units": {"matmul": stage}} | stage
    return {
        "name": f"b1_{images}", "model": B1, "bits": 8, "dsp_clock": 1, "rows": 49, "inputs": 32, "lanes": 2, "images": images,
        "cycles_per_image": cycles, "utilisation": 0.8, "account": {"total": total, "layers": found, "engines": engines},
        "memory": {"efficiency": 75}, "macs_per_image": macs, "misfits": ["dsp"], "stages": {"row": part}, "commands": ["c"],
        "resources": {"lut": 150_000, "dsp": 2046, "bram36": 400, "ff": 200_000, "lutram": 20_000}, "tools": {"python": "3"},
        "seconds": {"simulator_build": 1, "simulation": 1, "build": 1}, "cycles_per_second": 1.0,
    } | changes  # fmt: skip


STREAM = {"cycles_per_further_image": 180_000.0, "utilisation_of_further_images": 0.86}


def test_every_difference_of_a_group_is_explained():
    found = groups(PLAN["layers"]["2"], result(6))
    assert [group.name for group in found][:2] == ["stem", "stage 0, stride 2"] and len(found) == 12
    for one in found:
        assert (one.why == "-") == (abs(one.difference) <= NOTABLE), one.name
    stem, mbconv = found[0], next(one for one in found if one.name == "stage 0, MBConvs")
    assert stem.difference == 1 and stem.why.startswith("computes +5,376")
    assert mbconv.why.startswith("3,000 for depthwise") and mbconv.waits["depth"] == 3000


def test_page_of_results():
    text = table.page([result(1), result(6, **STREAM), result(6, **STREAM, name="b1_dsp2", dsp_clock=2)])
    stream = "| EfficientViT-B1 224 W8A8 | 2x | 49 x 32 | 6 |"
    line = next(line for line in text.splitlines() if line.startswith(stream))
    assert "| 180,000 | 1,111 | 1,389 | 80.0 % | 86.0 % | 150,000 (55 %) | 2,046 (81 %) |" in line and line.endswith("| no |")
    assert "| b1_6 | pw1 | 0 | 61,440 | 0 | 0 | 0 | 0 | 0 | 3,000 |" in text
    depth = sum(count for name, count in PLAN["layers"]["2"]["depth"].items() if name.endswith("depth_conv"))
    assert f"| b1_6 | depth | depthwise | {depth:,} |" in text and "| b1_6 | depth | aggregation depthwise | 37,296 |" in text
    assert "K^T V busy" in text and "attention busy" not in text
    trio = next(line for line in text.splitlines() if line.startswith("| EfficientViT-B1 224 W8A8, stream, DSPs at 2x"))
    density = 2 * EFFICIENTVIT.macs_per_image(B1) * 200e6 / 180_000 / 1e9 / 2046
    assert "| 180,000 | 163,483 | 170,925 |" in trio and "| 1,111 | 799 | 2,046 |" in trio and f"| {density:.2f} |" in trio
    assert "| a stream of 2 images at a time, per image | 174,582 | 180,000 | +3.1 % |" in text
    assert "70 k cycles of DDR" in text and "### By group, one image" in text and "### By group, pairs of images in a stream" in text


def test_page_without_the_plans_machine_has_no_plan():
    text = table.page([result(2, bits=6)])
    assert "Beside the plan" not in text and "Beside Trio-ViT" in text and "EfficientViT-B1 224 W8A6" in text


def test_grouped_layers_are_counted_by_their_groups():
    grouped = [layer for layer in layers(efficientvit_config_of(B1)) if layer.kind == GROUPED]
    assert sum(layer.macs for layer in grouped) == pytest.approx(6.021e6, rel=1e-4)
