"""The DeiT machine's array as `rtl.array_sequencer` runs it, and the latencies that its units publish."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rtl.array_sequencer import drain_cycles
from rtl.array_steps import FIRST_STEP_CYCLES, STEP_CYCLES
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.program.isa import Destination, Opcode
from rtl.program.memory import BEAT_BYTES
from rtl.row_units import RowUnits

#: What the array does in a cycle, or waits for: the names of the accelerator's own account.
KINDS = ("compute", "fill", "hazard", "weights", "attention", "input", "key_value", "drain")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latencies of the machine, in cycles, as its units publish them.

    hazard, finish : see `rtl.row_bus.RowTiming`        drain : last word to last result in the last row
    attention : of an ATTEND        pixels : scattering one image to the rows
    """

    attention: AttentionConfig
    drain: int
    pixels: int
    hazard: int
    finish: int

    @classmethod
    def of(cls, config: AcceleratorConfig, **changes: Any) -> Timing:
        """Those of ``config``; ``changes`` replace single ones."""
        attention, row = AttentionConfig.of(config), RowUnits(config).timing
        drain = drain_cycles(row, config.rows, attention.settle_cycles)
        timing = cls(attention=attention, drain=drain, pixels=pixel_cycles(config), hazard=row.hazard + 2, finish=row.finish)
        return replace(timing, **changes)


def pixel_cycles(config: AcceleratorConfig) -> int:
    """Scattering an image: byte by byte; where lines of patches are whole beats, a byte of all patches of a grid row and pass at once."""
    shape, rows = config.shape, config.rows
    line = shape.patch_size * shape.channels
    if line % BEAT_BYTES or shape.grid > BEAT_BYTES:
        return shape.image_size**2 * shape.channels
    first = [shape.first_patch + row * shape.grid for row in range(shape.grid)]
    parts = sum((slot + shape.grid - 1) // rows - slot // rows + 1 for slot in first)
    return parts * line * shape.patch_size


@dataclass(frozen=True, kw_only=True)
class Span:
    """One instruction: when it started, when its post came, and how long its engine worked. ``name``: its comment.

    account : TILE: cycles of the array by `KINDS`, from the last word of the tile before to its own
    """

    name: str
    opcode: Opcode
    start: float
    done: float
    busy: float
    account: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Array:
    """The two stages of the sequencer, and the account of its cycles."""

    timing: Timing
    issued: float = 0.0  # the ARRAY queue is in order
    changed_over: float = 0.0  # start of the last compute: the next fill may begin
    compute_end: float = 0.0
    readable: dict[int, float] = field(default_factory=dict)  # per pass: when it may be filled again
    begins: list[float] = field(default_factory=list)  # of the last tile's steps: their first words

    def tile(self, payload: dict[str, int], ready: float, reason: str) -> Span:
        """``ready``: its waits are met, the last one being for ``reason``."""
        ready = max(ready, self.issued) + FIRST_STEP_CYCLES
        account: Tally[str] = Tally()
        self.begins = []
        passes = range(payload["first_pass"], payload["first_pass"] + payload["passes"])
        starts = []
        for _ in range(payload["images"]):
            for index in passes:
                starts.append(self._step(payload, index, ready, reason, account))
                ready = starts[-1] + STEP_CYCLES
        self.issued = starts[-1] + 1
        done, busy = self.compute_end + self.timing.drain, payload["words"] * len(starts)
        return Span(name="", opcode=Opcode.TILE, start=starts[0], done=done, busy=busy, account=account)

    def _step(self, payload: dict[str, int], index: int, ready: float, reason: str, account: Tally[str]) -> float:
        """Fill, then compute, one pass. Returns the start of the fill."""
        fill = -(-payload["activations"] // 16) * 16
        fill_start = max(ready, self.changed_over, self.readable.get(index, 0.0))
        compute_start = self.changed_over = max(fill_start + fill, self.compute_end)
        self.begins.append(compute_start)
        idle, waited = self.compute_end, max(self.compute_end, min(ready, fill_start))
        filled_from = max(self.compute_end, fill_start)
        account.update({reason: waited - idle, "hazard": filled_from - waited, "fill": compute_start - filled_from})
        statistics = payload["statistics"]
        length = max(payload["words"], self.timing.finish + 2) if statistics else payload["words"]
        account.update({"compute": payload["words"], "fill": length - payload["words"]})
        self.compute_end = compute_start + length
        if payload["destination"] == Destination.LOGITS:  # in no row's memory
            return fill_start
        self.readable[index] = compute_start + payload["words"] + self.timing.hazard + (self.timing.finish if statistics else 0)
        return fill_start
