"""Boards by name, or from a file. A board is one file with one class of data; adding one is that file and a line here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

#: name -> (module, class). Imported on use, so that a plan for one board does not read them all.
BOARDS = {
    "zcu102": ("boards.zcu102", "ZCU102Platform"),
    "kv260": ("boards.kv260", "KV260Platform"),
}


def platform(name: str) -> type:
    """The platform class of the board called `name`, or of a TOML file: see `boards.files`.

    Raises
    ------
    InputError : no such board; a file that is not one
    """
    from rtl.errors import InputError  # here, so that boards.driver goes to a host without rtl

    if name.endswith(".toml"):
        from boards.files import read_board

        return read_board(Path(name))
    if name not in BOARDS:
        raise InputError(f"board must be one of {', '.join(sorted(BOARDS))}: {name} is not; choose one, or describe it in a .toml file")
    module, cls = BOARDS[name]
    return getattr(import_module(module), cls)
