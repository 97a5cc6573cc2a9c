"""Predicted cycles: beside the RTL's, and laws that every prediction keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from model.configs import config_of
from model.graph import DeitGraph
from model.skeleton import skeleton
from rtl.efficientvit.program import compiler as efficientvit_compiler
from rtl.flow.ddr import Memory
from rtl.flow.family import family_of
from rtl.plan import calibrate_cycles
from rtl.plan.calibrate_cycles import BOUND, is_bound, load, point_of
from rtl.plan.cycle_points import machine_of
from rtl.plan.cycles import Prediction, predict
from rtl.program import compiler
from rtl.program.instruction import Instruction
from sim_tests.model.test_skeleton import with_constants

#: Images of large EfficientViTs take a second each to compile.
MOST_IMAGES = 2


def records() -> Iterator[Any]:
    for record in load()["points"]:
        point = record["point"]
        large = point["model"].startswith("efficientvit_b") and (point["images"] > MOST_IMAGES or point["model"] > "efficientvit_b2")
        name = f"{point['model']}-{point['bits']}b-{point['rows']}-{point['images']}"
        yield pytest.param(record, id=name, marks=[pytest.mark.slow] if large else [])


@pytest.mark.parametrize("record", list(records()))
def test_beside_the_rtl(record: dict[str, Any]) -> None:
    predicted = point_of(record).predicted()
    assert abs(predicted.cycles / record["cycles"] - 1) <= BOUND / 100 or record["point"]["memory"]
    assert sum(predicted.account.values()) == predicted.cycles
    assert min(predicted.account.values()) >= 0


def test_enough_unseen_points_of_both_families() -> None:
    unseen = [record["point"] for record in load()["points"] if is_bound(record)]
    assert len(unseen) >= 12
    assert len({point["model"].partition("_")[0] for point in unseen}) == 2
    assert len({(point["bits"], point["rows"]) for point in unseen}) >= 4


def test_check_tells_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored point whose measured cycles were 3 % less."""
    record = next(r for r in load()["points"] if r["point"]["model"] == "efficientvit_micro" and is_bound(r))
    monkeypatch.setattr(calibrate_cycles, "load", lambda: {"points": [record]})
    assert calibrate_cycles.main(check=True) == 0
    wrong = record | {"cycles": round(record["cycles"] * 0.97)}
    monkeypatch.setattr(calibrate_cycles, "load", lambda: {"points": [wrong]})
    assert calibrate_cycles.main(check=True) == 1


def prediction(name: str, images: int = 2, rows: int | None = None, **memory: float) -> Prediction:
    graph = skeleton(config_of(name), 8)
    return predict(graph, machine_of(graph, rows), images, Memory(**memory))


@pytest.mark.parametrize("name, images", [("deit_micro", 3), ("efficientvit_micro", 3)])
def test_constants_do_not_matter(name: str, images: int) -> None:
    config = config_of(name)
    real = with_constants(config, 8)
    assert predict(real, machine_of(real), images) == prediction(name, images)


@pytest.mark.parametrize("name, images", [("deit_micro", (1, 3)), ("efficientvit_micro", (2, 3)), ("efficientvit_micro", (4, 2))])
def test_outlines_are_the_programs_but_for_places_in_memory(name: str, images: tuple[int, int]) -> None:
    graph = with_constants(config_of(name), 8)
    machine = machine_of(graph)
    outlines = (compiler if isinstance(graph, DeitGraph) else efficientvit_compiler).outlines(graph, machine, images)
    for outline, count in zip(outlines, images, strict=True):
        compiled = family_of(machine).compile(graph, machine, count)
        assert [_placeless(i) for i in outline] == [_placeless(i) for i in compiled.instructions]


def _placeless(instruction: Instruction) -> Instruction:
    return replace(instruction, payload={name: value for name, value in instruction.payload.items() if name != "offset"})


def test_fewer_passes_are_not_slower() -> None:
    graph = skeleton(config_of("deit_tiny"), 8)
    found = [predict(graph, machine_of(graph, rows), 2).cycles for rows in (40, 50, 66, 100)]
    assert found == sorted(found, reverse=True) and found[0] > 2 * found[-1]


@pytest.mark.parametrize("name", ["deit_micro", "efficientvit_micro"])
def test_a_better_memory_is_not_slower(name: str) -> None:
    widths = [prediction(name, peak_bytes_per_cycle=width).cycles for width in (4, 8, 16, 32, 76.8, 1024)]
    assert widths == sorted(widths, reverse=True) and widths[0] > 1.5 * widths[-1]
    assert prediction(name, latency=400).cycles > prediction(name).cycles > prediction(name, latency=1, refresh_period=0).cycles


@pytest.mark.parametrize("name", ["deit_micro", "efficientvit_micro"])
def test_bytes_do_not_depend_on_the_memory(name: str) -> None:
    one, other = prediction(name), prediction(name, peak_bytes_per_cycle=8)
    assert one.ddr_bytes == other.ddr_bytes and one.instructions == other.instructions
    assert one.ddr_bytes > 32 * one.instructions


def test_a_stream_has_a_period() -> None:
    """From the first pair of images to the last but one: what an image takes of the array, more or less."""
    assert prediction("efficientvit_micro", 4).cycles_per_further_image is None
    assert prediction("deit_micro", 8).cycles_per_further_image is None  # pairs that do not overlap
    stream = prediction("efficientvit_micro", 8)
    assert stream.cycles_per_further_image is not None
    assert 0.9 * stream.account["compute"] / 8 < stream.cycles_per_further_image < stream.cycles_per_image
