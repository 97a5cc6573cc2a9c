"""How ports share one memory: transfers in any order of time, each as fast as its port and what others left allow."""

from __future__ import annotations

#: Bandwidth is shared out in intervals of this many cycles: finer makes no difference to tiles of hundreds of cycles.
INTERVAL = 64


class Bandwidth:
    """``bytes_per_cycle`` of all ports together. Who asks first, in the order of calls, is served first.

    refresh_period, refresh_length : for so long nothing moves, at the beginning of every period (0: never)
    """

    def __init__(self, bytes_per_cycle: float, refresh_period: int = 0, refresh_length: int = 0):
        self.bytes_per_cycle = bytes_per_cycle
        self.refresh_period, self.refresh_length = refresh_period, refresh_length
        self.moved = 0.0
        self._left: dict[int, float] = {}

    def _refreshed(self, until: int) -> int:
        """Cycles of refresh in [0, until)."""
        if not self.refresh_period:
            return 0
        periods, rest = divmod(until, self.refresh_period)
        return periods * self.refresh_length + min(rest, self.refresh_length)

    def _active(self, interval: int) -> float:
        """The share of an interval's cycles in which data moves."""
        first = interval * INTERVAL
        return 1 - (self._refreshed(first + INTERVAL) - self._refreshed(first)) / INTERVAL

    def transfer(self, begin: float, size: float, rate: float) -> float:
        """When ``size`` bytes, at most ``rate`` per cycle, have arrived if the first may come at ``begin``."""
        self.moved += size
        time = begin
        while size > 1e-9:
            interval = int(time // INTERVAL)
            end, active = (interval + 1) * INTERVAL, self._active(interval)
            left = self._left.get(interval, INTERVAL * active * self.bytes_per_cycle)
            given = min(size, (end - time) * min(rate, self.bytes_per_cycle) * active, left)
            self._left[interval] = left - given
            size -= given
            time = time + given / (min(rate, self.bytes_per_cycle) * active) if size <= 1e-9 else end
        return time
