"""One accelerator as a host uses it: load once, then infer images, as many at a time as the program takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import numpy as np

from boards.driver.backends import Backend

IDENTITY = int.from_bytes(b"PVIT", "big")
WINDOWS = ("program", "weights", "image", "result")
_COUNTER = "count_"


class DriverError(RuntimeError):
    """The machine is another than the manifest's, or it stopped. `detail` holds the registers that explain it."""

    def __init__(self, message: str, detail: Mapping[str, int] | None = None):
        super().__init__(message)
        self.detail = dict(detail or {})


class Accelerator:
    """An accelerator behind a backend.

    Parameters
    ----------
    manifest : what `build` wrote: windows, image, result, digests, and `registers` (name -> offset and fields); optionally
        `error_codes` (number -> name)
    backend : see `boards.driver.backends`

    Raises
    ------
    DriverError : no popvit accelerator answers, it was built with other parameters, or the buffer is too small
    """

    def __init__(self, manifest: Mapping, backend: Backend):
        self.manifest, self.backend = manifest, backend
        self._map = manifest["registers"]
        self._check()
        for name in WINDOWS:
            window = manifest["windows"][name]
            address = backend.memory.address + window["offset"]
            self._write(f"{name}_base_lo", address & 0xFFFF_FFFF)
            self._write(f"{name}_base_hi", address >> 32)
            self._write(f"{name}_bytes", window["bytes"])

    def _check(self) -> None:
        identity = self._read("id")
        if identity != IDENTITY:
            raise DriverError(f"the id register must read {IDENTITY:#010x}: it reads {identity:#010x}; is the bitstream loaded?")
        for name in ("rows", "bits"):
            built = self._read(f"config_{name}")
            wanted = self.manifest[name]
            if built != wanted:
                raise DriverError(f"{name} of the bitstream must be the manifest's {wanted}: it is {built}; use its own manifest")
        need = self.manifest["buffer_bytes"]
        if self.backend.memory.size < need:
            raise DriverError(f"the buffer must hold {need} bytes: it has {self.backend.memory.size}; allocate a larger one")

    def _read(self, register: str) -> int:
        return self.backend.registers.read(self._map[register]["offset"])

    def _write(self, register: str, value: int) -> None:
        self.backend.registers.write(self._map[register]["offset"], value)

    def _bit(self, register: str, field: str) -> int:
        return 1 << self._map[register]["fields"][field]["low"]

    def _place(self, window: str, data: bytes, offset: int = 0) -> None:
        self.backend.memory.write(self.manifest["windows"][window]["offset"] + offset, data)

    def load(self, *, program: bytes, weights: bytes) -> None:
        """Puts program and weights into their windows.

        Raises
        ------
        DriverError : they are not the ones of the manifest
        """
        for name, data in (("program", program), ("weights", weights)):
            if hashlib.sha256(data).hexdigest() != self.manifest[name]["sha256"]:
                raise DriverError(f"the {name} must be the manifest's: its sha256 differs; use the files of one build")
            self._place(name, data)

    def infer(self, images: np.ndarray, timeout_s: float = 10.0) -> np.ndarray:
        """Logits of images, uint8: one in the shape that the manifest says, or any number of them, (n, *shape) -> (n, classes).

        The program takes the manifest's `images` at a time; where fewer are left, the last one is computed again in the others' places.

        Parameters
        ----------
        timeout_s : for each run of the program

        Raises
        ------
        ValueError : the images have another shape or type
        DriverError : the machine stopped with an error, or did not end in time
        """
        shape = tuple(self.manifest["image"]["shape"])
        if images.shape[-len(shape) :] != shape or images.ndim > len(shape) + 1 or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 of shape {shape} or (n, ...): got {images.dtype} of shape {images.shape}; resize them first"
            )
        batch = images.reshape(-1, *shape)
        at_once = len(self.manifest["image"]["offsets"])
        found = [self._run(batch[first : first + at_once], timeout_s) for first in range(0, len(batch), at_once)]
        logits = np.concatenate(found) if found else np.empty((0, *self.manifest["result"]["shape"]), self.manifest["result"]["dtype"])
        return logits[0] if images.ndim == len(shape) else logits

    def _run(self, images: np.ndarray, timeout_s: float) -> np.ndarray:
        """One run of the program."""
        for number, offset in enumerate(self.manifest["image"]["offsets"]):
            self._place("image", np.ascontiguousarray(images[min(number, len(images) - 1)]).tobytes(), offset)
        self._write("control", self._bit("control", "start") | self._bit("control", "interrupt_enable"))
        self._wait(timeout_s)
        result = self.manifest["result"]
        begin = self.manifest["windows"]["result"]["offset"]
        data = [self.backend.memory.read(begin + offset, result["bytes"]) for offset in result["offsets"][: len(images)]]
        return np.stack([np.frombuffer(part, dtype=result["dtype"]).reshape(result["shape"]) for part in data])

    def _wait(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not (status := self._read("status")) & (self._bit("status", "done") | self._bit("status", "error")):
            remaining = end - time.monotonic()
            if remaining <= 0:
                raise DriverError(f"the machine must end within {timeout_s} s: it did not", self._detail())
            self.backend.wait(remaining)
        if status & self._bit("status", "error"):
            error = self._read("error")
            code = error >> self._map["error"]["fields"]["code"]["low"] & ((1 << self._map["error"]["fields"]["code"]["width"]) - 1)
            name = self.manifest.get("error_codes", {}).get(str(code), "see the register map")
            raise DriverError(f"the machine stopped with error {code} ({name})", self._detail())

    def _detail(self) -> dict[str, int]:
        names = ("status", "error", "watchdog_wait", "watchdog_values", "count_cycles", "count_instructions")
        return {name: self._read(name) for name in names if name in self._map}

    def counters(self) -> dict[str, int]:
        """The counters of the last run."""
        return {name.removeprefix(_COUNTER): self._read(name) for name in self._map if name.startswith(_COUNTER)}
