import re

import pytest
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import AxiLite, AxiRead, AxiReadWrite, AxiWrite, flat_ports
from rtl.bus.axi_reader import AxiReaderConfig
from rtl.bus.axi_writer import AxiWriterConfig
from rtl.bus.ports import FlatPorts
from rtl.bus.registers import ControlRegistersConfig
from rtl.errors import InputError
from rtl.flow.verilog import export
from sim_tests.bus.shells import FlatShell

_ADDRESS = ("addr", "len", "id", "size", "burst", "lock", "cache", "prot", "qos", "valid", "ready")


def _wires(channel: str, *names: str) -> set[str]:
    return {channel + name for name in names}


READ = _wires("ar", *_ADDRESS) | _wires("r", "data", "resp", "last", "id", "valid", "ready")
WRITE = _wires("aw", *_ADDRESS) | _wires("w", "data", "strb", "last", "valid", "ready") | _wires("b", "resp", "id", "valid", "ready")
LITE = (
    _wires("aw", "addr", "prot", "valid", "ready") | _wires("w", "data", "strb", "valid", "ready") | _wires("b", "resp", "valid", "ready")
)
LITE |= _wires("ar", "addr", "prot", "valid", "ready") | _wires("r", "data", "resp", "valid", "ready")


@pytest.mark.parametrize("signature, names", [(AxiRead(), READ), (AxiWrite(), WRITE), (AxiReadWrite(), READ | WRITE), (AxiLite(12), LITE)])
def test_flat_names_are_the_standard_ones(signature, names: set[str]) -> None:
    assert {wire.name for wire in flat_ports(signature)} == names


def test_directions_and_widths() -> None:
    master = FlatPorts("m_axi_data", AxiReadWrite()).members()
    assert master["m_axi_data_araddr"] == Out(40) and master["m_axi_data_arready"] == In(1)
    assert master["m_axi_data_rdata"] == In(128) and master["m_axi_data_rready"] == Out(1)
    assert master["m_axi_data_wstrb"] == Out(16) and master["m_axi_data_bresp"] == In(2)
    slave = FlatPorts("s_axi_control", AxiLite(12), slave=True).members()
    assert slave["s_axi_control_awaddr"] == In(12) and slave["s_axi_control_awready"] == Out(1)
    assert slave["s_axi_control_rdata"] == Out(32) and slave["s_axi_control_awprot"] == In(3)


def test_exported_ports_are_flat() -> None:
    header = export(FlatShell(AxiReaderConfig().build()), "reader").partition("module reader(")[2].partition(")")[0]
    ports = {port.strip() for port in header.split(",") if port.strip().startswith("m_axi_")}
    assert ports == {f"m_axi_{name}" for name in READ}


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: AxiReaderConfig(depth=40), "depth must be a multiple of 16, at least 32: 40 is not; use 64"),
        (lambda: AxiReaderConfig(depth=16), "depth must be a multiple of 16, at least 32: 16 is not; use 64"),
        (lambda: AxiReaderConfig(bursts=1), "bursts must be at least 2: 1 is not; use 16"),
        (lambda: AxiWriterConfig(bursts=0), "bursts must be at least 2: 0 is not; use 8"),
        (
            lambda: ControlRegistersConfig(rows=-1, inputs=1, bits=1, lanes=1, passes=1),
            "rows must fit 32 bits: -1 does not; check the configuration",
        ),
    ],
)
def test_bad_configurations_are_refused_in_one_line(build, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        build()
