"""What a build writes and tells, with yosys' estimate replaced: that one has tests of its own and takes minutes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from boards import platform
from model.graph import DeitShape
from model.random_graph import random_graph
from model.zoo import load_graph
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.preset import preset
from rtl.flow import build as flow
from rtl.flow import report
from rtl.flow.estimate import Resources
from rtl.flow.family import family_of

SHAPE = DeitShape(name="tiny", bits=8, image_size=14, channels=1, patch_size=7, embed_dim=32, depth=1, heads=2, hidden_dim=128, classes=10)
CONFIG = AcceleratorConfig(shape=SHAPE, rows=2, inputs=64, lanes=2, tile_words=96, weight_ports=2, technology="ultrascale")
STAGE = {"levels": 3, "carries": 1, "ns": 2.0, "path": "dma.a[1] -> 3 LUT + 1 carry -> dma.b"}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """One build; every module costs the same."""
    costs = Resources(lut=1000, lutram=300, srl=20, ff=10, dsp=600, bram36=1.5, levels=2, carries=1, deepest="a -> b", units={"dma": STAGE})
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "estimate", lambda *_, **__: costs)
        return flow.build(random_graph(SHAPE, 1), CONFIG, platform("zcu102"), folder, clock_mhz=200, source="random:1", images=3)


def test_manifest_and_project_serve_the_images_of_a_run(summary):
    folder = Path(summary["out"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["images"] == summary["images"] == len(manifest["image"]["offsets"]) == len(manifest["result"]["offsets"]) == 3
    assert max(manifest["image"]["offsets"]) + manifest["image"]["bytes"] <= manifest["windows"]["image"]["bytes"]
    assert (folder / "program.bin").stat().st_size == manifest["windows"]["program"]["bytes"]
    script = (folder / "vivado" / "system.tcl").read_text()
    assert "accelerator/m_axi_weights_1]" in script and "accelerator/m_axi_weights_2]" not in script
    assert summary["files"] == sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parts_add_up_and_stages_are_told(summary, capsys):
    parts = summary["parts"]
    assert parts["row"]["count"] == 2 and parts["accelerator"]["count"] == 1
    assert summary["resources"]["lut"] == sum(part["count"] * part["lut"] for part in parts.values())
    assert summary["slicem"] == {"used": sum(part["count"] for part in parts.values()) * 320, "total": 144_000}
    assert parts["accelerator"]["units"] == {"dma": STAGE}
    report.build_table(json.loads(json.dumps(summary)))
    told = capsys.readouterr().out
    assert "dma" in told and "3 + 1" in told and "lut as memory" in told


def test_what_does_not_fit_is_told(summary):
    assert summary["misfits"][0].startswith("dsp must be at most 2,016 (80% of 2,520 on zcu102): ")


def test_clocks_are_told(summary, capsys):
    """Both of them, and that the faster one is unproven; stages from clock to clock beside those of the units."""
    assert summary["clocks_mhz"] == {"clk": 200} and summary["clock_source"].startswith("200 MHz is unproven before place-and-route")
    machine = EfficientVitMachine(image_size=28, rows=16, dsp_clock=2)
    assert flow.clocks(machine, 250) == {"clk": 250, "clk_2x": 500} and flow.clocks(replace(machine, dsp_clock=1), 250) == {"clk": 250}
    assert family_of(machine).sizes(machine)["dsp_clock"] == 2
    changed = json.loads(json.dumps(summary)) | {
        "dsp_clock": 2,
        "clocks_mhz": flow.clocks(machine, 250),
        "clock_source": "500 MHz is unproven",
    }
    changed["parts"]["row"]["clocks"] = {"clk -> clk_2x": STAGE}
    report.build_table(changed)
    words = capsys.readouterr().out.split()
    assert "DSP clock x 2: clk 250 MHz, clk_2x 500 MHz; 500 MHz is unproven" in " ".join(words)
    assert words.count("clk_2x") == 2  # the line, and the stage in the table


@pytest.mark.slow
@pytest.mark.parametrize("dsp_clock", [1, 2])
def test_an_efficientvit_is_built_the_same_way(tmp_path, dsp_clock):
    """Its modules, its own counters in the manifest, and weight ports on four ports of their own."""
    graph = load_graph("efficientvit_micro", 8)
    config = preset(graph, technology="ultrascale", dsp_clock=dsp_clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "estimate", lambda *_, **__: Resources(lut=1000, dsp=10))
        told = flow.build(graph, config, platform("zcu102"), tmp_path, clock_mhz=250, source="shipped", images=2)
    folder = Path(told["out"])
    assert folder.name == "efficientvit_micro_w8a8_zcu102" and told["weight_bits"] == 8
    assert {"efficientvit_row", "depthwise_channel", "accelerator"} <= set(told["parts"]) and told["parts"]["efficientvit_row"][
        "count"
    ] == 16
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == "efficientvit_micro" and manifest["image"]["shape"] == [28, 28, 1] and manifest["images"] == 2
    assert "STEPS_WRITTEN" in manifest["counters"].values() and "technology='ultrascale'" in manifest["config"]
    assert f"dsp_clock={dsp_clock}" in manifest["config"]
    assert ("[get_ports clk_2x]" in (folder / "vivado" / "constraints.xdc").read_text()) is (dsp_clock == 2)
    assert (folder / "weights.bin").stat().st_size == manifest["windows"]["weights"]["bytes"]
    script = (folder / "vivado" / "system.tcl").read_text()
    assert "[get_bd_intf_pins accelerator/m_axi_weights_3] [get_bd_intf_pins memory_hpc1/S00_AXI]" in script
