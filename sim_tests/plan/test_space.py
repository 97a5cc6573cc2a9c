"""The machines of the planner: each can be, no bound is above its prediction, and what the planner passes over is no better."""

import random
from dataclasses import replace
from functools import cache

import pytest

from model.configs import DeiTConfig, config_of
from model.skeleton import skeleton
from rtl.errors import InputError
from rtl.flow.ddr import Memory
from rtl.plan import resources
from rtl.plan.cycles import predict
from rtl.plan.planner import SLACK
from rtl.plan.space import DeitSpace, EfficientVitSpace

MEMORY = Memory()
WIDE = DeiTConfig(name="wide", embed_dim=144, depth=2, heads=3, image_size=64, patch_size=8, classes=100)


def space_of(config, **options):
    network = cache(lambda bits: skeleton(config, bits))
    return (DeitSpace if isinstance(config, DeiTConfig) else EfficientVitSpace)(network, **options)


@pytest.mark.parametrize(
    ("name", "some"), [("deit_micro", 336), ("wide", 24), ("deit_tiny", 8), pytest.param("wide", 2592, marks=pytest.mark.slow)]
)
def test_no_deit_is_faster_than_its_bound(name, some):
    """``some``: of the machines of its space; deit_micro's and the wide one's are all."""
    config = WIDE if name == "wide" else config_of(name)
    space = space_of(config)
    machines = [machine for group in space.machines(8) for machine in group]
    assert {machine.images for machine in machines} == {1, 2} and len({machine.rows for machine in machines}) >= 5
    for machine in random.Random(1).sample(machines, some):
        found = predict(space.network(8), machine, machine.images, MEMORY).cycles_per_image
        bound = space.least_cycles(machine, MEMORY.sustained_bytes_per_cycle)
        assert 0.2 * found < bound <= found, machine


@pytest.mark.parametrize("gigabytes", [0.4e9, 2e9])
def test_a_slow_memory_is_in_the_bound(gigabytes):
    space, memory = space_of(config_of("deit_micro"), rows=6), Memory.ddr(gigabytes, 0.75, 250)
    for group in space.machines(4):
        found = predict(space.network(4), group[0], group[0].images, memory).cycles_per_image
        assert space.least_cycles(group[0], memory.sustained_bytes_per_cycle) <= found


@pytest.mark.parametrize("rows", [16, 25, 32])
def test_no_efficientvit_is_faster_than_its_bound(rows):
    space = space_of(config_of("efficientvit_micro"), rows=rows)
    (group,) = space.machines(8)
    assert space.least_cycles(group[0], MEMORY.sustained_bytes_per_cycle) <= predict(space.network(8), group[0], 8, MEMORY).cycles_per_image


@pytest.mark.parametrize(("name", "rows"), [("deit_micro", (4, 10, 18)), ("wide", (6, 22))])
def test_more_around_an_array_is_no_slower(name, rows):
    config = WIDE if name == "wide" else config_of(name)
    for number in rows:
        space = space_of(config, rows=number)
        for group in list(space.machines(8))[-2:]:
            for machine in group:
                fullest = space.fullest(machine)
                assert fullest in group and fullest.tile_words == machine.tile_words
                ours, least = (predict(space.network(8), each, each.images, MEMORY).cycles_per_image for each in (machine, fullest))
                assert least * (1 - SLACK) <= ours, machine


def test_ports_that_do_not_cut_a_word_are_not_added():
    space = space_of(config_of("deit_micro"), rows=10)
    (first, *_), *_ = space.machines(8)
    assert first.inputs == 64 and space.fullest(first).weight_ports == 1 and space.fullest(first).images == 2


def test_the_first_of_a_group_takes_least():
    space = space_of(config_of("deit_micro"))
    for group in space.machines(6):
        first, *others = (resources.predict(machine)["total"] for machine in group)
        for other in others:
            assert (first.lut, first.dsp, first.bram36) <= (other.lut * 1.005, other.dsp, other.bram36)


def test_rows_of_an_efficientvit_are_those_that_are_worth_it():
    rows = [group[0].rows for group in space_of(config_of("efficientvit_b1")).machines(8)]
    assert 49 in rows and 48 not in rows and len(rows) < 20


def test_a_network_that_does_not_fit_gets_larger_memories_once():
    space = space_of(config_of("efficientvit_b0"), rows=25)
    (group,) = space.machines(8)
    larger = space.larger(group[0])
    assert larger.memory_words == 1024 > group[0].memory_words and space.larger(larger) is None
    with pytest.raises(InputError, match="activations must fit"):
        predict(space.network(8), group[0], 2, MEMORY)
    assert predict(space.network(8), larger, 2, MEMORY).cycles > 0


@pytest.mark.parametrize(
    ("dimensions", "rows", "law"),
    [
        ({"image_size": 128, "patch_size": 8}, None, "tokens must be at most 256, the score memory: 257 does not; use larger patches"),
        ({"embed_dim": 100, "heads": 4}, None, "embed_dim must be a multiple of 16: 100 does not"),
        ({"embed_dim": 1056, "heads": 11}, None, "embed_dim and inputs must be at most 1024, a dot product's: 1056 does not"),
        ({"heads": 48}, None, "head_dim must be even: 3 does not"),
        ({}, 7, "rows must be even, or a pair of keys would cross a pass: 7 does not"),
        ({}, 256, "rows must be 1..255: 256 does not"),
    ],
)
def test_a_network_that_has_no_machine_is_refused_with_a_law(dimensions, rows, law):
    with pytest.raises(InputError, match=f"^{law}"):
        list(space_of(replace(WIDE, **dimensions), rows=rows).machines(8))


def test_rows_and_precisions_that_are_given_are_kept():
    space = space_of(config_of("deit_micro"), rows=10, precisions=(5,))
    assert space.precisions == (5,) and {machine.rows for group in space.machines(5) for machine in group} == {10}
