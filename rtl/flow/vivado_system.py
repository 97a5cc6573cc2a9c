"""The script of the block design: the accelerator beside the processing system of a Zynq UltraScale+, up to the bitstream.

Program and data share the first high-performance port through a SmartConnect; every weight port has one of its own, so that weights stream
at the ports' full rate. Pixels take the first of the cache-coherent ports: no high-performance port is left. A fourth weight port takes the
second one: `SPARE_PORTS` is what there is beside the board's high-performance ports.
See `rtl.flow.vivado` for what has been checked and what has not.
"""

from __future__ import annotations

from collections.abc import Sequence

NOTICE = "Written by popvit. Vivado has not been run on this file."

#: Of the processing system, in the order in which they are taken; and the one for pixels.
_PORTS, _PIXELS_PORT = ("hp0", "hp1", "hp2", "hp3", "hpc1"), "hpc0"
#: Ports for weights beside the high-performance ones.
SPARE_PORTS = 1

_SCRIPT = """\
# {notice}
# vivado -mode batch -source system.tcl : the accelerator beside the processing system, and the bitstream.
# Control on HPM0, program and data on HP0, weight port n on HP(n + 1), the fourth on HPC1, pixels on HPC0, the interrupt on pl_ps_irq0[0].
set here [file dirname [file normalize [info script]]]
create_project system [file join $here system] -part {part} -force
set board [lindex [get_board_parts -quiet -latest_file_version {{*:{board}:*}}] 0]
if {{$board ne ""}} {{ set_property board_part $board [current_project] }}
add_files -norecurse [list {sources}]
update_compile_order -fileset sources_1
create_bd_design system

create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps
if {{$board ne ""}} {{
    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {{apply_board_preset "1"}} [get_bd_cells ps]
}}
set_property -dict [list \\
    CONFIG.PSU__FPGA_PL0_ENABLE 1 CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ {clock_mhz} \\
    CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0 \\
{memory_ports}
    CONFIG.PSU__USE__IRQ0 1] [get_bd_cells ps]
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset
create_bd_cell -type module -reference {top}_shell accelerator
{clocking}{connects}

connect_bd_intf_net [get_bd_intf_pins ps/M_AXI_HPM0_FPD] [get_bd_intf_pins control/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins control/M00_AXI] [get_bd_intf_pins accelerator/s_axi_control]
{buses}
foreach pin {{ps/maxihpm0_fpd_aclk reset/slowest_sync_clk accelerator/aclk
        {clocks}}} {{
    connect_bd_net [get_bd_pins {clock}] [get_bd_pins $pin]
}}
connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]
foreach pin {{accelerator/aresetn {resets}}} {{
    connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}}
connect_bd_net [get_bd_pins accelerator/interrupt] [get_bd_pins ps/pl_ps_irq0]

assign_bd_address
validate_bd_design
save_bd_design
set wrapper [make_wrapper -files [get_files system.bd] -top]
add_files -norecurse $wrapper
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1
launch_runs impl_1 -to_step write_bitstream
wait_on_run impl_1
open_run impl_1
report_utilization -hierarchical -file [file join $here system_utilization.rpt]
report_timing_summary -file [file join $here system_timing.rpt]
write_hw_platform -fixed -include_bit -force [file join $here system.xsa]
"""

#: Both clocks are outputs of one MMCM with phase 0, and their trees are routed alike: paths between them are ordinary ones.
_CLOCKING = """\
create_bd_cell -type ip -vlnv xilinx.com:ip:clk_wiz clocks
set_property -dict [list CONFIG.PRIMITIVE MMCM CONFIG.PRIM_SOURCE No_buffer CONFIG.PRIM_IN_FREQ {clock_mhz} CONFIG.USE_RESET false \\
    CONFIG.CLKOUT1_REQUESTED_OUT_FREQ {clock_mhz} CONFIG.CLKOUT1_REQUESTED_PHASE 0 CONFIG.CLKOUT1_MATCHED_ROUTING true \\
    CONFIG.CLKOUT2_USED true \\
    CONFIG.CLKOUT2_REQUESTED_OUT_FREQ {fast_mhz} CONFIG.CLKOUT2_REQUESTED_PHASE 0 CONFIG.CLKOUT2_MATCHED_ROUTING true] [get_bd_cells clocks]
connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins clocks/clk_in1]
connect_bd_net [get_bd_pins clocks/locked] [get_bd_pins reset/dcm_locked]
connect_bd_net [get_bd_pins clocks/clk_out2] [get_bd_pins accelerator/aclk_2x]
"""


def system_script(
    top: str, part: str, board: str, clock_mhz: float, sources: Sequence[str], shared: Sequence[str], weights: Sequence[str], pixels: str,
    *, double: bool = False,
) -> str:  # fmt: skip
    """The script's text.

    Parameters
    ----------
    sources : Tcl words, one per file        shared, weights : masters of the shell on HP0, and on one port each, four at most
    pixels : on HPC0        double : the shell has a second clock, of twice the rate: then one MMCM makes both
    """
    masters = [tuple(shared), *((name,) for name in weights)]
    ports = dict(zip(_PORTS[: len(masters)], masters, strict=True)) | {_PIXELS_PORT: (pixels,)}
    blocks = {"control": 1} | {f"memory_{port}": len(joined) for port, joined in ports.items()}
    lines = []
    for port, joined in ports.items():
        for index, master in enumerate(joined):
            lines.append(_join(f"accelerator/{master}", f"memory_{port}/S{index:02}_AXI"))
        lines.append(_join(f"memory_{port}/M00_AXI", f"ps/S_AXI_{port.upper()}_FPD"))
    clocks = [f"{name}/aclk" for name in blocks] + [f"ps/saxi{port}_fpd_aclk" for port in ports]
    return _SCRIPT.format(
        notice=NOTICE,
        top=top,
        part=part,
        board=board,
        clock_mhz=f"{clock_mhz:g}",
        sources=" ".join(sources),
        memory_ports="\n".join(_memory_port(port) for port in ports),
        clocking=_CLOCKING.format(clock_mhz=f"{clock_mhz:g}", fast_mhz=f"{2 * clock_mhz:g}") if double else "",
        clock="clocks/clk_out1" if double else "ps/pl_clk0",
        connects="\n".join(_connect(name, count) for name, count in blocks.items()),
        buses="\n".join(lines),
        clocks=" ".join(clocks),
        resets=" ".join(f"{name}/aresetn" for name in blocks),
    )


def _join(master: str, slave: str) -> str:
    return f"connect_bd_intf_net [get_bd_intf_pins {master}] [get_bd_intf_pins {slave}]"


def _memory_port(port: str) -> str:
    """High-performance port n is the processing system's S_AXI_GP(n + 2), cache-coherent port n its S_AXI_GP(n)."""
    number = int(port[-1]) + (0 if port.startswith("hpc") else 2)
    return f"    CONFIG.PSU__USE__S_AXI_GP{number} 1 CONFIG.PSU__SAXIGP{number}__DATA_WIDTH 128 \\"


def _connect(name: str, slaves: int) -> str:
    return (
        f"create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect {name}\n"
        f"set_property -dict [list CONFIG.NUM_SI {slaves} CONFIG.NUM_MI 1] [get_bd_cells {name}]"
    )
