"""A TOML file that a user wrote: a network's or a board's description."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from model.errors import InputError


def read_toml(path: Path, what: str, example: str) -> dict[str, Any]:
    """The file's table. ``what``: it describes, model or board; ``example``: the file of ours that has one.

    Raises
    ------
    InputError : no such file, or not TOML
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"a {what} file must exist: {path} does not; give its path, or a {what} by name") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"a {what} file must be TOML: {path} is not ({error}); see {example}") from None


def refused(path: Path, rule: str, found: str) -> InputError:
    """What to raise where a field breaks a rule."""
    return InputError(f"{rule}: in {path} {found}; correct the file")
