"""The Vivado project: its bytes, and both scripts in a stub interpreter with seeded faults. Vivado itself is not run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from boards import platform
from rtl.errors import InputError
from rtl.flow.vivado import NOTICE, module_ports, write_project
from rtl.flow.vivado_system import SPARE_PORTS

STUB = Path(__file__).with_name("vivado_stub.tcl")
PART = platform("zcu102").part

BUSES = {"s_axi_control": 12, "m_axi_program": 40, "m_axi_data": 40, "m_axi_pixels": 40}


def accelerator(weight_ports: int = 3, clocks: tuple[str, ...] = ("clk",)) -> str:
    """The accelerator as yosys writes it, with two signals of each bus."""
    ports = [*(("input", clock, 1) for clock in clocks), ("input", "rst", 1)]
    for bus, width in [*BUSES.items(), *((f"m_axi_weights_{port}", 40) for port in range(weight_ports))]:
        direction = "input" if bus.startswith("s_") else "output"
        ports += [(direction, f"{bus}_araddr", width), (direction, f"{bus}_arvalid", 1)]
    ports += [("output", "trace", 32), ("output", "interrupt", 1)]
    lines = [f"module accelerator({', '.join(name for _, name, _ in ports)});"]
    for direction, name, width in ports:
        span = f"[{width - 1}:0] " if width > 1 else ""
        lines += [f"  {direction} {span}{name};", f"  wire {span}{name};"]
    return "\n".join([*lines, "endmodule", ""])


ACCELERATOR = accelerator()


@pytest.fixture
def project(tmp_path):
    source = tmp_path / "accelerator.v"
    source.write_text(ACCELERATOR)
    write_project(tmp_path / "vivado", [source], "accelerator", PART, 250)
    return tmp_path / "vivado"


def run_stub(script):
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    return subprocess.run(["tclsh", str(STUB), str(script)], capture_output=True, text=True)


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_same_input_same_bytes_and_no_absolute_path(project, tmp_path):
    source = tmp_path / "accelerator.v"
    again = write_project(tmp_path / "again", [source], "accelerator", PART, 250)
    assert len(again) == 5
    for path in again:
        twin = project / path.relative_to(tmp_path / "again")
        assert path.read_bytes() == twin.read_bytes()
        assert str(tmp_path) not in path.read_text()
    for name in ("constraints.xdc", "project.tcl", "system.tcl", "verilog/accelerator_shell.v"):
        assert NOTICE in (project / name).read_text()


def test_clock_and_part(project):
    assert "create_clock -name clk -period 4.000 [get_ports clk]" in (project / "constraints.xdc").read_text()
    assert f"-part {PART} " in (project / "project.tcl").read_text()


def test_shell_has_the_buses_and_no_trace(project):
    text = (project / "verilog" / "accelerator_shell.v").read_text()
    assert "input wire [11:0] s_axi_control_araddr," in text and "output wire interrupt\n" in text
    assert "trace" not in text and ".rst(~aresetn)" in text
    assert "s_axi_control:m_axi_program:m_axi_data:m_axi_pixels:m_axi_weights_0:m_axi_weights_1:m_axi_weights_2" in text


def test_ports_are_read_with_their_widths():
    ports = {port.name: (port.direction, port.width) for port in module_ports(ACCELERATOR, "accelerator")}
    assert ports["m_axi_data_araddr"] == ("output", 40) and ports["clk"] == ("input", 1) and len(ports) == 18


@pytest.mark.parametrize("weight_ports", [0, 1, 3])
def test_memory_ports_of_the_processing_system(tmp_path, weight_ports):
    """Program and data share HP0, each weight port has its own, pixels take HPC0; no other port is switched on."""
    source = tmp_path / "accelerator.v"
    source.write_text(accelerator(weight_ports))
    write_project(tmp_path / "vivado", [source], "accelerator", PART, 250)
    script = tmp_path / "vivado" / "system.tcl"
    done = run_stub(script)
    assert (done.returncode, done.stderr) == (0, "")
    text = script.read_text()
    assert [f"S_AXI_GP{n + 2} 1" in text for n in range(4)] == [n <= weight_ports for n in range(4)]
    assert "S_AXI_GP0 1" in text and "S_AXI_GP1 1" not in text
    assert "[get_bd_intf_pins accelerator/m_axi_pixels] [get_bd_intf_pins memory_hpc0/S00_AXI]" in text
    for n in range(weight_ports):
        assert f"[get_bd_intf_pins accelerator/m_axi_weights_{n}] [get_bd_intf_pins memory_hp{n + 1}/S00_AXI]" in text
        assert f"[get_bd_intf_pins memory_hp{n + 1}/M00_AXI] [get_bd_intf_pins ps/S_AXI_HP{n + 1}_FPD]" in text


def test_a_fourth_weight_port_takes_the_second_coherent_port(tmp_path):
    """EfficientViT's seven masters on six ports."""
    source = tmp_path / "accelerator.v"
    source.write_text(accelerator(4))
    board = platform("zcu102")
    write_project(tmp_path / "vivado", [source], "accelerator", PART, 250, hp_ports=board.hp_ports + SPARE_PORTS)
    script = tmp_path / "vivado" / "system.tcl"
    done = run_stub(script)
    assert (done.returncode, done.stderr) == (0, "")
    text = script.read_text()
    assert all(f"S_AXI_GP{n} 1" in text for n in range(6))
    assert "[get_bd_intf_pins accelerator/m_axi_weights_3] [get_bd_intf_pins memory_hpc1/S00_AXI]" in text
    replace(script, "PSU__USE__S_AXI_GP1 1", "PSU__USE__S_AXI_GP1 0")
    assert "ps/S_AXI_HPC1_FPD is used and not enabled" in run_stub(script).stderr


@pytest.fixture
def double(tmp_path):
    """A project whose slices run at twice the clock."""
    source = tmp_path / "accelerator.v"
    source.write_text(accelerator(clocks=("clk", "clk_2x")))
    write_project(tmp_path / "vivado", [source], "accelerator", PART, 250)
    return tmp_path / "vivado"


def test_both_clocks_come_from_one_mmcm(double):
    """250 and 500 MHz, phase 0, and nothing that excepts a path from being timed."""
    constraints, script = (double / "constraints.xdc").read_text(), (double / "system.tcl").read_text()
    assert "create_clock -name clk -period 4.000 [get_ports clk]\n" in constraints
    assert "create_clock -name clk_2x -period 2.000 [get_ports clk_2x]\n" in constraints
    assert not any(word in constraints for word in ("set_false_path", "set_clock_groups", "set_multicycle_path"))
    assert "CONFIG.CLKOUT1_REQUESTED_OUT_FREQ 250 " in script and "CONFIG.CLKOUT2_REQUESTED_OUT_FREQ 500 " in script
    assert script.count("xilinx.com:ip:clk_wiz ") == 1
    shell = (double / "verilog" / "accelerator_shell.v").read_text()
    assert ".clk_2x(aclk_2x)" in shell and "FREQ_HZ 500000000" in shell
    for name in ("project.tcl", "system.tcl"):
        done = run_stub(double / name)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("system.tcl", "[get_bd_pins accelerator/aclk_2x]", "[get_bd_pins accelerator/aclk]", "accelerator/aclk is driven twice"),
        ("system.tcl", "connect_bd_net [get_bd_pins clocks/clk_out2] [get_bd_pins accelerator/aclk_2x]\n", "", "aclk_2x is not connected"),
        ("system.tcl", "CLKOUT2_REQUESTED_OUT_FREQ 500", "CLKOUT2_REQUESTED_OUT_FREQ 499", "not twice the first"),
        ("system.tcl", "CLKOUT2_REQUESTED_PHASE 0", "CLKOUT2_REQUESTED_PHASE 90", "not twice the first"),
        ("system.tcl", "connect_bd_net [get_bd_pins clocks/locked] [get_bd_pins reset/dcm_locked]\n", "", "reset/dcm_locked is not"),
        ("constraints.xdc", "[get_ports clk_2x]", "[get_ports clk2x]", "no port clk2x on accelerator"),
    ],
)
def test_faults_of_the_second_clock_are_found(double, file, old, new, message):
    replace(double / file, old, new)
    done = run_stub(double / ("system.tcl" if file == "system.tcl" else "project.tcl"))
    assert done.returncode == 1 and message in done.stderr


def test_more_weight_ports_than_the_board_has(tmp_path):
    source = tmp_path / "accelerator.v"
    source.write_text(accelerator(3))
    with pytest.raises(InputError, match=r"^weight ports must be at most 2 on other: 3 are not; configure fewer weight_ports$"):
        write_project(tmp_path / "out", [source], "accelerator", PART, 250, board="other", hp_ports=3)


@pytest.mark.parametrize("script", ["project.tcl", "system.tcl"])
def test_script_passes_the_stub(project, script):
    done = run_stub(project / script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "last stage: open" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "status", "message"),
    [
        ("project.tcl", "launch_runs synth_1", "lanch_runs synth_1", 2, "unknown Vivado command: lanch_runs"),
        ("project.tcl", "-part xczu9eg-ffvb1156-2-e", "-part xczu9eg-ffvb1156-3-e", 1, "part is not"),
        ("project.tcl", "verilog/accelerator.v", "verilog/accelerater.v", 1, "no such file"),
        ("project.tcl", "-norecurse [list [file", "-nonrecurse [list [file", 1, "no option -nonrecurse"),
        ("project.tcl", "launch_runs synth_1\nwait_on_run synth_1\n", "", 1, "implementation before synthesis"),
        ("constraints.xdc", "[get_ports clk]", "[get_ports clock]", 1, "no port clock on accelerator"),
        ("constraints.xdc", "create_clock", "create_clok", 2, "unknown Vivado command: create_clok"),
        ("system.tcl", "accelerator/m_axi_data]", "accelerator/m_axi_date]", 1, "no pin accelerator/m_axi_date"),
        ("system.tcl", "accelerator/aclk", "", 1, "accelerator/aclk is not connected"),
        ("system.tcl", "S_AXI_HP1_FPD", "S_AXI_HP0_FPD", 1, "ps/S_AXI_HP0_FPD is driven twice"),
        ("system.tcl", "accelerator/m_axi_weights_2]", "accelerator/m_axi_weights_3]", 1, "no pin accelerator/m_axi_weights_3"),
        ("system.tcl", "PSU__USE__S_AXI_GP5 1", "PSU__USE__S_AXI_GP5 0", 1, "ps/S_AXI_HP3_FPD is used and not enabled"),
        ("system.tcl", " ps/saxihp2_fpd_aclk", "", 1, "ps/saxihp2_fpd_aclk is not connected"),
        ("system.tcl", "PSU__USE__S_AXI_GP0 1", "PSU__USE__S_AXI_GP0 0", 1, "ps/S_AXI_HPC0_FPD is used and not enabled"),
        ("system.tcl", "accelerator/m_axi_pixels]", "accelerator/m_axi_data]", 1, "accelerator/m_axi_pixels is not connected"),
        ("system.tcl", "NUM_SI 2", "NUM_SI 3", 1, "memory_hp0/S02_AXI is not connected"),
        ("system.tcl", " memory_hp3/aresetn", "", 1, "memory_hp3/aresetn is not connected"),
        ("verilog/accelerator_shell.v", "m_axi_program", "m_axi_programme", 1, "no pin accelerator/m_axi_program"),
    ],
)
def test_seeded_faults_are_found(project, file, old, new, status, message):
    replace(project / file, old, new)
    done = run_stub(project / ("system.tcl" if file.startswith(("system", "verilog")) else "project.tcl"))
    assert done.returncode == status
    assert message in done.stderr


def test_wrong_input_is_one_line(tmp_path):
    source = tmp_path / "other.v"
    source.write_text("module other(clk);\n  input clk;\nendmodule\n")
    with pytest.raises(InputError, match=r"^the sources must hold the top module: accelerator is not there; name another top$"):
        write_project(tmp_path / "out", [source], "accelerator", PART, 250)
    with pytest.raises(InputError, match=r"other lacks rst, interrupt, s_axi_control_arvalid"):
        write_project(tmp_path / "out", [source], "other", PART, 250)
    with pytest.raises(InputError, match=r"^clock_mhz must be positive: 0 is not; give the clock in MHz$"):
        write_project(tmp_path / "out", [source], "other", PART, 0)
    assert not (tmp_path / "out").exists()
