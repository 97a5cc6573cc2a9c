"""The benchmark runner and its page, on figures that are made up: nothing is measured here."""

import json
import sys

import pytest

from benchmarks import run, table
from benchmarks.cases import CASES, Case
from benchmarks.families import DEIT, EFFICIENTVIT, family_of
from benchmarks.peers import DEIT_PEERS, MARKS
from rtl.flow.account import KINDS

CASE = CASES["base_8bit_66rows"]


def simulated(**changes):
    kinds = dict.fromkeys(KINDS, 0)
    layers = {
        "patch": kinds | {"compute": 40_000},
        "0.qkv": kinds | {"compute": 600_000, "weights": 60_000},
        "1.qkv": kinds | {"fill": 20_000},
    }
    total = kinds | {"compute": 640_000, "weights": 60_000, "fill": 20_000}
    return {
        "model": "deit_base", "bits": 8, "rows": 66, "inputs": 768, "lanes": 22, "images": 2, "bit_exact": True, "mismatches": [],
        "cycles_per_image": 360_000.0, "utilisation": 0.91, "agreement": 100.0, "bytes_per_image": 13e6, "cycles_per_second": 2500.0,
        "account": {"total": total, "layers": layers, "attention_busy": 500_000}, "memory": {"efficiency": 75},
        "build_seconds": 200.0, "sim_seconds": 300.0,
    } | changes  # fmt: skip


def built(**changes):
    part = {
        "count": 66,
        "lut": 3000,
        "ff": 5000,
        "dsp": 27,
        "bram36": 7.5,
        "levels": 2,
        "carries": 1,
        "ns": 1.9,
        "deepest": "a -> 2 LUT + 1 carry -> b",
    }
    stage = {"levels": 2, "carries": 0, "ns": 1.5, "path": "c -> 2 LUT + 0 carry -> d"}
    part["units"] = {"": stage, "requantize": stage, "row_12": stage, "key_memory18": stage}
    return {
        "resources": {"lut": 220_000, "dsp": 1782, "bram36": 593.0, "ff": 358_000}, "slicem": {"used": 90_000, "total": 144_000},
        "parts": {"row": part}, "misfits": ["lut must be at most 205,560"], "seconds": 100.0,
    } | changes  # fmt: skip


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The command line, replaced: answers by verb and remembers what it was asked."""
    asked = []

    def answer(words):
        asked.append(words)
        sys.stdout.write(json.dumps(simulated() if "simulate" in words else built()))
        return 0 if "simulate" in words else 1

    monkeypatch.setattr(run, "command_line", answer)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    return asked


def test_a_case_keeps_figures_commands_and_tools(commands):
    assert run.main(["--only", CASE.name]) == 0
    found = json.loads((run.RESULTS / f"{CASE.name}.json").read_text())
    assert [f"python -m rtl.top {' '.join(words)}" for words in commands] == found["commands"]
    assert "--rows 66 --json simulate --images 2 --source photos" in found["commands"][0]
    assert (found["cycles_per_image"], found["resources"]["lutram"], found["misfits"]) == (360_000, 90_000, ["lut must be at most 205,560"])
    assert found["status"] == "estimated, before place-and-route; Vivado has not been run"
    assert {"amaranth", "pyosys", "verilator", "python", "g++", "popvit"} <= set(found["tools"])


def test_a_wrong_result_is_no_benchmark(monkeypatch):
    monkeypatch.setattr(run, "told", lambda words, **_: simulated(bit_exact=False, mismatches=["logits[0, 3]"]))
    with pytest.raises(RuntimeError, match=r"base_8bit_66rows is not bit-exact: \['logits\[0, 3\]'\]"):
        run.measure(CASE, {})


def test_cases_of_one_machine_share_its_build(commands):
    """One image and two on the same rows: two simulations, one build, and both results name the build that was run."""
    names = "base_8bit_66rows", "base_8bit_66rows_1image"
    assert run.main([word for name in names for word in ("--only", name)]) == 0
    assert [words[words.index("--json") + 1] for words in commands] == ["simulate", "build", "simulate"]
    kept = [json.loads((run.RESULTS / f"{name}.json").read_text())["commands"] for name in names]
    assert kept[0][1] == kept[1][1] and kept[0][0] != kept[1][0]


def test_what_is_told_for_some_only_is_kept_where_it_is_told(monkeypatch):
    told = simulated(accuracy=None, reference_accuracy=91.5, cycles_per_further_image=300_000.0)
    monkeypatch.setattr(run, "told", lambda words, **_: told if "simulate" in words else built())
    found = run.measure(CASE, {})
    assert (found["reference_accuracy"], found["cycles_per_further_image"], found["dsp_clock"]) == (91.5, 300_000, 1)
    assert "accuracy" not in found and "utilisation_of_further_images" not in found
    assert {key: found["stages"]["row"][key] for key in ("ff", "dsp", "bram36")} == {"ff": 5000, "dsp": 27, "bram36": 7.5}


def test_options_of_cases():
    """What a case leaves at its default is left to the command line; a build has one of the programs that are simulated."""
    case = Case(name="x", model="efficientvit_b1_r224", bits=6, dsp_clock=2, images=64)
    assert case.options == ["--model", "efficientvit_b1_r224", "--bits", "6", "--dsp-clock", "2", "--json"]
    assert case.simulate[-4:] == ["--images", "64", "--source", "photos"] and case.build[-2:] == ["--images", "8"]
    for name, case in CASES.items():
        assert name == case.name and f"_{case.bits}bit" in name
        assert family_of(case.model) is (EFFICIENTVIT if name.startswith("efficientvit_") else DEIT)
        assert ("--rows" in case.options, "--dsp-clock" in case.options) == (case.rows is not None, case.dsp_clock == 2)


def test_page_has_figures_marks_and_the_caveat(commands):
    run.main(["--only", CASE.name])
    result = json.loads((run.RESULTS / f"{CASE.name}.json").read_text())
    text = table.page([result])
    assert text == table.page([result]) and "Vivado has not been run" in text
    assert "| DeiT-base W1A8 | 66 x 768 | 2 | 360,000 | 417 | 694 | 91.0 % | 220,000 (80 %) |" in text
    assert "per further image |" not in text and "DSP clock" not in text  # columns that would say nothing
    assert "| base_8bit_66rows | row x 66 | 3,000 | 5,000 | 27 | 7.5 | 2 + 1 |" in text
    assert "| base_8bit_66rows | qkv | 0 | 300,000 | 10,000 |" in text
    assert "| row | requantize | 2 + 0 | 1.50 | `c -> 2 LUT + 0 carry -> d` |" in text and "row_12" not in text
    ours = next(line for line in text.splitlines() if line.startswith("| popvit |"))
    macs = DEIT.macs_per_image("deit_base") / 360_000
    assert f"| {macs / 220:,.1f} | {2 * macs * 250e6 / 1e9 / 1782:.2f} |" in ours
    vaqf = next(line for line in text.splitlines() if line.startswith("| VAQF") and "W1A8" in line)
    assert "24.8 (c)" in vaqf and "0.55 (d)" in vaqf and "20.1 (d)" in vaqf
    for mark, meaning in MARKS.items():
        assert f"* ({mark}) {meaning}" in text


def test_work_of_deit_base_agrees_with_the_peers():
    """They count 34.7 GOP a frame."""
    assert 2 * DEIT.macs_per_image("deit_base") / 1e9 == pytest.approx(34.7, rel=0.02)
    assert {peer.work for peer in DEIT_PEERS} == {"VAQF", "Auto-ViT-Acc", "HeatViT", "HG-PIPE"}


def test_the_page_is_that_of_the_results():
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(table.RESULTS.glob("*.json"))]
    if not results:
        pytest.skip("nothing has been measured yet")
    assert table.PAGE.read_text(encoding="utf-8") == table.page(results)
