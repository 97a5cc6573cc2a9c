"""Boards from files: the same data as a class of ours, and one line for everything that is wrong."""

import re

import pytest

from boards import platform
from boards.kv260 import KV260Platform
from rtl.errors import InputError

TEXT = """
name = "mine"
part = "xck26-sfvc784-2LV-c"
slicem_luts = 57600
ddr_bytes_per_s = 19200000000
pl_clock_hz = 250000000
[capacity]
lut = 117120
ff = 234240
dsp = 1248
bram36 = 144
[budget_share]
lut = 0.6
"""


def board_of(tmp_path, text):
    path = tmp_path / "board.toml"
    path.write_text(text)
    return platform(str(path))


def test_a_file_gives_what_a_class_of_ours_gives(tmp_path):
    board = board_of(tmp_path, TEXT)
    for name in ("part", "device", "package", "speed", "capacity", "slicem_luts", "ddr_bytes_per_s", "hp_ports", "pl_clock_hz"):
        assert getattr(board, name) == getattr(KV260Platform, name), name
    assert board.name == board.vivado_board == "mine"
    assert board.budget_share == {"lut": 0.6, "dsp": 0.8, "bram36": 0.8}
    assert board().family == KV260Platform().family == "ultrascaleplus"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dsp = 1248", "", "a board file must say lut, ff, dsp, bram36 under [capacity]: in {} capacity.dsp is missing; correct the file"),
        ("bram36 = 144", "bram36 = 0", "capacity.bram36 must be a positive number: in {} 0 is not"),
        ("lut = 117120", 'lut = "many"', "capacity.lut must be a positive number: in {} 'many' is not"),
        (
            'name = "mine"',
            "",
            "a board file must say name, part, slicem_luts, ddr_bytes_per_s, pl_clock_hz, capacity: in {} name is missing",
        ),
        ('name = "mine"', 'name = "../x"', "name must be letters, digits, _ and -: in {} '../x' is not"),
        ('name = "mine"', 'name = "mine"\ncolour = 3', "colour is something else"),
        ("slicem_luts = 57600", "slicem_luts = true", "slicem_luts of a board file must be of type int: in {} True is not"),
        ("slicem_luts = 57600", "slicem_luts = 120000", "slicem_luts must be at most capacity.lut: in {} 120,000 is not"),
        ("xck26-sfvc784-2LV-c", "xck26", "part must be device-package-speed-grade as Vivado spells it: in {} 'xck26' is not"),
        ("lut = 0.6", "lut = 1.5", "budget_share.lut must be above 0 and at most 1: in {} 1.5 is not"),
        ("lut = 0.6", "ff = 0.5", "[budget_share] may say lut, dsp, bram36: in {} ff is something else"),
        ("[capacity]", "[capacity", "a board file must be TOML: {} is not"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, old, new, said):
    assert old in TEXT
    with pytest.raises(InputError, match=re.escape(said.format(tmp_path / "board.toml"))) as error:
        board_of(tmp_path, TEXT.replace(old, new))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"^a board file must exist: .*nowhere.toml does not; give its path, or a board by name$"):
        platform(str(tmp_path / "nowhere.toml"))
