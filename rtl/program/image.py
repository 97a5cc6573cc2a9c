"""What a driver needs to run a compiled program: files, windows and sizes, as one JSON-ready dictionary."""

from __future__ import annotations

import hashlib

from rtl.config import AcceleratorConfig
from rtl.program.compiler import LOGIT_BYTES, CompiledProgram, image_pixels
from rtl.program.instruction import COUNTERS, INSTRUCTION_BYTES
from rtl.program.isa import Counter

#: Every window starts on this boundary (bytes) in DDR: a page, so that the driver can map each alone.
WINDOW_ALIGNMENT = 4096


def manifest(compiled: CompiledProgram, config: AcceleratorConfig) -> dict:
    """The run's description. Sizes in bytes.

    ``windows``: what the driver allocates, and the base and byte limit it writes to the registers; ``offset`` is the place of each window
    when all four share one buffer of ``buffer_bytes``. IMAGE and RESULT change per run, the others stay; ``image`` and ``result`` describe
    one image of the ``images`` in them, ``offsets`` says where each begins in its window.
    """
    windows, end = _windows(compiled)
    return {
        "model": config.shape.name,
        "bits": config.bits,
        "rows": config.rows,
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
            "bytes": image_pixels(config),
            "shape": [config.shape.image_size, config.shape.image_size, config.shape.channels],
            "dtype": "uint8",
            "offsets": list(compiled.image_offsets),
        },
        "result": {
            "bytes": LOGIT_BYTES * config.shape.classes,
            "shape": [config.shape.classes],
            "dtype": "<i2",
            "offsets": list(compiled.result_offsets),
        },
        "counters": {str(counter.value): counter.name for counter in Counter if counter} | {"count": COUNTERS},
    }


def _windows(compiled: CompiledProgram) -> tuple[dict[str, dict[str, int]], int]:
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
