"""A memory behind a request stream and a beat stream (the two ends of an AxiReader), for benches of what is in front of the bus."""

from __future__ import annotations

import hashlib
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim_tests.cocotb.helpers import bench_random


def content(address: int) -> int:
    """The 16 bytes at an address, a multiple of 16."""
    return int.from_bytes(hashlib.md5(address.to_bytes(8, "little")).digest(), "little")


def content_bytes(address: int, count: int) -> bytes:
    """``count`` bytes from ``address`` on, a multiple of 16."""
    return b"".join(content(address + at).to_bytes(16, "little") for at in range(0, count, 16))[:count]


class RequestMemory:
    """Answers requests in order, the first beat ``latency`` cycles after its request; stalls at random.

    Attributes
    ----------
    requests : (address, beats) taken so far        left : beats still to come; may be emptied, as a cleared reader does
    """

    def __init__(self, dut, read: str, beats: str, *, latency: int = 1, stall: float = 0.0) -> None:
        self.latency, self.stall = latency, stall
        self.requests: list[tuple[int, int]] = []
        self.left: deque[tuple[int, int]] = deque()  # first cycle, address
        cocotb.start_soon(self._run(dut, read, beats))

    async def _run(self, dut, read: str, beats: str) -> None:
        rng = bench_random(f"memory {read}")
        asked, request, willing = (getattr(dut, f"{read}__{part}") for part in ("valid", "payload", "ready"))
        valid, payload, taken = (getattr(dut, f"{beats}__{part}") for part in ("valid", "payload", "ready"))
        cycle, offered = 0, False
        while True:
            ready, offered = rng.random() >= self.stall, offered and bool(self.left)
            willing.value = int(ready)
            if not offered and self.left and self.left[0][0] <= cycle and rng.random() >= self.stall:
                offered = True
                payload.value = content(self.left[0][1])
            valid.value = int(offered)
            await RisingEdge(dut.clk)
            if ready and int(asked.value):
                word = int(request.value)
                address, count = word & (1 << 40) - 1, word >> 40
                self.requests.append((address, count))
                self.left.extend((cycle + self.latency, address + 16 * beat) for beat in range(count))
            if offered and self.left and int(taken.value):
                self.left.popleft()
                offered = False
            cycle += 1
            await FallingEdge(dut.clk)
