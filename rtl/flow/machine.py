"""A simulated accelerator as a host sees it: windows in memory, registers, one run per program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from amaranth.lib import wiring

import rtl.accelerator as deit
import rtl.efficientvit.accelerator as efficientvit
from rtl.bus.register_map import COUNTERS, REGISTERS, ErrorCode
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.flow.verilator import Simulator, build_library
from rtl.flow.verilog import export
from rtl.program.image import LOGIT_BYTES, WINDOW_ALIGNMENT, Program

TOP_MODULE = "accelerator"
FIRST_WINDOW = 0x10_0000
MAX_CYCLES = 5_000_000

Config = AcceleratorConfig | EfficientVitMachine


def with_bits(config: Config, bits: int) -> Config:
    """The same machine for activations of another precision."""
    if isinstance(config, AcceleratorConfig):
        return replace(config, shape=replace(config.shape, bits=bits))
    return replace(config, bits=bits)


@dataclass(frozen=True, kw_only=True)
class Design:
    """A family's accelerator for one configuration. ``separate``: modules that are emitted on their own, and how often each is used."""

    accelerator: wiring.Component
    separate: Mapping[str, tuple[wiring.Component, int]]


def design_of(config: Config) -> Design:
    if isinstance(config, EfficientVitMachine):
        accelerator = efficientvit.EfficientVitAccelerator(config)
        return Design(accelerator=accelerator, separate=accelerator.separate_modules())
    return Design(accelerator=deit.Accelerator(config), separate=deit.separate_modules(config))


def image_shape(config: Config) -> tuple[int, int, int]:
    """(height, width, channels)."""
    shape = config if isinstance(config, EfficientVitMachine) else config.shape
    return shape.image_size, shape.image_size, shape.channels


def class_count(config: Config) -> int:
    return config.classes if isinstance(config, EfficientVitMachine) else config.shape.classes


def kept_modules(config: Config) -> tuple[str, ...]:
    """Verilator keeps them as modules: inlined into one, a large machine would not compile."""
    return efficientvit.KEPT_MODULES if isinstance(config, EfficientVitMachine) else deit.KEPT_MODULES


_OFFSET = {register.name: register.offset for register in REGISTERS}
_FIELD = {f"{register.name}.{field.name}": field for register in REGISTERS for field in register.fields}


class MachineError(RuntimeError):
    """The machine stopped by itself, or did not stop at all.

    code : ErrorCode, NONE when it still ran at the cycle limit        registers : the registers that explain it
    """

    def __init__(self, code: ErrorCode, registers: dict[str, int]):
        self.code, self.registers = code, registers
        super().__init__(f"the accelerator stopped with {code.name}: {registers}")


def accelerator_verilog(config: Config) -> str:
    """Verilog of the separate modules, then of the accelerator that instantiates them."""
    design = design_of(config)
    parts = [export(component, name) for name, (component, _) in design.separate.items()]
    return "".join([*parts, export(design.accelerator, TOP_MODULE)])


def windows(compiled: Program) -> dict[str, tuple[int, int]]:
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

    def __init__(self, config: Config, compiled: Program, verilog: str, **options):
        self.config, self.compiled = config, compiled
        self.image_shape, self.classes = image_shape(config), class_count(config)
        self.windows = windows(compiled)
        self.simulator = Simulator.build(verilog, TOP_MODULE, config.rows, kept_modules(config), **options)
        self._write_window("program", compiled.program)
        self._write_window("weights", compiled.weights)
        for name, (address, size) in self.windows.items():
            self.write(f"{name}_base_lo", address & 0xFFFF_FFFF)
            self.write(f"{name}_base_hi", address >> 32)
            self.write(f"{name}_bytes", size)

    @staticmethod
    def build(config: Config, verilog: str, *, waves: bool = False) -> None:
        """Compile the simulator ahead of its first use."""
        build_library(verilog, TOP_MODULE, config.rows, kept_modules(config), waves=waves)

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
        offsets = self.compiled.image_offsets
        pictures = np.ascontiguousarray(images, dtype=np.uint8).reshape(-1, *self.image_shape)
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

    def stored(self) -> tuple[int, ...]:
        """Per image, the cycle in which the last of its logits were written."""
        writes, base = self.simulator.writes(), self.windows["result"][0]
        place = writes["address"].astype(np.int64) - base
        inside = [(offset <= place) & (place < offset + LOGIT_BYTES * self.classes) for offset in self.compiled.result_offsets]
        return tuple(int(writes["cycle"][found].max(initial=0)) for found in inside)

    def _logits(self, offset: int) -> np.ndarray:
        data = self.simulator.read_memory(self.windows["result"][0] + offset, LOGIT_BYTES * self.classes)
        return np.frombuffer(data, dtype="<i2")
