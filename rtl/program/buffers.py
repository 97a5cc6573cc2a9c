"""Buffers that LOADs fill while tiles read others: which is next, and when it is free."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ring:
    """Buffers used in turn. A new key takes the next buffer once the last tile that used it is done."""

    buffers: int
    key: object = None
    slot: int = -1
    last_use: dict[int, int] = field(default_factory=dict)

    def place(self, key: object) -> tuple[int, bool, int]:
        """(buffer, whether it must be loaded, tiles that must be done before loading)."""
        fresh = self.slot < 0 or key != self.key
        if fresh:
            self.key, self.slot = key, (self.slot + 1) % self.buffers
        return self.slot, fresh, self.last_use.get(self.slot, 0)

    def used(self, tile: int) -> None:
        """Tile number ``tile`` (from 0) reads the buffer placed last."""
        self.last_use[self.slot] = tile + 1
