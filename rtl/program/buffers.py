"""Buffers that LOADs and STREAMs fill while tiles read others: which is next, and when it is free."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Buffers:
    """``count`` buffers. What is in one already is not loaded again; a new key takes the buffer that was used longest ago."""

    count: int
    keys: dict[int, object] = field(default_factory=dict)
    last_use: dict[int, int] = field(default_factory=dict)

    def place(self, key: object, tile: int) -> tuple[int, bool, int]:
        """For tile number ``tile`` (from 0), which reads ``key``: (buffer, whether it must be loaded, tiles done before it may be)."""
        slot = next((slot for slot, held in self.keys.items() if held == key), None)
        fresh = slot is None
        if slot is None:
            slot = min(range(self.count), key=lambda candidate: self.last_use.get(candidate, 0))
        free = self.last_use.get(slot, 0)
        self.keys[slot], self.last_use[slot] = key, tile + 1
        return slot, fresh, free
