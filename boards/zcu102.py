"""The ZCU102 evaluation board: Zynq UltraScale+ XCZU9EG, as an Amaranth platform in the manner of amaranth-boards.

Pins are recalled from the board guide (UG1182) and agree with constraint files that others publish for this board. They were not
compared with the guide or with the device's package file: verify them before use. The accelerator needs none of them: its clock,
its buses and its interrupt come from and go to the processing system.
"""

from __future__ import annotations

import types

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource
from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.vendor import XilinxPlatform
from amaranth_boards.resources import ButtonResources, LEDResources, SwitchResources, UARTResource

__all__ = ["ZCU102Platform"]

_LVCMOS33 = Attrs(IOSTANDARD="LVCMOS33")


class ZCU102Platform(XilinxPlatform):
    """Board and device as data, and the clock of a design that runs beside the processing system.

    Attributes beyond Amaranth's
    ----------------------------
    name, part : of the board in `boards.BOARDS`; of the device, as Vivado spells it
    capacity : LUTs, flip-flops, DSP48E2s and 36 Kb block memories of the device
    slicem_luts : of the LUTs, those that can be memory or shift registers
    budget_share : how much of each a build may occupy; the rest is left to place and route
    ddr_bytes_per_s : peak of the processing system's DDR4-2400 x 64; ddr_efficiency : share of it to plan with, an assumption
    hp_ports, hp_port_bits : AXI slave ports of the processing system into DDR
    pl_clock_hz : what the processing system's first fabric clock is set to
    """

    name = "zcu102"
    device = "xczu9eg"
    package = "ffvb1156"
    speed = "2-e"
    part = f"{device}-{package}-{speed}"
    default_clk = None  # `sync` comes from the processing system, below

    capacity = types.MappingProxyType({"lut": 274_080, "ff": 548_160, "dsp": 2_520, "bram36": 912})
    slicem_luts = 144_000
    budget_share = types.MappingProxyType({"lut": 0.75, "dsp": 0.80, "bram36": 0.80})
    ddr_bytes_per_s = 19_200_000_000
    ddr_efficiency = 0.75
    hp_ports = 4
    hp_port_bits = 128
    pl_clock_hz = 250_000_000

    resources = [
        Resource("clk125", 0, DiffPairs("G21", "F21", dir="i"), Clock(125e6), Attrs(IOSTANDARD="LVDS_25")),
        Resource("cpu_reset", 0, Pins("AM13", dir="i"), _LVCMOS33),
        *LEDResources(pins="AG14 AF13 AE13 AJ14 AJ15 AH13 AH14 AL12", attrs=_LVCMOS33),
        *ButtonResources(pins="AG13 AG15 AE14 AE15 AF15", attrs=_LVCMOS33),  # centre, north, east, south, west
        *SwitchResources(pins="AN14 AP14 AM14 AN13 AN12 AP12 AL13 AK13", attrs=_LVCMOS33),
        UARTResource(0, rx="E13", tx="F13", attrs=_LVCMOS33),
    ]
    connectors = []

    def create_missing_domain(self, name):
        """The `sync` domain: PS8's first fabric clock through BUFG_PS, no reset.

        Amaranth's default for this family goes through STARTUPE3 and a BUFGCE, which are not for a clock of the processing system.
        """
        if name != "sync":
            return super().create_missing_domain(name)
        m = Module()
        pl_clocks = Signal(4)
        m.submodules.ps8 = Instance("PS8", a_keep="TRUE", a_dont_touch="TRUE", o_PLCLK=pl_clocks)
        m.domains += ClockDomain("sync", reset_less=True)
        m.submodules.clock_buffer = Instance("BUFG_PS", i_I=pl_clocks[0], o_O=ClockSignal("sync"))
        return m


if __name__ == "__main__":
    from amaranth_boards.test.blinky import Blinky

    ZCU102Platform().build(Blinky(), do_build=False).extract("build/zcu102_blinky")
