"""What a design costs on the board: yosys synthesis for UltraScale+, our own counting and timing. No vendor tool.

The accelerator is one row times R plus the rest: rows are one module, and synthesising it once is what makes this quick.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from rtl.flow import netlist, timing
from rtl.flow.toolchain import ToolError, cache_folder, digest, run
from rtl.tech.clocking import FAST_CLOCK

SOURCE = "estimated by yosys, before place-and-route; Vivado has not been run"

_COUNTS = ("lut", "lut_raw", "lutram", "srl", "ff", "carry8", "dsp", "bram36")
_XILINX = "synth_xilinx -family xcup -top {top} -flatten -noiopad -noclkbuf"
# Registers are marked before names are lost, so that a stage can be told by the unit that it ends in. A field of an array has a name like
# that of a bit, on which abc's results would collide.
_SYNTHESIS = (
    "hierarchy -top {top}",
    "proc",
    "flatten",
    r"rename -hide w:*\[*",
    f"setattr -set {netlist.REGISTER} 1 t:$*dff* %co1:+[Q] w:* %i",
    f"{_XILINX} -run begin:map_luts",
)
# synth_xilinx maps LUTs for area wherever its delay model sees slack, which the longest carry chain gives to every other path, at any
# number of levels. abc maps for depth first, at the price of LUTs in wide selects. Each module gets what suits it: see `_better`.
_MAPPINGS = {
    "area": (f"{_XILINX} -run map_luts:edif",),
    "depth": (
        "opt_expr -mux_undef -noclkinv",
        "abc -luts 2:2,3,6:5,10,20 -dress",
        "clean",
        "xilinx_srl -fixed -minlen 3",
        "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
        "xilinx_dffopt",
        "opt_lut_ins -tech xilinx",
        f"{_XILINX} -run finalize:edif",
    ),
}
_DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.argv[1:]:
    libyosys.run_pass(line, design)
"""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a netlist occupies, and its worst stages.

    Parameters
    ----------
    lut : LUTs with dual-output pairs packed; lut_raw : without
    lutram, srl : of these, LUTs that are memories and shift registers
    ff, carry8, dsp, bram36 : flip-flops, CARRY8s, DSP48E2s, 36 Kb block memories (an 18 Kb one is half)
    levels, carries, deepest : LUT levels and carry chains of the stage with most of both, and that stage by name
    ns, slowest : modelled nanoseconds of the slowest stage, and that stage by name
    other : cells that are counted nowhere, by type: black boxes, clock buffers
    units : the stage with most levels that ends in each unit, by unit: {"levels", "carries", "ns", "path"}; of one netlist, not of a sum
    clocks : the same from registers of each clock to those of each, by "clock -> clock", where a netlist has two

    Resources add (the worse stage stays) and multiply by a count.
    """

    lut: int = 0
    lut_raw: int = 0
    lutram: int = 0
    srl: int = 0
    ff: int = 0
    carry8: int = 0
    dsp: int = 0
    bram36: float = 0.0
    levels: int = 0
    carries: int = 0
    deepest: str = ""
    ns: float = 0.0
    slowest: str = ""
    other: Mapping[str, int] = dataclasses.field(default_factory=dict)
    units: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    clocks: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def slicem(self) -> int:
        """LUTs that only SLICEMs have: memories and shift registers."""
        return self.lutram + self.srl

    def __add__(self, more: Resources) -> Resources:
        if not isinstance(more, Resources):
            return NotImplemented
        deep = max(self, more, key=lambda r: (r.levels + r.carries, r.ns))
        slow = max(self, more, key=lambda r: r.ns)
        return Resources(
            **{name: getattr(self, name) + getattr(more, name) for name in _COUNTS},
            levels=deep.levels, carries=deep.carries, deepest=deep.deepest, ns=slow.ns, slowest=slow.slowest,
            other={name: self.other.get(name, 0) + more.other.get(name, 0) for name in sorted({*self.other, *more.other})},
        )  # fmt: skip

    def __mul__(self, count: int) -> Resources:
        if not isinstance(count, int):
            return NotImplemented
        return dataclasses.replace(
            self,
            **{name: getattr(self, name) * count for name in _COUNTS},
            other={name: number * count for name, number in self.other.items()},
        )

    __rmul__ = __mul__

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self) | {"other": dict(self.other), "resource_source": SOURCE}


def budget(board) -> dict[str, float]:
    """What a build may occupy of `board` (a class of `boards`): its share of each resource. The rest is left to place and route."""
    return {name: share * board.capacity[name] for name, share in board.budget_share.items()}


def over_budget(resources: Resources, board) -> list[str]:
    """One line for each resource that exceeds the budget; empty if the design fits."""
    return [
        f"{name} must be at most {allowed:,.0f} ({board.budget_share[name]:.0%} of {board.capacity[name]:,} on {board.name}): "
        f"{getattr(resources, name):,.0f} is not"
        for name, allowed in budget(board).items()
        if getattr(resources, name) > allowed
    ]


def to_rtlil(design: wiring.Component | str, top: str) -> str:
    """`design` as RTLIL text; text is passed through. A warning of Amaranth is an error."""
    if isinstance(design, str):
        return design
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rtlil.convert(design, name=top, emit_src=False)


def estimate(
    design: wiring.Component | str,
    top: str,
    *,
    black_boxes: Mapping[str, wiring.Component | str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Resources:
    """Resources of `design`, a component or RTLIL text whose top module is `top`. Typically 10 to 60 seconds; kept by digest.

    Parameters
    ----------
    black_boxes : modules that `design` instantiates and that are not to be counted, by name: their ports are read, their contents dropped
    say : is told in a few words what is going on

    Raises
    ------
    ToolError : yosys failed
    """
    say = say or (lambda _: None)
    texts = {top: to_rtlil(design, top)} | {name: to_rtlil(box, name) for name, box in (black_boxes or {}).items()}
    sources = [Path(module.__file__).read_bytes() for module in (netlist, timing)] + [Path(__file__).read_bytes()]
    key = digest(version("pyosys"), *(part for item in texts.items() for part in item), *sources)
    kept = cache_folder("estimate") / f"{key}.json"
    if kept.exists():
        return Resources(**json.loads(kept.read_text(encoding="utf-8")))
    say(f"yosys: synthesising {top}")
    with tempfile.TemporaryDirectory() as folder:
        netlists = synthesise(Path(folder), top, texts)
    say(f"timing of {top}")
    resources = min(map(measure, netlists), key=_better)
    aside = kept.with_suffix(f".{key}.part")
    aside.write_text(json.dumps(dataclasses.asdict(resources)), encoding="utf-8")
    aside.replace(kept)
    return resources


def _better(resources: Resources) -> tuple[int, int]:
    """The mapping that keeps to the stage rule, 2 levels and a carry, at twice the clock a level alone; else, or if both do, that with
    fewer LUTs. Least is best."""
    fast = sum(max(stage["levels"] - 1, 0) + stage["carries"] for clocks, stage in resources.clocks.items() if FAST_CLOCK in clocks)
    return max(resources.levels - 2, 0) + max(resources.carries - 1, 0) + fast, resources.lut


def synthesise(folder: Path, top: str, texts: Mapping[str, str]) -> list[netlist.Netlist]:
    """A flat netlist for each mapping."""
    passes = []
    for index, (name, text) in enumerate(texts.items()):
        (folder / f"{index}.il").write_text(text, encoding="utf-8")
        if name != top:
            passes += [f"read_rtlil {index}.il", f"blackbox {name}"]
    passes += ["read_rtlil 0.il", *_SYNTHESIS, "design -save unmapped"]
    for name, mapping in _MAPPINGS.items():
        passes += ["design -load unmapped", *mapping, f"select {top}", f"write_json -selected {name}.json", "select -clear"]
    lines = [f"tee -q -a yosys.log {line.format(top=top)}" for line in passes]
    run([sys.executable, "-c", _DRIVER, *lines], what=f"synthesis of {top}", cwd=folder)
    return [netlist.Netlist.load(folder / f"{name}.json", top) for name in _MAPPINGS]


def measure(flat: netlist.Netlist) -> Resources:
    """Counts and worst stages of a flat netlist."""
    paths = timing.Timing(flat)
    if paths.loops:
        raise ToolError(f"the netlist has a combinational loop: {paths.loops} bits lie on one")
    slow, deep, units = paths.slowest(), paths.deepest(), paths.deepest_by_unit()
    clocks = {f"{start} -> {end}": stage for (start, end), stage in paths.deepest_by_clocks().items()}
    return Resources(
        **netlist.occupied(flat), levels=deep.levels, carries=deep.carries, deepest=str(deep), ns=slow.ns, slowest=str(slow),
        units={unit: _stage(stage) for unit, stage in units.items()}, clocks={name: _stage(stage) for name, stage in clocks.items()},
    )  # fmt: skip


def _stage(stage: timing.Stage) -> dict[str, Any]:
    return {"levels": stage.levels, "carries": stage.carries, "ns": stage.ns, "path": str(stage)}


def estimate_accelerator(
    row: wiring.Component | str,
    rest: wiring.Component | str,
    rows: int,
    *,
    row_module: str = "row",
    top: str = "accelerator",
    say: Callable[[str], None] | None = None,
) -> dict[str, Resources]:
    """`row`, `rest` and `total` = rows x row + rest. `rest` instantiates `row_module` `rows` times, as a black box.

    Raises
    ------
    ValueError : `rest` has another number of rows
    """
    row_text = to_rtlil(row, row_module)
    one = estimate(row_text, row_module, say=say)
    others = estimate(rest, top, black_boxes={row_module: row_text}, say=say)
    found = others.other.get(row_module, 0)
    if found != rows:
        raise ValueError(f"{top} must hold {rows} instances of {row_module}: it holds {found}")
    others = dataclasses.replace(others, other={name: count for name, count in others.other.items() if name != row_module})
    return {"row": one, "rest": others, "total": one * rows + others}
