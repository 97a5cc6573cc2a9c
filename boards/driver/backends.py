"""How the runtime reaches a machine: its registers, a buffer that it shares with it, and its interrupt."""

from __future__ import annotations

import mmap
import os
import select
import stat
import struct
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

REGISTER_BYTES = 4096


class Registers(Protocol):
    """The control registers: 32-bit words at byte offsets."""

    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> None: ...


class Memory(Protocol):
    """A buffer that host and machine both see: `address` is where the machine sees it, offsets are bytes from its start."""

    address: int
    size: int

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


class Backend(Protocol):
    """A machine. `wait` returns when it interrupted or `timeout_s` is over; the caller looks at the status register."""

    registers: Registers
    memory: Memory

    def wait(self, timeout_s: float) -> None: ...


class _MappedRegisters:
    """Words of a mapping. Through an array of 32-bit words: one access is one bus access of 32 bits."""

    def __init__(self, mapping: mmap.mmap):
        self._words = np.frombuffer(mapping, dtype=np.uint32)

    def read(self, offset: int) -> int:
        return int(self._words[offset // 4])

    def write(self, offset: int, value: int) -> None:
        self._words[offset // 4] = value


class _MappedMemory:
    def __init__(self, mapping: mmap.mmap, address: int, size: int):
        self._mapping, self.address, self.size = mapping, address, size

    def read(self, offset: int, size: int) -> bytes:
        return self._mapping[offset : offset + size]

    def write(self, offset: int, data: bytes) -> None:
        self._mapping[offset : offset + len(data)] = data


class UioBackend:
    """Registers and interrupt through a UIO device, memory through u-dma-buf. Plain files do in their place, for tests.

    Parameters
    ----------
    uio : the UIO device, whose first map is the register window
    buffer : the u-dma-buf device; it is opened uncached, because the machine's ports do not see the processor's caches
    address, size : of the buffer; by default as the kernel module tells

    Raises
    ------
    OSError : a device is not there or not ours to open
    """

    poll_s = 0.001

    def __init__(self, uio: str | Path, buffer: str | Path, *, address: int | None = None, size: int | None = None):
        facts = Path("/sys/class/u-dma-buf") / Path(buffer).name
        address = int((facts / "phys_addr").read_text(), 16) if address is None else address
        size = int((facts / "size").read_text()) if size is None else size
        self._uio = os.open(uio, os.O_RDWR | os.O_SYNC)
        self._interrupts = stat.S_ISCHR(os.fstat(self._uio).st_mode)
        self.registers = _MappedRegisters(mmap.mmap(self._uio, REGISTER_BYTES))
        descriptor = os.open(buffer, os.O_RDWR | os.O_SYNC)
        try:
            self.memory = _MappedMemory(mmap.mmap(descriptor, size), address, size)
        finally:
            os.close(descriptor)

    def wait(self, timeout_s: float) -> None:
        """A UIO device is armed by writing 1 and tells an interrupt by becoming readable; a plain file has none."""
        if not self._interrupts:
            time.sleep(min(self.poll_s, timeout_s))
            return
        os.write(self._uio, struct.pack("<I", 1))
        ready, _, _ = select.select([self._uio], [], [], timeout_s)
        if ready:
            os.read(self._uio, 4)

    def close(self) -> None:
        os.close(self._uio)


class SimulatorBackend:
    """A simulated machine: an object with `read_register`, `write_register`, `read_memory`, `write_memory` and `run(max_cycles)`.

    `address` is where its buffer begins; `run` returns when the machine interrupts.
    """

    def __init__(self, simulator: Any, *, address: int, size: int, max_cycles: int = 5_000_000):
        self.registers, self.memory = _SimulatedRegisters(simulator), _SimulatedMemory(simulator, address, size)
        self._simulator, self._max_cycles = simulator, max_cycles

    def wait(self, timeout_s: float) -> None:
        self._simulator.run(self._max_cycles)


class _SimulatedRegisters:
    def __init__(self, simulator: Any):
        self.read, self.write = simulator.read_register, simulator.write_register


class _SimulatedMemory:
    def __init__(self, simulator: Any, address: int, size: int):
        self._simulator, self.address, self.size = simulator, address, size

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._simulator.read_memory(self.address + offset, size))

    def write(self, offset: int, data: bytes) -> None:
        self._simulator.write_memory(self.address + offset, data)
