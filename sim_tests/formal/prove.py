"""Temporal induction with the Yosys of the ``pyosys`` wheel, on Amaranth components that contain Assert and Assume.

Every proof goes with a mutant that must be refuted by a run from reset: a proof that a broken design also passes says nothing.
"""

import importlib.util
import sys
import tempfile
import types
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring

from rtl.flow.toolchain import run

_PASSES = (
    "read_rtlil design.il",
    "hierarchy -top top",
    "proc",
    "flatten",
    # What memories hold is left open (any value), but their output registers stay.
    "memory_collect",
    "memory_nordff",
    "delete t:$mem_v2",
    "opt_clean",
    "async2sync",
    "dffunmap",
    "chformal -lower",
)
_DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.argv[1:]:
    libyosys.run_pass(line, design)
"""


def verdict(component: wiring.Component, *, steps: int = 12, induction: bool = True) -> str:
    """ "proved" by induction, "refuted" by a run from reset of at most ``steps`` cycles, or "open" (always so without ``induction``)."""
    text = rtlil.convert(component, name="top", emit_src=False, platform="formal")  # the library's queues then assert their own laws
    kind = "-tempinduct" if induction else "-tempinduct -tempinduct-baseonly"
    solve = f"sat -set rst 0 {kind} -prove-asserts -set-assumes -seq 1 -maxsteps {steps} top"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "design.il").write_text(text, encoding="utf-8")
        log = run([sys.executable, "-c", _DRIVER, *_PASSES, solve], what="proof", cwd=Path(folder))
    if "proof did fail" in log or "model found for base case: FAIL" in log:
        return "refuted"
    return "proved" if "Induction step proven: SUCCESS" in log else "open"


def mutant(module: str, old: str, new: str) -> types.ModuleType:
    """A second copy of a module in which ``old``, which must occur once, is replaced."""
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {module}"
    copy = types.ModuleType(module)
    copy.__dict__["__file__"] = spec.origin
    sys.modules.setdefault(module, copy)  # dataclasses look their module up
    exec(compile(source.replace(old, new), spec.origin, "exec"), copy.__dict__)
    return copy


def assert_stable(m: Module, name: str, port, *, allow=0) -> None:
    """Asserts that a stream keeps what it offered until it is taken; ``allow`` excuses the cycle that follows."""
    offered = Signal(name=f"{name}_offered")
    before = Signal.like(port.payload.as_value(), name=f"{name}_before")
    m.d.sync += [offered.eq(port.valid & ~port.ready & ~allow), before.eq(port.payload)]
    with m.If(offered):
        m.d.comb += Assert(port.valid & (port.payload.as_value() == before))
