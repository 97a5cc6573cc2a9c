"""The account of cycles, the progress and the frame-rate check: on a compiled network and counts that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from model.configs import EfficientVitConfig
from model.efficientvit.graph import Convolution, LinearAttention
from model.efficientvit.random_graph import random_graph as efficientvit_random_graph
from model.graph import DeitShape
from model.random_graph import random_graph
from rtl.accelerator import TraceState
from rtl.config import AcceleratorConfig
from rtl.efficientvit.preset import preset as efficientvit_preset
from rtl.efficientvit.program.tasks import Engine
from rtl.flow import report
from rtl.flow.account import KINDS, Account, StepProgress, account_of, by_operator, layer_of, operator_of, steps_of
from rtl.flow.ddr import Memory
from rtl.flow.family import Deit, EfficientVit
from rtl.flow.report import simulation_summary, too_slow
from rtl.flow.simulate import ImageResult, Progress, RunResult, SimulationResult
from rtl.program.compiler import compile_graph

SHAPE = DeitShape(name="tiny", bits=8, image_size=14, channels=1, patch_size=7, embed_dim=32, depth=2, heads=2, hidden_dim=128, classes=10)
CONFIG = AcceleratorConfig(shape=SHAPE, rows=2, inputs=64, lanes=2, tile_words=96)


@pytest.fixture(scope="module")
def compiled():
    return compile_graph(random_graph(SHAPE, 1), CONFIG, images=2)


def test_kinds_follow_the_trace_port():
    assert [TraceState[kind.upper()].value for kind in KINDS] == list(range(8))


@pytest.mark.parametrize(
    ("step", "layer"),
    [("0.qkv[1]", "0.qkv"), ("11.fc2[3]", "11.fc2"), ("3.projection", "3.projection"), ("patch[2]", "patch"), ("head", "head")],
)
def test_layer_of_a_step(step, layer):
    assert layer_of(step) == layer


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        ("stem.in_conv", "stem"),
        ("head.in_conv", "head"),
        ("stages.2.blocks.1.local_module.main.inverted_conv", "pw1"),
        ("stem.res0.main.point_conv", "pw2"),
        ("stages.2.blocks.1.context_module.main.aggreg.0.1", "aggregation gpw"),
        ("stages.2.blocks.1.context_module.main.aggreg.0.0", "aggregation depthwise"),
        ("stages.2.blocks.1.context_module.main.attention", "attention"),
        ("stages.0.blocks.1.main.depth_conv", "depthwise"),
        ("head.classifier.4", "fc2"),
        ("logits", "fc2"),
        ("0.qkv", "qkv"),
        ("3.projection", "projection"),
        ("head", "head"),
    ],
)
def test_operator_of_a_layer(layer, operator):
    assert operator_of(layer) == operator


def test_every_tile_belongs_to_a_layer_that_exists(compiled):
    layers = {layer_of(name) for name in steps_of(compiled).names}
    assert layers == {"patch", "head", *(f"{index}.{part}" for index in range(2) for part in ("qkv", "projection", "fc1", "fc2"))}


def test_every_cycle_is_charged_once(compiled):
    """Random counts: their sum and what the host's accesses took; cycles after the last tile are drain."""
    names = steps_of(compiled).names
    counts = np.random.default_rng(3).integers(0, 1000, (len(names) + 1, 8)).astype(np.uint64)
    cycles = int(counts.sum()) + 17
    account = account_of(compiled, counts, 123, cycles)
    assert sum(account.total.values()) == cycles
    assert account.total["weights"] == counts[:, TraceState.WEIGHTS.value].sum()
    chosen = [number for number, name in enumerate(names) if name.startswith("1.fc1")]
    assert account.layers["1.fc1"]["compute"] == counts[chosen, 1].sum()
    twice = account + account + Account()
    assert twice.total == {kind: 2 * count for kind, count in account.total.items()} and twice.attention_busy == 246
    assert Account().attention_busy is None and "attention_busy" not in Account(layers=account.layers).to_dict()
    assert account.engines == {} and "engines" not in account.to_dict()
    assert by_operator(account.layers)["fc1"]["hazard"] == account.layers["0.fc1"]["hazard"] + account.layers["1.fc1"]["hazard"]


def test_engines_beside_an_efficientvits_array():
    """Each depthwise layer, each attention and each part of the head, for as long as the compiler plans it; a DeiT has none."""
    config = EfficientVitConfig(
        name="tiny", image_size=28, widths=(16, 32), depths=(1, 1), attention_stages=1, head_dim=16, head_widths=(64, 48), classes=10,
        mean=(0.3,), std=(0.3,),
    )  # fmt: skip
    graph = efficientvit_random_graph(config, 8, seed=1)
    compiled = EfficientVit().compile(graph, efficientvit_preset(graph), 2)
    account = account_of(compiled, np.ones((3, 8), np.uint64), None, 30)
    depthwise = {op.target for op in graph.operators if isinstance(op, Convolution) and op.depthwise}
    assert set(account.engines) == {"depth", "outer", "head"} and set(account.engines["depth"]) == depthwise
    assert set(account.engines["outer"]) == {op.target for op in graph.operators if isinstance(op, LinearAttention)}
    tasks = compiled.plan.order[Engine.DEPTH]
    assert sum(account.engines["depth"].values()) == sum(task.cycles for task in tasks) > 0
    twice = (account + account).to_dict()
    assert twice["engines"]["depth"] == {name: 2 * count for name, count in account.engines["depth"].items()}
    assert twice["total"]["compute"] == 2 * account.total["compute"]


def test_progress_rises_to_the_last_tile(compiled):
    progress, names = StepProgress(compiled), steps_of(compiled).names
    shares = [progress.at(tile)[0] for tile in range(len(names))]
    assert shares[0] == 0 and shares == sorted(shares) and 0.5 < shares[-1] < 1
    assert progress.at(0)[1] == names[0] and progress.at(10_000)[1] == names[-1]


def test_macs_of_a_network():
    """By hand: four linear layers of every token, 8 planes of the patch embedding per patch and of the head once."""
    per_block = 32 * 96 + 32 * 32 + 2 * 32 * 128
    assert Deit().macs(random_graph(SHAPE, 1)) == 2 * per_block * 5 + 32 * 49 * 8 * 4 + 10 * 32 * 8


def result(compiled, cycles: int, waiting: int) -> SimulationResult:
    counts = np.zeros((len(steps_of(compiled).names), 8), np.uint64)
    counts[0, TraceState.COMPUTE.value], counts[0, TraceState.WEIGHTS.value] = cycles - waiting, waiting
    logits = np.arange(10, dtype=np.int16)
    run = RunResult(
        images=2, cycles=cycles, counters={"cycles": cycles}, account=account_of(compiled, counts, 0, cycles), bytes_moved=2_000_000,
        mismatches=(),
    )  # fmt: skip
    return SimulationResult(
        images=(ImageResult(logits=logits, reference=logits), ImageResult(logits=logits, reference=logits[::-1])),
        runs=(run,), build_seconds=1.0, run_seconds=2.0, utilisation=0.5,
    )  # fmt: skip


def test_summary_of_two_images_of_which_one_has_a_label(compiled):
    memory = Memory()
    summary = simulation_summary(result(compiled, 400_000, 0), CONFIG, memory, model="tiny", clock_mhz=250, labels=[9, -1])
    assert (summary["images"], summary["cycles_per_image"], summary["fps"]) == (2, 200_000, 1250)
    assert (summary["accuracy"], summary["reference_accuracy"], summary["agreement"]) == (100.0, 100.0, 50.0)
    assert summary["bytes_per_image"] == 1_000_000 and summary["account"]["total"]["compute"] == 400_000
    none = simulation_summary(result(compiled, 400_000, 0), CONFIG, memory, model="tiny", clock_mhz=250, labels=[-1, -1])
    assert none["accuracy"] is None


@pytest.mark.parametrize(("waiting", "remedy"), [(300_000, "use a faster memory"), (0, "use more rows or a faster clock")])
def test_a_rate_that_is_not_reached_names_required_and_available(compiled, waiting, remedy):
    memory = replace(Memory(), refresh_period=0)
    summary = simulation_summary(result(compiled, 400_000, waiting), CONFIG, memory, model="tiny", clock_mhz=250, labels=[0, 0])
    text = too_slow(20_000, summary)
    assert "1250.0 images/s at 250 MHz" in text and "20.00 GB/s and the memory gives 14.40 GB/s" in text and remedy in text


def test_progress_where_there_is_no_terminal(monkeypatch, capsys):
    """Lines with the layer, cycles and the time left, not one for every call."""
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(report.time, "monotonic", lambda: float(next(clock)))
    with report.simulation_progress() as tell:
        for step in range(1, 11):
            tell(Progress(done=step / 10, step=f"{step}.qkv[0]", cycles=1000 * step, cycles_per_second=250.0))
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert ".qkv[0], " in lines[0] and "cycles, 250 per second" in lines[0] and lines[0].endswith("s left")
