"""A board described in a TOML file: the data of `boards.zynq_ultrascale.ZynqUltraScalePlatform`, for plans and builds on boards that
are not in `boards.BOARDS`.

    name = "mine"
    part = "xczu7ev-ffvc1156-2-e"
    slicem_luts = 101760
    ddr_bytes_per_s = 19200000000
    pl_clock_hz = 250000000

    [capacity]
    lut = 230400
    ff = 460800
    dsp = 1728
    bram36 = 312

Beside these, where they differ: vivado_board, ddr_efficiency, hp_ports, hp_port_bits and shares of the budget in [budget_share].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boards.zynq_ultrascale import BUDGET_SHARE, ZynqUltraScalePlatform
from model.toml_file import read_toml, refused

SUFFIX = ".toml"
RESOURCES = ("lut", "ff", "dsp", "bram36")
_NEEDED = {"name": str, "part": str, "slicem_luts": int, "ddr_bytes_per_s": int, "pl_clock_hz": int, "capacity": dict}
_OPTIONAL = {"vivado_board": str, "ddr_efficiency": float, "hp_ports": int, "hp_port_bits": int, "budget_share": dict}
_PART, _NAME = re.compile(r"xc\w+-\w+-\w+-\w+"), re.compile(r"\w[\w-]*")


def read_board(path: Path) -> type[ZynqUltraScalePlatform]:
    """The platform class of a board file. Raises InputError where it is missing, not TOML, or says too little, too much or nonsense."""
    fields = _checked(path, read_toml(path, "board", "boards/files.py"))
    fields["budget_share"] = {**BUDGET_SHARE, **fields.get("budget_share", {})}
    fields.setdefault("vivado_board", fields["name"])
    return type("BoardFromFile", (ZynqUltraScalePlatform,), fields)


def _checked(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    known = _NEEDED | _OPTIONAL
    missing = [key for key in _NEEDED if key not in fields]
    if missing:
        raise refused(path, f"a board file must say {', '.join(_NEEDED)}", f"{missing[0]} is missing")
    for key, value in fields.items():
        if key not in known:
            raise refused(path, f"a board file may say {', '.join(known)}", f"{key} is something else")
        wanted = (int, float) if known[key] is float else known[key]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise refused(path, f"{key} of a board file must be of type {known[key].__name__}", f"{value!r} is not")
    _check_amounts(path, {f"capacity.{name}": fields["capacity"].get(name) for name in RESOURCES})
    _check_amounts(path, {key: value for key, value in fields.items() if isinstance(value, int | float)})
    _check_shares(path, fields.get("budget_share", {}))
    if not _PART.fullmatch(fields["part"]):
        raise refused(path, "part must be device-package-speed-grade as Vivado spells it", f"{fields['part']!r} is not")
    if not _NAME.fullmatch(fields["name"]):
        raise refused(path, "name must be letters, digits, _ and -", f"{fields['name']!r} is not")
    if fields["slicem_luts"] > fields["capacity"]["lut"]:
        raise refused(path, "slicem_luts must be at most capacity.lut", f"{fields['slicem_luts']:,} is not")
    return fields


def _check_amounts(path: Path, amounts: Mapping[str, Any]) -> None:
    for name, value in amounts.items():
        if value is None:
            raise refused(path, f"a board file must say {', '.join(RESOURCES)} under [capacity]", f"{name} is missing")
        if not isinstance(value, int | float) or not value > 0:
            raise refused(path, f"{name} must be a positive number", f"{value!r} is not")


def _check_shares(path: Path, shares: Mapping[str, Any]) -> None:
    for name, value in shares.items():
        if name not in BUDGET_SHARE:
            raise refused(path, f"[budget_share] may say {', '.join(BUDGET_SHARE)}", f"{name} is something else")
        if not isinstance(value, int | float) or not 0 < value <= 1:
            raise refused(path, f"budget_share.{name} must be above 0 and at most 1", f"{value!r} is not")
