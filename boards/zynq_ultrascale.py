"""What boards with a Zynq UltraScale+ have in common: the data that the flow reads of them, and the clock of the processing system."""

from __future__ import annotations

import types
from collections.abc import Mapping

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.vendor import XilinxPlatform

#: Of the LUTs, DSPs and block memories, what a build may occupy; the rest is left to place and route.
BUDGET_SHARE: Mapping[str, float] = types.MappingProxyType({"lut": 0.75, "dsp": 0.80, "bram36": 0.80})


class ZynqUltraScalePlatform(XilinxPlatform):
    """Board and device as data, and the clock of a design that runs beside the processing system.

    Attributes beyond Amaranth's
    ----------------------------
    name : of the board in `boards.BOARDS`        vivado_board : of its board file, whose preset the processing system takes
    part : of the device, as Vivado spells it: device-package-speed-grade; Amaranth's own attributes follow from it
    capacity : LUTs, flip-flops, DSP48E2s and 36 Kb block memories of the device
    slicem_luts : of the LUTs, those that can be memory or shift registers
    budget_share : how much of each a build may occupy; the rest is left to place and route
    ddr_bytes_per_s : peak of the processing system's memory; ddr_efficiency : share of it to plan with, an assumption
    hp_ports, hp_port_bits : AXI slave ports of the processing system into DDR
    pl_clock_hz : what the processing system's first fabric clock is set to
    """

    name: str
    vivado_board: str
    part: str
    capacity: Mapping[str, int]
    slicem_luts: int
    budget_share = BUDGET_SHARE
    ddr_bytes_per_s: int
    ddr_efficiency = 0.75
    hp_ports = 4
    hp_port_bits = 128
    pl_clock_hz: int
    default_clk = None  # `sync` comes from the processing system, below
    device, package, speed = "", "", ""
    resources: list = []
    connectors: list = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.device, cls.package, cls.speed = cls.part.split("-", 2)

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
