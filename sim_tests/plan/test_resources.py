"""Predicted resources: against what yosys said of machines that no price was fitted to, and against one small row synthesised here."""

import copy
import itertools
import json
import re
from dataclasses import replace

import pytest

from model.graph import DeitShape
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.plan import calibrate_resources, resources
from rtl.plan.calibrate_resources import BOUND, BOUNDED, KINDS, fitted, measured, misses, with_predictions
from rtl.plan.resource_grid import MACHINES, Machine, plain, restored
from rtl.plan.resources import STORED, TOTAL, predict
from rtl.tech.memory_cost import block_memory, lut_memory, memory

STORE = json.loads(STORED.read_text(encoding="utf-8"))
SHAPE = DeitShape(
    name="deit_tiny", bits=6, image_size=224, channels=3, patch_size=16, embed_dim=192, depth=12, heads=3, hidden_dim=768, classes=1000
)
DEIT = AcceleratorConfig(shape=SHAPE, rows=50, inputs=192, lanes=16, tile_words=576)
EFFICIENTVIT = EfficientVitMachine(image_size=224, bits=6, rows=32)


def test_unseen_machines_are_predicted_within_their_bound():
    """From the laws as they are now, and from the measurements as they were."""
    points = with_predictions(STORE["points"], STORE["prices"])
    assert misses(points) == []
    unseen = [point for point in points if point["unseen"]]
    assert len(unseen) >= 12 and {point["config"]["family"] for point in unseen} == {"deit", "efficientvit"}
    assert points == STORE["points"]  # what is told of the laws is what they say


def test_slices_and_memories_are_exact():
    """LUTs as memory are, but for a queue or two that yosys makes smaller where they are not used in full."""
    for point in STORE["points"]:
        for name, found in predict(restored(point["config"])).items():
            if values := point["modules"].get(name):
                said = values["measured"]
                assert (found.dsp, found.bram36) == (said["dsp"], said["bram36"]), (point["name"], name)
                assert found.lutram == pytest.approx(said.get("lutram", found.lutram), rel=0.01), (point["name"], name)


def test_prices_are_fitted_to_the_points_that_may_be_seen():
    """And to no other: a measurement of an unseen machine changes none."""
    points = copy.deepcopy(STORE["points"])
    for point in points:
        if point["unseen"]:
            for values in point["modules"].values():
                values["measured"] = {kind: 2 * value for kind, value in values["measured"].items()}
    prices = fitted(points)
    assert prices.keys() == STORE["prices"].keys()
    for law, kinds in STORE["prices"].items():
        for kind, terms in kinds.items():
            assert prices[law][kind] == pytest.approx(terms, abs=1e-3)


def test_the_points_are_those_of_the_grid():
    assert [(point["name"], point["unseen"], restored(point["config"])) for point in STORE["points"]] == [
        (machine.name, machine.unseen, machine.config) for machine in MACHINES
    ]
    for machine in MACHINES:
        assert restored(json.loads(json.dumps(plain(machine.config)))) == machine.config


@pytest.mark.parametrize("kind", BOUNDED)
def test_a_check_tells_what_is_predicted_wrongly(kind, tmp_path, monkeypatch, capsys):
    assert calibrate_resources.main(check=True) == 0
    broken = copy.deepcopy(STORE)
    point = next(point for point in broken["points"] if point["unseen"])
    point["modules"][TOTAL]["measured"][kind] *= 1.08
    (tmp_path / "resources.json").write_text(json.dumps(broken), encoding="utf-8")
    monkeypatch.setattr(calibrate_resources, "STORED", tmp_path / "resources.json")
    capsys.readouterr()
    assert calibrate_resources.main(check=True) == 1
    line = rf"{re.escape(point['name'])}: {kind} is predicted -\d\.\d %, at most 5 % is allowed\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_a_calibration_stores_points_and_prices(tmp_path, monkeypatch, capsys):
    """Of measurements as they were: nothing is synthesised."""
    kept = {point["name"]: {name: values["measured"] for name, values in point["modules"].items()} for point in STORE["points"]}
    monkeypatch.setattr(calibrate_resources, "measured", lambda machine: kept[machine.name])
    monkeypatch.setattr(calibrate_resources, "STORED", tmp_path / "resources.json")
    assert calibrate_resources.main(check=False) == 0
    assert capsys.readouterr().err == "every unseen machine is predicted within 5 %\n"
    stored = json.loads((tmp_path / "resources.json").read_text(encoding="utf-8"))
    assert stored.keys() == STORE.keys() and [point["config"] for point in stored["points"]] == [
        point["config"] for point in STORE["points"]
    ]
    assert stored["prices"]["row"]["lut"] == pytest.approx(STORE["prices"]["row"]["lut"], abs=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["resources.json"]


def _total(config):
    return predict(config)[TOTAL]


@pytest.mark.parametrize("setting", ["rows", "bits", "popcount", "weight_ports", "images", "key_value_copies"])
def test_more_of_a_deit_is_never_cheaper(setting):
    shapes = [replace(SHAPE, bits=bits) for bits in range(1, 9)]
    machines = {
        "rows": [replace(DEIT, rows=rows) for rows in (50, 52, 56, 60, 64)],  # 4 passes each
        "bits": [replace(DEIT, shape=shape) for shape in shapes],
        "popcount": [replace(DEIT, shape=shape, strategy="popcount") for shape in shapes],
        "weight_ports": [replace(DEIT, weight_ports=ports) for ports in (1, 2, 3)],
        "images": [replace(DEIT, images=images) for images in (1, 2)],
        "key_value_copies": [replace(DEIT, key_value_copies=copies) for copies in (1, 2)],
    }
    _never_cheaper(machines[setting], *KINDS)


def test_more_inputs_take_more_luts_and_more_words_more_memory():
    """More inputs need fewer K-tiles, whose sums have memories; more words may be cut into fewer chunks, with fewer choices."""
    _never_cheaper([replace(DEIT, inputs=inputs) for inputs in (192, 384, 768)], "lut", "ff", "dsp")
    _never_cheaper([replace(DEIT, weight_buffers=count) for count in range(2, 9)], "bram36")


@pytest.mark.parametrize("setting", ["rows", "bits", "memory_words", "depths"])
def test_more_of_an_efficientvit_is_never_cheaper(setting):
    machines = {
        "rows": [replace(EFFICIENTVIT, rows=rows) for rows in (16, 32, 49, 64)],
        "bits": [replace(EFFICIENTVIT, bits=bits) for bits in (4, 5, 6, 7, 8)],
        "memory_words": [replace(EFFICIENTVIT, memory_words=words) for words in (256, 512, 1024)],
        "depths": [replace(EFFICIENTVIT, ring_depth=depth, key_value_depth=depth, state_depth=depth) for depth in (256, 512, 1024)],
    }
    _never_cheaper(machines[setting], *KINDS)


def _never_cheaper(machines, *kinds):
    for less, more in itertools.pairwise(machines):
        for kind in kinds:
            assert getattr(_total(less), kind) <= getattr(_total(more), kind), (kind, less, more)


def test_twice_the_clock_halves_the_slices_of_the_rows():
    once, twice = _total(EFFICIENTVIT), _total(replace(EFFICIENTVIT, dsp_clock=2))
    assert once.dsp - twice.dsp == 16 * EFFICIENTVIT.rows and once.lut < twice.lut


def test_the_simulated_technology_is_predicted_as_it_is_built():
    assert predict(DEIT) == predict(replace(DEIT, technology="ultrascale"))


def test_the_parts_of_a_machine_make_its_total():
    parts = predict(DEIT)
    counts = {name: count for name, (_, count) in resources.costs(DEIT).items()}
    assert counts == {"row": 50, "key_value_bank": 3, "key_value_bank_2": 1, "row_feeder": 1, "accelerator": 1}
    assert sum(parts[name].lut * count for name, count in counts.items()) == parts[TOTAL].lut


@pytest.mark.parametrize(
    ("width", "depth", "granularity", "bram36", "lutram"),
    [
        (16, 64, 0, 0, 24), (16, 128, 0, 0, 48), (96, 64, 0, 0, 112), (48, 112, 0, 0, 112), (45, 576, 0, 1.5, 0), (32, 768, 0, 1, 0),
        (64, 1152, 0, 3, 0), (96, 1728, 0, 5.5, 0), (128, 1024, 64, 4, 0), (256, 192, 0, 4, 0), (30, 100, 0, 0.5, 0), (40, 3000, 0, 4, 0),
        (128, 2304, 0, 9.5, 0), (21, 4096, 0, 3, 0), (19, 4096, 0, 2.5, 0), (512, 512, 32, 8, 0),
    ],
)  # fmt: skip
def test_memories_as_yosys_maps_them(width, depth, granularity, bram36, lutram):
    """Synthesised by themselves, with yosys 0.70."""
    found = memory(width, depth, granularity=granularity)
    assert (found.bram36, found.lutram) == (bram36, lutram)


def test_a_memory_of_luts_is_cut_where_that_takes_fewer():
    assert lut_memory(9, 80).lutram == 24  # three of 32 words: fewer than two by two of 64
    assert block_memory(16, 64).bram36 == 0.5  # where it must be a block


def test_a_row_has_the_slices_and_memories_that_are_predicted():
    """Synthesised here, the first time in some seconds: the smallest row there is, of another shape than all others."""
    shape = DeitShape(
        name="smallest", bits=1, image_size=8, channels=1, patch_size=4, embed_dim=16, depth=1, heads=2, hidden_dim=64, classes=4
    )
    config = AcceleratorConfig(shape=shape, rows=2, inputs=16, lanes=2, tile_words=48, technology="ultrascale")
    row = measured(Machine(name="smallest", config=config, modules=("row",)))["row"]
    predicted = predict(config)["row"]
    assert (predicted.dsp, predicted.bram36, predicted.lutram) == (row["dsp"], row["bram36"], row["lutram"])
    assert predicted.lut == pytest.approx(row["lut"], rel=BOUND / 100)
