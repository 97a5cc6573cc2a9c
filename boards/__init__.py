"""Boards by name. A board is one file with one class of data; adding one is that file and a line here."""

from __future__ import annotations

from importlib import import_module

#: name -> (module, class). Imported on use, so that a plan for one board does not read them all.
BOARDS = {
    "zcu102": ("boards.zcu102", "ZCU102Platform"),
}


def platform(name: str) -> type:
    """The platform class of the board called `name`.

    Raises
    ------
    InputError : no such board
    """
    from rtl.errors import InputError  # here, so that boards.driver goes to a host without rtl

    if name not in BOARDS:
        raise InputError(f"board must be one of {', '.join(sorted(BOARDS))}: {name} is not; choose one or add a file to boards/")
    module, cls = BOARDS[name]
    return getattr(import_module(module), cls)
