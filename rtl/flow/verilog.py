"""Amaranth component -> plain Verilog, the same bytes every time.

The Yosys that comes in the `pyosys` wheel does in milliseconds what Amaranth's default (Yosys as WebAssembly) does in five seconds; the
passes are Amaranth's own. It runs in a process of its own, because Yosys numbers its names over the life of a process.
"""

import re
import sys
import tempfile
import warnings
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from rtl.flow.toolchain import ToolError, run

_INTERNAL = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")
_REMOVALS = " ".join(f"-remove {name}" for name in _INTERNAL)
_PASSES = (
    "read_rtlil design.il",
    "proc -nomux -norom",
    "memory_collect",
    f"attrmap {_REMOVALS}",
    f"attrmap -modattr {_REMOVALS}",
    "write_verilog -norename design.v",
)
_DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.argv[1:]:
    libyosys.run_pass(line, design)
"""
# Amaranth emits only processes that Yosys can write as Verilog, so these two say nothing.
_EXPECTED = ("because it contains processes", "contains unmapped RTLIL processes")


def export(component: wiring.Component, name: str) -> str:
    """The Verilog of ``component`` as module ``name``; sub-modules are called ``name.<path>``. A warning of either tool is an error.

    Raises
    ------
    ToolError: Yosys failed or warned.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return verilog_of(rtlil.convert(component, name=name, emit_src=False), name)


def verilog_of(text: str, name: str) -> str:
    """The Verilog of RTLIL ``text``, whose top module is ``name``. Raises as `export` does."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "design.il").write_text(text, encoding="utf-8")
        log = run([sys.executable, "-c", _DRIVER, *_PASSES], what=f"Verilog export of {name}", cwd=Path(folder))
        verilog = Path(folder, "design.v").read_text(encoding="utf-8")
    surprises = [line for line in re.findall(r"(?m)^Warning: .*$", log) if not any(known in line for known in _EXPECTED)]
    if surprises:
        raise ToolError(f"Verilog export of {name} warned: {surprises[0]}")
    return verilog
