"""The front against its definition, and the files that are written of it."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from boards import platform
from rtl.flow.estimate import Resources
from rtl.plan.pareto import front, pareto, write
from rtl.plan.planner import Planner


def test_the_front_is_who_is_not_beaten():
    rng = np.random.default_rng(1)
    for objectives in (1, 2, 3, 4):
        costs = rng.integers(0, 6, (300, objectives))
        beaten = [any((other <= row).all() and (other < row).any() for other in costs) for row in costs]
        mask = front(costs)
        assert not (mask & np.array(beaten)).any()
        kept = {tuple(row) for row in costs[mask]}
        assert kept == {tuple(row) for row, lost in zip(costs, beaten, strict=True) if not lost}
        assert len(kept) == mask.sum(), "of equal rows one counts"


@dataclass(frozen=True)
class Toy:
    bits: int
    rows: int


class Space:
    precisions = (8, 4)

    def machines(self, bits):
        return ([Toy(bits, rows)] for rows in range(1, 30))

    def larger(self, config):
        return None

    def least_cycles(self, config, memory_bytes):
        return 1e6 / config.rows


class Models:
    def cycles_per_image(self, config):
        return 1e6 / config.rows * (1.05 if config.rows % 2 else 1.0)

    def bytes_per_image(self, config):
        return 1e6

    def resources(self, config):
        return Resources(lut=1000 * config.rows * config.bits - (500 if config.rows % 3 == 0 else 0), ff=1, dsp=1, bram36=1)


@pytest.fixture
def planner():
    return Planner(space=Space(), models=Models(), board=platform("zcu102"), clock_mhz=100, memory_bytes=50)


def test_the_front_of_a_space_is_that_of_all_its_machines(planner):
    points = pareto(planner, planner.models, lambda text: None)
    machines = [config for bits in Space.precisions for (config,) in Space().machines(bits)]
    priced = [(config, Models().cycles_per_image(config), Models().resources(config).lut) for config in machines]
    everything = [entry for entry in priced if entry[2] <= 205_560]
    costs = np.array([(cycles, lut, -config.bits, 1 / cycles) for config, cycles, lut in everything])
    wanted = {(config.bits, config.rows) for (config, _, _), kept in zip(everything, front(costs), strict=True) if kept}
    assert {(point["bits"], point["parameters"]["rows"]) for point in points} == wanted
    assert [point["fps"] for point in points] == sorted((point["fps"] for point in points), reverse=True)


def test_the_files_are_the_same_every_time(planner, tmp_path):
    points = pareto(planner, planner.models, lambda text: None)
    first = [path.read_bytes() for path in write(points, planner, "toy", tmp_path / "a")]
    again = [path.read_bytes() for path in write(points, planner, "toy", tmp_path / "b")]
    assert first == again
    told = json.loads(first[0])
    assert told["points"] == points and "Vivado has not been run" in told["source"]
    assert b"<svg" in first[1] and b"Vivado has not been run" in first[1] and b"8 bits" in first[1]
