"""The Kria KV260 vision kit: a K26 module with a Zynq UltraScale+ of its own, XCK26.

Capacities are recalled from the module's data sheet (DS987) and were not compared with it. The device also has 64 UltraRAMs, which nothing
here uses yet. No pins are described: the accelerator needs none.
"""

from __future__ import annotations

import types

from boards.zynq_ultrascale import ZynqUltraScalePlatform

__all__ = ["KV260Platform"]


class KV260Platform(ZynqUltraScalePlatform):
    """XCK26 beside DDR4-2400 x 64. Attributes: `ZynqUltraScalePlatform`."""

    name, vivado_board = "kv260", "kv260_som"
    part = "xck26-sfvc784-2LV-c"
    capacity = types.MappingProxyType({"lut": 117_120, "ff": 234_240, "dsp": 1_248, "bram36": 144})
    slicem_luts = 57_600
    ddr_bytes_per_s = 19_200_000_000
    pl_clock_hz = 250_000_000
