"""The object that `simulate --json` prints, from a result made up here."""

import json

import numpy as np
import pytest

from rtl.flow.account import KINDS, Account
from rtl.flow.ddr import Memory
from rtl.flow.report import simulation_summary
from rtl.flow.simulate import ImageResult, RunResult, SimulationResult
from sim_tests.system.machines import tiny

#: What scripts rely on.
KEYS = {"model", "bits", "images", "bit_exact", "mismatches", "accuracy", "reference_accuracy", "cycles_per_image", "clock_mhz", "fps"}
KEYS |= {"utilisation", "sim_seconds"}
_, CONFIG = tiny()


def summary(predictions: list[int], labels: list[int]) -> dict:
    images = tuple(ImageResult(logits=np.eye(4)[c], reference=np.eye(4)[c]) for c in predictions)
    account = Account(layers={"patch": dict.fromkeys(KINDS, 1)})
    run = RunResult(images=len(images), cycles=5000, counters={"cycles": 5000}, account=account, bytes_moved=64, mismatches=())
    result = SimulationResult(images=images, runs=(run,), build_seconds=1.0, run_seconds=2.0, utilisation=0.5)
    return simulation_summary(result, CONFIG, Memory(), model="tiny", clock_mhz=250.0, labels=np.array(labels))


def test_keys() -> None:
    told = json.loads(json.dumps(summary([1, 2], [1, 3])))
    assert set(told) >= KEYS
    assert told["accuracy"] == told["reference_accuracy"] == 50
    assert told["fps"] == pytest.approx(250e6 / 2500)


def test_no_accuracy_without_labels() -> None:
    told = json.loads(json.dumps(summary([1, 2, 0], [-1, -1, -1])))
    assert told["accuracy"] is None and told["reference_accuracy"] is None and told["agreement"] == 100


def test_images_without_a_label_do_not_count() -> None:
    assert summary([1, 2, 0], [1, -1, 3])["accuracy"] == 50


def test_further_images_of_several_programs() -> None:
    """Four pairs and three: three periods of 2,200 cycles a pair, told with the rate and the utilisation that belong to them. The last pair
    does not count, nor does a program of two pairs."""
    images = tuple(ImageResult(logits=np.eye(4)[0], reference=np.eye(4)[0]) for _ in range(18))
    account = Account(layers={"stem": dict.fromkeys(KINDS, 1)})
    runs = tuple(
        RunResult(images=len(stored), cycles=stored[-1], counters={}, account=account, bytes_moved=64, mismatches=(), stored=stored)
        for stored in (
            (4000, 5000, 6300, 7200, 8500, 9400, 9500, 9600),
            (4000, 5000, 6300, 7200, 7300, 7400),
            (4000, 5000, 9000, 9900),
        )
    )
    result = SimulationResult(images=images, runs=runs, build_seconds=1.0, run_seconds=2.0, utilisation=0.25)
    told = simulation_summary(result, CONFIG, Memory(), model="tiny", clock_mhz=250.0, labels=[-1] * 18)
    assert told["cycles_per_further_image"] == 1100 and told["cycles_per_image"] == 26900 / 18
    assert told["fps_of_further_images"] == pytest.approx(250e6 / 1100)
    assert told["utilisation_of_further_images"] == pytest.approx(0.25 * 26900 / 18 / 1100)
    assert "cycles_per_further_image" not in summary([1, 2], [1, 3])
