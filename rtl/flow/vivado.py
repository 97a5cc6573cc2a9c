"""A Vivado project for the accelerator, written with no vendor tool present.

Files
-----
verilog/* : the sources, and `<top>_shell.v`: the accelerator with an active-low reset and the interface attributes that a block
    design wants, without the trace ports
constraints.xdc : the clock, or both of them where the rows' slices run at twice the clock, for the accelerator alone
project.tcl : project, synthesis and implementation of the accelerator alone (out of context), with reports
system.tcl : block design with the processing system, then the bitstream (`rtl.flow.vivado_system`)

Vivado has not been run on any of them. The tests run both scripts in an interpreter that knows the commands they use
(`sim_tests/flow/vivado_stub.tcl`): that finds misspelt commands, missing files and ports that are not there. It is no evidence of
timing, of the configuration names of the processing system, or of a bitstream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtl.errors import InputError
from rtl.flow.vivado_system import NOTICE, system_script
from rtl.tech.clocking import FAST_CLOCK

CONTROL, PROGRAM, DATA, PIXELS, INTERRUPT = "s_axi_control", "m_axi_program", "m_axi_data", "m_axi_pixels", "interrupt"
_NEEDED = (CONTROL, PROGRAM, DATA, PIXELS)
_WEIGHTS = re.compile(r"^(m_axi_weights_\d+)_arvalid$")

_CONSTRAINTS = """\
# {notice}
# The accelerator alone, out of context. In the block design the clock comes from the processing system.
create_clock -name clk -period {period_ns:.3f} [get_ports clk]
"""

_FAST_CONSTRAINTS = """\
# Of the rows' slices: in phase with clk, both rise at 0. Paths between the two are timed at one period of clk_2x, without exception.
create_clock -name clk_2x -period {fast_period_ns:.3f} [get_ports clk_2x]
"""

_PROJECT = """\
# {notice}
# vivado -mode batch -source project.tcl : synthesis and implementation of the accelerator alone, and its reports.
set here [file dirname [file normalize [info script]]]
create_project {top} [file join $here project] -part {part} -force
add_files -norecurse [list {sources}]
add_files -fileset constrs_1 -norecurse [list [file join $here constraints.xdc]]
set_property top {top} [current_fileset]
set_property -name {{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS}} -value {{-mode out_of_context}} -objects [get_runs synth_1]
update_compile_order -fileset sources_1
launch_runs synth_1
wait_on_run synth_1
launch_runs impl_1 -to_step route_design
wait_on_run impl_1
open_run impl_1
report_utilization -hierarchical -file [file join $here utilization.rpt]
report_timing_summary -file [file join $here timing.rpt]
report_drc -file [file join $here drc.rpt]
write_checkpoint -force [file join $here {top}_routed.dcp]
"""


@dataclass(frozen=True)
class Port:
    """One port of a Verilog module."""

    name: str
    direction: str
    width: int

    @property
    def declaration(self) -> str:
        return f"{self.direction} wire {f'[{self.width - 1}:0] ' if self.width > 1 else ''}{self.name}"


def module_ports(verilog: str, module: str) -> list[Port]:
    """Ports of `module` as yosys writes them: one declaration a line.

    Raises
    ------
    InputError : no such module
    """
    found = re.search(rf"^module \\?{re.escape(module)}\s*\(.*?^endmodule", verilog, re.DOTALL | re.MULTILINE)
    if found is None:
        raise InputError(f"the sources must hold the top module: {module} is not there; name another top")
    declarations = re.findall(r"^\s*(input|output)\s+(?:wire\s+|signed\s+)*(?:\[(\d+):0\]\s*)?(\w+)\s*;", found[0], re.MULTILINE)
    return [Port(name, direction, int(high or 0) + 1) for direction, high, name in declarations]


def weight_buses(ports: Sequence[Port]) -> list[str]:
    """Names of the masters that stream weights, in order."""
    return sorted(found[1] for port in ports if (found := _WEIGHTS.match(port.name)))


def shell(verilog: str, top: str, clock_mhz: float) -> str:
    """The module that a block design instantiates."""
    ports = module_ports(verilog, top)
    shown = (*_NEEDED, *weight_buses(ports))
    kept = [port for port in ports if port.name.startswith(tuple(f"{prefix}_" for prefix in shown)) or port.name == INTERRUPT]
    names = {port.name for port in ports}
    missing = [name for name in ("clk", "rst", INTERRUPT, *(f"{prefix}_arvalid" for prefix in _NEEDED)) if name not in names]
    if missing:
        lacks = ", ".join(missing)
        raise InputError(f"the top module of a Vivado project must have the accelerator's ports: {top} lacks {lacks}; name another top")
    buses = ":".join(shown)
    lines = [
        f"// {NOTICE}",
        f"module {top}_shell (",
        f'  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 aclk CLK", X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF {buses}, '
        f'ASSOCIATED_RESET aresetn, FREQ_HZ {round(clock_mhz * 1e6)}" *)',
        "  input wire aclk,",
        '  (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 aresetn RST", X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)',
        "  input wire aresetn,",
    ]
    if FAST_CLOCK in names:
        lines += [
            f'  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 a{FAST_CLOCK} CLK", '
            f'X_INTERFACE_PARAMETER = "FREQ_HZ {round(2 * clock_mhz * 1e6)}" *)',
            f"  input wire a{FAST_CLOCK},",
        ]
    for port in kept:
        if port.name == INTERRUPT:
            lines.append(
                '  (* X_INTERFACE_INFO = "xilinx.com:signal:interrupt:1.0 interrupt INTERRUPT", '
                'X_INTERFACE_PARAMETER = "SENSITIVITY LEVEL_HIGH" *)'
            )
        lines.append(f"  {port.declaration}{',' if port is not kept[-1] else ''}")
    clocks = [".clk(aclk)", *([f".{FAST_CLOCK}(a{FAST_CLOCK})"] if FAST_CLOCK in names else [])]
    connections = [*clocks, ".rst(~aresetn)", *(f".{port.name}({port.name})" for port in kept)]
    lines += [");", f"  {top} {top} (", *(f"    {text}," for text in connections[:-1]), f"    {connections[-1]}", "  );", "endmodule", ""]
    return "\n".join(lines)


def write_project(
    out_dir: Path | str,
    verilog_files: Sequence[Path | str],
    top: str,
    part: str,
    clock_mhz: float,
    *,
    board: str = "zcu102",
    hp_ports: int = 4,
) -> list[Path]:
    """Writes the project into `out_dir` and returns its files. The same input gives the same bytes.

    Parameters
    ----------
    verilog_files : the accelerator's sources; copied to `out_dir`/verilog, where they may already be
    part : as Vivado spells it; board : whose preset the processing system takes if Vivado knows the board
    hp_ports : ports into DDR that the block design may give to program and data, which share the first, and to weights, one each: the
        board's high-performance ones and `rtl.flow.vivado_system.SPARE_PORTS` cache-coherent ones. Pixels have one more

    Raises
    ------
    InputError : clock_mhz is not positive, the top module is not in the sources or lacks the accelerator's ports, or has too many
    """
    if clock_mhz <= 0:
        raise InputError(f"clock_mhz must be positive: {clock_mhz} is not; give the clock in MHz")
    out, files = Path(out_dir), {}
    for source in map(Path, verilog_files):
        files[f"verilog/{source.name}"] = source.read_text(encoding="utf-8")
    verilog, shell_name = "\n".join(files.values()), f"verilog/{top}_shell.v"
    files[shell_name] = shell(verilog, top, clock_mhz)
    ports = module_ports(verilog, top)
    weights, double = weight_buses(ports), FAST_CLOCK in {port.name for port in ports}
    if 1 + len(weights) > hp_ports:
        raise InputError(f"weight ports must be at most {hp_ports - 1} on {board}: {len(weights)} are not; configure fewer weight_ports")
    values = {"notice": NOTICE, "top": top, "part": part, "period_ns": 1000 / clock_mhz, "fast_period_ns": 500 / clock_mhz}
    alone = " ".join(f"[file join $here {name}]" for name in files if name != shell_name)
    everything = [f"[file join $here {name}]" for name in files]
    files["constraints.xdc"] = (_CONSTRAINTS + (_FAST_CONSTRAINTS if double else "")).format(**values)
    files["project.tcl"] = _PROJECT.format(**values, sources=alone)
    files["system.tcl"] = system_script(top, part, board, clock_mhz, everything, (PROGRAM, DATA), weights, PIXELS, double=double)
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [out / name for name in files]
