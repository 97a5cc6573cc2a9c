"""The memory behind the accelerator's masters, as the simulator models it: one DDR whose bandwidth every port draws from."""

from __future__ import annotations

import dataclasses

from rtl.errors import InputError

#: JEDEC DDR4, 8 Gb devices: an all-bank refresh takes t_RFC every t_REFI; the latency is an assumption for a port of the processing system.
REFRESH_PERIOD_US, REFRESH_US, LATENCY_US = 7.8, 0.35, 0.24
BEAT_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Timing of the memory, in cycles of the accelerator's clock. Each port moves at most one beat of 16 bytes per cycle, and all of them
    together no more than the pool gives.

    The defaults are DDR4-2400 x 64 (19.2 GB/s) seen from 250 MHz: 76.8 bytes per cycle at the peak, of which 75 % are used.

    Parameters
    ----------
    latency : from an accepted address to its first beat, and from the last write beat to its answer
    peak_bytes_per_cycle : of all ports together        efficiency : percent of it that the controller delivers between refreshes
    refresh_period, refresh_length : every so often nothing moves for so long (period 0: never)
    stall : percent of the cycles in which a channel, the host's register port included, is held back at random
    seed : of those stalls
    fill : the byte that unwritten memory holds

    Raises
    ------
    InputError : a value is out of its range
    """

    latency: int = 60
    peak_bytes_per_cycle: float = 76.8
    efficiency: int = 75
    refresh_period: int = 1950
    refresh_length: int = 88
    stall: int = 0
    seed: int = 1
    fill: int = 0xA5

    def __post_init__(self) -> None:
        for name, low, high in (("efficiency", 1, 100), ("stall", 0, 99), ("fill", 0, 255), ("peak_bytes_per_cycle", 0.01, 1e6)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"memory {name} must be {low}..{high}: {getattr(self, name)} is not; choose a value in that range")

    @classmethod
    def ddr(cls, bytes_per_s: float, efficiency: float, clock_mhz: float) -> Memory:
        """A DDR of this peak, seen from this clock: its latency and refreshes are times, not cycles."""
        return cls(
            latency=round(LATENCY_US * clock_mhz),
            peak_bytes_per_cycle=bytes_per_s / (clock_mhz * 1e6),
            efficiency=round(100 * efficiency),
            refresh_period=round(REFRESH_PERIOD_US * clock_mhz),
            refresh_length=round(REFRESH_US * clock_mhz),
        )

    @property
    def bytes_per_cycle(self) -> float:
        """Between refreshes."""
        return self.peak_bytes_per_cycle * self.efficiency / 100

    @property
    def sustained_bytes_per_cycle(self) -> float:
        """With refreshes."""
        gaps = self.refresh_length / self.refresh_period if self.refresh_period else 0.0
        return self.bytes_per_cycle * (1 - gaps)


IDEAL = Memory(latency=1, peak_bytes_per_cycle=1024, efficiency=100, refresh_period=0, refresh_length=0)
