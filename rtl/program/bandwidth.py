"""How ports share one memory: transfers in any order of time, each as fast as its port and what others left allow."""

from __future__ import annotations

from collections import defaultdict

#: Bandwidth is shared out in intervals of this many cycles: finer makes no difference to tiles of hundreds of cycles.
INTERVAL = 64


class Bandwidth:
    """``bytes_per_cycle`` of all ports together. Who asks first, in the order of calls, is served first."""

    def __init__(self, bytes_per_cycle: float):
        self._left: defaultdict[int, float] = defaultdict(lambda: INTERVAL * bytes_per_cycle)

    def transfer(self, begin: float, size: float, rate: float) -> float:
        """When ``size`` bytes, at most ``rate`` per cycle, have arrived if the first may come at ``begin``."""
        time = begin
        while size > 1e-9:
            interval = int(time // INTERVAL)
            end = (interval + 1) * INTERVAL
            given = min(size, (end - time) * rate, self._left[interval])
            self._left[interval] -= given
            size -= given
            time = time + given / rate if size <= 1e-9 else end
        return time
