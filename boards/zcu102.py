"""The ZCU102 evaluation board: Zynq UltraScale+ XCZU9EG, as an Amaranth platform in the manner of amaranth-boards.

Pins are recalled from the board guide (UG1182) and agree with constraint files that others publish for this board. They were not
compared with the guide or with the device's package file: verify them before use. The accelerator needs none of them: its clock,
its buses and its interrupt come from and go to the processing system.
"""

from __future__ import annotations

import types

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource
from amaranth_boards.resources import ButtonResources, LEDResources, SwitchResources, UARTResource

from boards.zynq_ultrascale import ZynqUltraScalePlatform

__all__ = ["ZCU102Platform"]

_LVCMOS33 = Attrs(IOSTANDARD="LVCMOS33")


class ZCU102Platform(ZynqUltraScalePlatform):
    """XCZU9EG beside DDR4-2400 x 64. Attributes: `ZynqUltraScalePlatform`."""

    name = vivado_board = "zcu102"
    part = "xczu9eg-ffvb1156-2-e"
    capacity = types.MappingProxyType({"lut": 274_080, "ff": 548_160, "dsp": 2_520, "bram36": 912})
    slicem_luts = 144_000
    ddr_bytes_per_s = 19_200_000_000
    pl_clock_hz = 250_000_000

    resources = [
        Resource("clk125", 0, DiffPairs("G21", "F21", dir="i"), Clock(125e6), Attrs(IOSTANDARD="LVDS_25")),
        Resource("cpu_reset", 0, Pins("AM13", dir="i"), _LVCMOS33),
        *LEDResources(pins="AG14 AF13 AE13 AJ14 AJ15 AH13 AH14 AL12", attrs=_LVCMOS33),
        *ButtonResources(pins="AG13 AG15 AE14 AE15 AF15", attrs=_LVCMOS33),  # centre, north, east, south, west
        *SwitchResources(pins="AN14 AP14 AM14 AN13 AN12 AP12 AL13 AK13", attrs=_LVCMOS33),
        UARTResource(0, rx="E13", tx="F13", attrs=_LVCMOS33),
    ]


if __name__ == "__main__":
    from amaranth_boards.test.blinky import Blinky

    ZCU102Platform().build(Blinky(), do_build=False).extract("build/zcu102_blinky")
