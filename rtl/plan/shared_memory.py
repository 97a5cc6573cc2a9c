"""One DDR behind all ports, as a fluid: what is left of its bandwidth is shared out evenly among the channels that want it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from rtl.bus.axi import BEAT_BYTES
from rtl.flow.ddr import Memory

#: Bytes that are no longer worth an event.
_NOTHING = 1e-6


#: Told of a transfer: when it began and when it ended.
Done = Callable[[float, float], None]


@dataclass(eq=False)
class _Transfer:
    first: float
    left: float
    rate: float
    channels: int
    done: Done


class SharedMemory:
    """Transfers of a port come in order; a beat per channel and cycle at most, and of all together no more than the memory gives.

    The simulated memory serves the channel that has waited longest (rtl/flow/harness.cpp): equal shares, and what a slow one leaves goes
    to the others.
    """

    def __init__(self, memory: Memory):
        self.memory, self.now, self.moved = memory, 0.0, 0
        self._ports: defaultdict[str, deque[_Transfer]] = defaultdict(deque)
        self._rates: list[tuple[_Transfer, float]] = []

    def request(self, port: str, first: float, size: int, rate: float, done: Done, channels: int = 1) -> None:
        """``size`` bytes over ``channels`` AXI ports, not before ``first``, at most ``rate`` a cycle; then ``done``."""
        self.moved += size
        self._ports[port].append(_Transfer(first, size, min(rate, BEAT_BYTES * channels), channels, done))
        self._share()

    def next_event(self) -> float:
        """When a transfer begins or ends, or the memory's rate changes; infinite where nothing is to be done."""
        heads = [queue[0] for queue in self._ports.values() if queue]
        if not heads:
            return math.inf
        times = [head.first for head in heads if head.first > self.now]
        times += [self.now + transfer.left / rate for transfer, rate in self._rates if rate]
        if self._rates:
            times.append(self._change())
        return min(times)

    def advance(self, time: float) -> None:
        """To ``time``, which is not after `next_event`."""
        for transfer, rate in self._rates:
            transfer.left -= rate * (time - self.now)
        self.now = time
        ended = [queue for queue in self._ports.values() if queue and queue[0].left <= _NOTHING]
        done = [queue.popleft() for queue in ended]
        for queue in ended:
            if queue:
                queue[0].first = max(queue[0].first, time)
        self._share()
        for transfer in done:
            transfer.done(transfer.first, time)

    def hold(self, port: str, until: float) -> None:
        """The next transfer of a port does not begin before that."""
        queue = self._ports[port]
        if queue:
            queue[0].first = max(queue[0].first, until)
            self._share()

    def _refreshing(self) -> bool:
        period = self.memory.refresh_period
        return bool(period) and self.now % period < self.memory.refresh_length

    def _change(self) -> float:
        """When the next refresh begins, or this one ends."""
        period = self.memory.refresh_period
        if not period:
            return math.inf
        begun = self.now // period * period
        return begun + (self.memory.refresh_length if self._refreshing() else period)

    def _share(self) -> None:
        """Bytes per cycle of each transfer under way."""
        active = [queue[0] for queue in self._ports.values() if queue and queue[0].first <= self.now]
        left, channels = 0.0 if self._refreshing() else self.memory.bytes_per_cycle, sum(transfer.channels for transfer in active)
        self._rates = []
        for transfer in sorted(active, key=lambda transfer: transfer.rate / transfer.channels):
            rate = min(transfer.rate, left * transfer.channels / channels)
            self._rates.append((transfer, rate))
            left, channels = left - rate, channels - transfer.channels
