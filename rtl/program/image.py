"""What a driver needs to run a compiled program: files, windows and sizes, as one JSON-ready dictionary."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from math import prod
from typing import Protocol

from rtl.program.instruction import COUNTERS, INSTRUCTION_BYTES, Instruction

#: Every window starts on this boundary (bytes) in DDR: a page, so that the driver can map each alone.
WINDOW_ALIGNMENT = 4096
#: Bytes of a logit, s16.
LOGIT_BYTES = 2


class Program(Protocol):
    """What a compiled program of either family is to whoever runs it. Contents and sizes of the windows in bytes."""

    @property
    def instructions(self) -> Sequence[Instruction]: ...
    @property
    def program(self) -> bytes: ...
    @property
    def weights(self) -> bytes: ...
    @property
    def images(self) -> int: ...
    @property
    def image_bytes(self) -> int: ...
    @property
    def result_bytes(self) -> int: ...
    @property
    def image_offsets(self) -> tuple[int, ...]: ...
    @property
    def result_offsets(self) -> tuple[int, ...]: ...


def manifest(
    compiled: Program, *, model: str, bits: int, rows: int, image_shape: tuple[int, int, int], classes: int, counters: type[enum.IntEnum]
) -> dict:
    """The run's description. Sizes in bytes.

    ``windows``: what the driver allocates, and the base and byte limit it writes to the registers; ``offset`` is the place of each window
    when all four share one buffer of ``buffer_bytes``. IMAGE and RESULT change per run, the others stay; ``image`` and ``result`` describe
    one image of the ``images`` in them, ``offsets`` says where each begins in its window.

    Parameters
    ----------
    model : the network's name        bits, rows : of the machine
    image_shape : (height, width, channels), uint8        classes : logits
    counters : what the family uses the counters for
    """
    windows, end = _windows(compiled)
    return {
        "model": model,
        "bits": bits,
        "rows": rows,
        "images": compiled.images,
        "windows": windows,
        "buffer_bytes": end,
        "program": {
            "instructions": len(compiled.instructions),
            "instruction_bytes": INSTRUCTION_BYTES,
            "sha256": _digest(compiled.program),
        },
        "weights": {"sha256": _digest(compiled.weights)},
        "image": {
            "bytes": prod(image_shape),
            "shape": list(image_shape),
            "dtype": "uint8",
            "offsets": list(compiled.image_offsets),
        },
        "result": {
            "bytes": LOGIT_BYTES * classes,
            "shape": [classes],
            "dtype": "<i2",
            "offsets": list(compiled.result_offsets),
        },
        "counters": {str(counter.value): counter.name for counter in counters if counter} | {"count": COUNTERS},
    }


def _windows(compiled: Program) -> tuple[dict[str, dict[str, int]], int]:
    """Each window's offset and size in one shared buffer, and the buffer's size."""
    sizes = {
        "program": len(compiled.program),
        "weights": len(compiled.weights),
        "image": compiled.image_bytes,
        "result": compiled.result_bytes,
    }
    windows, end = {}, 0
    for name, size in sizes.items():
        windows[name] = {"offset": end, "bytes": size}
        end += -(-size // WINDOW_ALIGNMENT) * WINDOW_ALIGNMENT
    return windows, end


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
