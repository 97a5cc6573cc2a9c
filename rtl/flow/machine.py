"""A simulated accelerator as a host sees it: windows in memory, registers, one run per program."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtl.accelerator import BANK_MODULE, FEEDER_MODULE, ROW_MODULE, Accelerator, separate_modules
from rtl.bus.register_map import COUNTERS, REGISTERS, ErrorCode
from rtl.config import AcceleratorConfig
from rtl.flow.verilator import Simulator, build_library
from rtl.flow.verilog import export
from rtl.program.compiler import CompiledProgram

TOP_MODULE = "accelerator"
WINDOW_ALIGNMENT = 4096
FIRST_WINDOW = 0x10_0000
MAX_CYCLES = 5_000_000
#: Verilator keeps them as modules: inlined into one, a large machine would not compile.
KEPT_MODULES = (ROW_MODULE, BANK_MODULE, FEEDER_MODULE)


_OFFSET = {register.name: register.offset for register in REGISTERS}
_FIELD = {f"{register.name}.{field.name}": field for register in REGISTERS for field in register.fields}


class MachineError(RuntimeError):
    """The machine stopped by itself, or did not stop at all.

    code : ErrorCode, NONE when it still ran at the cycle limit        registers : the registers that explain it
    """

    def __init__(self, code: ErrorCode, registers: dict[str, int]):
        self.code, self.registers = code, registers
        super().__init__(f"the accelerator stopped with {code.name}: {registers}")


def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Verilog of the separate modules, then of the accelerator that instantiates them."""
    parts = [export(component, name) for name, (component, _) in separate_modules(config).items()]
    return "".join([*parts, export(Accelerator(config), TOP_MODULE)])


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
        self.simulator = Simulator.build(verilog, TOP_MODULE, config.rows, KEPT_MODULES, **options)
        self._write_window("program", compiled.program)
        self._write_window("weights", compiled.weights)
        for name, (address, size) in self.windows.items():
            self.write(f"{name}_base_lo", address & 0xFFFF_FFFF)
            self.write(f"{name}_base_hi", address >> 32)
            self.write(f"{name}_bytes", size)

    @staticmethod
    def build(config: AcceleratorConfig, verilog: str, *, waves: bool = False) -> None:
        """Compile the simulator ahead of its first use."""
        build_library(verilog, TOP_MODULE, config.rows, KEPT_MODULES, waves=waves)

    def write(self, register: str, value: int) -> None:
        self.simulator.write_register(_OFFSET[register], value)

    def read(self, register: str) -> int:
        return self.simulator.read_register(_OFFSET[register])

    def read_field(self, name: str) -> int:
        """``register.field``."""
        field = _FIELD[name]
        return self.read(name.split(".")[0]) >> field.low & ((1 << field.width) - 1)

    def counters(self) -> dict[str, int]:
        """The counters of the last run, by name."""
        return {name: self.read(f"count_{name}") for name in COUNTERS}

    def _write_window(self, name: str, data: bytes) -> None:
        self.simulator.write_memory(self.windows[name][0], data)

    def run(self, images: np.ndarray, max_cycles: int = MAX_CYCLES, *, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """All images of the program, (images, size, size, channels) uint8 -> logits (images, classes) int16.

        Parameters
        ----------
        max_cycles : for each image        progress : is told the cycles so far, now and then

        Raises
        ------
        MachineError : the machine stopped with a code
        """
        shape, offsets = self.config.shape, self.compiled.image_offsets
        pictures = np.ascontiguousarray(images, dtype=np.uint8).reshape(-1, shape.image_size, shape.image_size, shape.channels)
        if len(pictures) != len(offsets):
            raise ValueError(f"the program takes {len(offsets)} images: got {len(pictures)}")
        for picture, offset in zip(pictures, offsets, strict=True):
            self.simulator.write_memory(self.windows["image"][0] + offset, picture.tobytes())
        start, interrupt = _FIELD["control.start"], _FIELD["control.interrupt_enable"]
        self.write("control", 1 << start.low | 1 << interrupt.low)
        self.simulator.run(max_cycles * len(offsets), progress=progress)
        if not self.read_field("status.done"):
            names = ("status", "error", "watchdog_wait", "watchdog_values", "count_cycles", "count_instructions")
            raise MachineError(ErrorCode(self.read_field("error.code")), {name: self.read(name) for name in names})
        return np.stack([self._logits(offset) for offset in self.compiled.result_offsets])

    def _logits(self, offset: int) -> np.ndarray:
        data = self.simulator.read_memory(self.windows["result"][0] + offset, 2 * self.config.shape.classes)
        return np.frombuffer(data, dtype="<i2")
