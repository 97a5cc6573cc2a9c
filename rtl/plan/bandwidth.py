"""A port that several use, each as fast as it can and as the others left."""

from __future__ import annotations

#: What is left is kept per interval of so many cycles: finer makes no difference to runs of hundreds of cycles.
INTERVAL = 64


class Bandwidth:
    """``per_cycle`` pieces of all users together. Who asks first, in the order of calls, is served first, whenever that is."""

    def __init__(self, per_cycle: float):
        self.per_cycle = per_cycle
        self._left: dict[int, float] = {}

    def transfer(self, begin: float, size: float, rate: float) -> float:
        """When ``size`` pieces, at most ``rate`` per cycle, are through if the first may come at ``begin``."""
        time, speed = begin, min(rate, self.per_cycle)
        while size > 1e-9:
            interval = int(time // INTERVAL)
            end = (interval + 1) * INTERVAL
            left = self._left.get(interval, INTERVAL * self.per_cycle)
            given = min(size, (end - time) * speed, left)
            self._left[interval] = left - given
            size -= given
            time = time + given / speed if size <= 1e-9 else end
        return time
