"""The DeiT machine's array as `rtl.array_sequencer` runs it, and the latencies that its units publish."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rtl.array_sequencer import drain_cycles
from rtl.array_steps import FIRST_STEP_CYCLES, LOOK_CYCLES, STEP_CYCLES
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.plan.bandwidth import Bandwidth
from rtl.plan.queues import Queues
from rtl.program.instruction import Instruction
from rtl.program.isa import Accumulate, Counter, Destination
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
        timing = cls(attention=attention, drain=drain, pixels=pixel_cycles(config), hazard=row.hazard + 2 + LOOK_CYCLES, finish=row.finish)
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


@dataclass
class Array:
    """TILEs: the two stages of the sequencer, and the account of its cycles.

    residual_writes : the port that positions share        account : so far, from the last word of a tile to that of the next
    """

    queues: Queues
    timing: Timing
    residual_writes: Bandwidth
    at: float = 0.0  # the last step of the tile before has left
    changed_over: float = 0.0  # start of the last compute: the next fill may begin
    compute_end: float = 0.0
    readable: dict[int, float] = field(default_factory=dict)  # per pass: when it may be filled again
    account: Tally[str] = field(default_factory=Tally)

    def free(self, instruction: Instruction) -> float:
        return self.at

    def take(self, instruction: Instruction, offered: float, time: float) -> None:
        payload = instruction.payload
        ready, reason = time + FIRST_STEP_CYCLES, self._reason(payload, self.queues.waits(instruction))
        begin = ready
        for _ in range(payload["images"]):
            for index in range(payload["first_pass"], payload["first_pass"] + payload["passes"]):
                begin = self._step(payload, index, ready, reason)
                ready = begin + STEP_CYCLES
        self.at = begin + 1
        self.queues.post(instruction.post_counter, self.compute_end + self.timing.drain)

    def total(self, cycles: int) -> dict[str, int]:
        """All cycles by `KINDS`; what follows the last word is drain."""
        found = {kind: round(self.account[kind]) for kind in KINDS}
        return found | {"drain": cycles - sum(found.values()) + found["drain"]}

    @staticmethod
    def _reason(payload: Mapping[str, int], waits: Mapping[int, float]) -> str:
        """What the last wait is for."""
        last = max(waits, key=lambda counter: waits[counter], default=Counter.TILE_LOADED)
        attention = "key_value" if payload["destination"] == Destination.QKV else "attention"
        return {Counter.TILE_STREAMED: "weights", Counter.ATTENTIONS_DONE: attention}.get(Counter(last), "input")

    def _write_residuals(self, payload: Mapping[str, int], begin: float) -> None:
        """One per result."""
        if payload["destination"] == Destination.RESIDUAL and payload["accumulate"] in (Accumulate.NONE, Accumulate.LAST):
            self.residual_writes.transfer(begin, payload["words"] / payload["planes"], 1 / payload["planes"])

    def _step(self, payload: Mapping[str, int], index: int, ready: float, reason: str) -> float:
        """Fill, then compute, one pass. Returns the start of the fill."""
        fill = -(-payload["activations"] // 16) * 16
        fill_start = max(ready, self.changed_over, self.readable.get(index, 0.0))
        compute_start = self.changed_over = max(fill_start + fill, self.compute_end)
        self._write_residuals(payload, compute_start)
        idle, waited = self.compute_end, max(self.compute_end, min(ready, fill_start))
        filled_from = max(self.compute_end, fill_start)
        self.account.update({reason: waited - idle, "hazard": filled_from - waited, "fill": compute_start - filled_from})
        statistics = payload["statistics"]
        length = max(payload["words"], self.timing.finish + 2) if statistics else payload["words"]
        self.account.update({"compute": payload["words"], "fill": length - payload["words"]})
        self.compute_end = compute_start + length
        if payload["destination"] == Destination.LOGITS:  # in no row's memory
            return fill_start
        self.readable[index] = compute_start + payload["words"] + self.timing.hazard + (self.timing.finish if statistics else 0)
        return fill_start
