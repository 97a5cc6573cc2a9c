"""A simulated accelerator as a host sees it: windows in memory, registers, one run per image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtl.accelerator import ROW_MODULE, Accelerator
from rtl.bus.register_map import BIT, OFFSET
from rtl.config import AcceleratorConfig
from rtl.flow.verilator import Simulator
from rtl.flow.verilog import export
from rtl.program.compiler import CompiledProgram
from rtl.row import Row

TOP_MODULE = "accelerator"
WINDOW_ALIGNMENT = 4096
FIRST_WINDOW = 0x10_0000


@dataclass(frozen=True, kw_only=True)
class MachineError(Exception):
    """The machine stopped by itself. ``code`` and ``detail`` are the ERROR register's name and the registers that explain it."""

    code: int
    detail: dict[str, int]

    def __str__(self) -> str:
        return f"the accelerator stopped with error {self.code}: {self.detail}"


def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Verilog of the row module, then of the accelerator that instantiates it."""
    return export(Row(config), ROW_MODULE) + export(Accelerator(config), TOP_MODULE)


def windows(compiled: CompiledProgram) -> dict[str, tuple[int, int]]:
    """(address, bytes) of each DDR window, one after the other."""
    placed, address = {}, FIRST_WINDOW
    sizes = {
        "program": len(compiled.program),
        "weights": len(compiled.weights),
        "image": -(-compiled.image_bytes // 16) * 16,
        "result": -(-compiled.result_bytes // 16) * 16,
    }
    for name, size in sizes.items():
        placed[name] = (address, size)
        address += -(-size // WINDOW_ALIGNMENT) * WINDOW_ALIGNMENT
    return placed


class Machine:
    """The accelerator in Verilator with its program loaded.

    Parameters
    ----------
    config, compiled : what to simulate        verilog : from `accelerator_verilog`, or a changed one
    simulator options (DDR timing, stalls, seed) are passed on to `Simulator.build`
    """

    def __init__(self, config: AcceleratorConfig, compiled: CompiledProgram, verilog: str, **options):
        self.config, self.compiled = config, compiled
        self.windows = windows(compiled)
        self.simulator = Simulator.build(verilog, TOP_MODULE, rows=config.rows, no_inline=(ROW_MODULE,), **options)
        self._write_window("program", compiled.program)
        self._write_window("weights", compiled.weights)
        for name, (address, size) in self.windows.items():
            self.write(f"{name.upper()}_BASE_LO", address & 0xFFFF_FFFF)
            self.write(f"{name.upper()}_BASE_HI", address >> 32)
            self.write(f"{name.upper()}_BYTES", size)

    def write(self, register: str, value: int) -> None:
        self.simulator.write_register(OFFSET[register], value)

    def read(self, register: str) -> int:
        return self.simulator.read_register(OFFSET[register])

    def _write_window(self, name: str, data: bytes) -> None:
        self.simulator.write_memory(self.windows[name][0], data)

    def run(self, image: np.ndarray, max_cycles: int = 5_000_000) -> np.ndarray:
        """One image, (size, size, channels) uint8 -> logits (classes,) int16. Raises MachineError when the machine stops with a code."""
        self._write_window("image", np.ascontiguousarray(image, dtype=np.uint8).tobytes())
        start = 1 << BIT["CONTROL.START"]
        self.write("CONTROL", start | 1 << BIT["CONTROL.INTERRUPT_ENABLE"])
        self.simulator.run(max_cycles)
        status = self.read("STATUS")
        if not status >> BIT["STATUS.DONE"] & 1:
            names = ("ERROR", "WATCHDOG_WAIT", "WATCHDOG_VALUES", "CYCLES", "INSTRUCTIONS")
            raise MachineError(code=self.read("ERROR") & 0xFF, detail={name: self.read(name) for name in names} | {"STATUS": status})
        address, _ = self.windows["result"]
        return np.frombuffer(self.simulator.read_memory(address, self.compiled.result_bytes), dtype="<i2")
