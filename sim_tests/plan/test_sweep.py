"""Sweeps: each point once, whatever dies; here and on a Dask cluster of two workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtl.errors import InputError
from rtl.plan.executors import DaskCluster, Processes
from rtl.plan.sweep import sweep
from sim_tests.plan import measures

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = range(8)


def points(tmp_path, numbers=NUMBERS):
    return {f"n{number}": {"number": number, "log": str(tmp_path / "log")} for number in numbers}


def measured_numbers(tmp_path):
    return sorted(int(line) for line in (tmp_path / "log").read_text().split())


def squares(numbers=NUMBERS):
    return {f"n{number}": {"square": number**2} for number in numbers}


def test_results_are_kept_and_not_measured_again(tmp_path):
    told = []
    some = sweep(points(tmp_path, range(3)), measures.squared, tmp_path / "points", Processes(2))
    everything = sweep(
        points(tmp_path), measures.squared, tmp_path / "points", Processes(2), lambda done, total: told.append((done, total))
    )
    assert (some, everything) == (squares(range(3)), squares())
    assert measured_numbers(tmp_path) == list(NUMBERS), "a point was measured twice"
    assert told[0] == (3, 8) and told[-1] == (8, 8)


def test_a_damaged_result_is_measured_again(tmp_path):
    sweep(points(tmp_path), measures.squared, tmp_path / "points", Processes(1))
    (tmp_path / "points" / "n5.json").write_text('{"squ')
    assert sweep(points(tmp_path), measures.squared, tmp_path / "points", Processes(1)) == squares()
    assert measured_numbers(tmp_path) == sorted([*NUMBERS, 5])


def test_a_point_that_cannot_be_is_a_result(tmp_path):
    found = sweep(points(tmp_path, [-1, 2]), measures.squared, tmp_path / "points", Processes(1))
    assert found == {"n-1": {"error": "a number must not be negative: it is; use another"}, "n2": {"square": 4}}


def test_a_worker_that_dies_costs_no_result(tmp_path):
    assert sweep(points(tmp_path), measures.dying_once, tmp_path / "points", Processes(2)) == squares()


def test_workers_that_always_die_are_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"^workers must live: they died 3 times over n0, n1, n2; use fewer workers$"):
        sweep(points(tmp_path), measures.always_dying, tmp_path / "points", Processes(1))


SWEEP = """
import sys
from pathlib import Path
from rtl.plan.executors import Processes
from rtl.plan.sweep import sweep
from sim_tests.plan import measures
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    points = {f"n{number}": {"number": number, "log": str(folder / "log")} for number in range(40)}
    sweep(points, measures.slowly_squared, folder / "points", Processes(1))
"""


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SWEEP)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while len(list((tmp_path / "points").glob("*.json"))) < 5:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.stem for path in (tmp_path / "points").glob("*.json")}
    assert 5 <= len(kept) < 40
    before = measured_numbers(tmp_path)
    subprocess.run(command, env=environment, check=True)
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "points").glob("*.json")}
    assert found == squares(range(40))
    again = measured_numbers(tmp_path)
    for number in before:
        again.remove(number)
    assert not kept & {f"n{number}" for number in again}, "what was done was done again"


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as found:
        yield found


@pytest.mark.filterwarnings("default")  # Dask's own, of workers that die
def test_a_dask_cluster_survives_a_worker(cluster, tmp_path):
    assert sweep(points(tmp_path), measures.dying_once, tmp_path / "points", DaskCluster(cluster.scheduler_address)) == squares()
    assert (tmp_path / "log.died").exists() or list(tmp_path.glob("*.died"))


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_does_not_answer_is_told(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("rtl.plan.executors.ANSWER_SECONDS", 1)
    said = r"^a scheduler must answer within 1 s: tcp://127.0.0.1:1 gives \w+; start dask scheduler there, or leave it out$"
    with pytest.raises(InputError, match=said):
        sweep(points(tmp_path), measures.squared, tmp_path / "points", DaskCluster("tcp://127.0.0.1:1"))
