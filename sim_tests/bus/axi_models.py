"""AXI4 memories for benches: strict about the protocol, with chosen latency, stalls and failing addresses. Runs inside the simulator.

They sample at rising edges and drive at falling ones, so that a latency is an exact number of cycles: an address taken in cycle t has its
first beat, or a last beat its response, in cycle t + latency at the earliest.
"""

import random
from collections import deque
from collections.abc import Callable

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.utils import get_sim_time

BEAT_BYTES = 16


class Cycles:
    """Numbers clock cycles by the rising edge that ends them; at a falling edge ``now`` is the cycle that just ended."""

    def __init__(self, dut) -> None:
        cocotb.start_soon(self._start(dut))

    async def _start(self, dut) -> None:
        await RisingEdge(dut.clk)
        self._first = int(get_sim_time("step"))
        await RisingEdge(dut.clk)
        self._period = int(get_sim_time("step")) - self._first

    @property
    def now(self) -> int:
        return (int(get_sim_time("step")) - self._first) // self._period if hasattr(self, "_period") else 0


class Stable:
    """Fails when a stream drops or changes what it offered before it was taken. ``allow`` excuses a cycle."""

    def __init__(self, dut, valid: str, ready: str, payloads: tuple[str, ...], *, allow: Callable[[], bool] = lambda: False) -> None:
        self._dut = dut
        self._names = (valid, ready, payloads, allow)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        valid, ready, payloads, allow = self._names
        dut, offered = self._dut, None
        while True:
            await RisingEdge(dut.clk)
            now = tuple(int(getattr(dut, name).value) for name in payloads) if int(getattr(dut, valid).value) else None
            if offered is not None and not allow():
                assert now == offered, f"{valid}: offered {offered}, then {now} before ready"
            offered = now if now is not None and not int(getattr(dut, ready).value) and not allow() else None


def check_burst(dut, prefix: str, channel: str) -> tuple[int, int]:
    """Address and beats of the burst on an address channel, after checking the rules we promise."""

    def wire(name: str) -> int:
        return int(getattr(dut, f"{prefix}_{channel}{name}").value)

    address, beats = wire("addr"), wire("len") + 1
    assert address % BEAT_BYTES == 0, f"{channel}addr {address:#x} is not aligned"
    assert beats <= 16, f"{channel}len asks for {beats} beats"
    assert address // 256 == (address + beats * BEAT_BYTES - 1) // 256, f"{channel}: {beats} beats at {address:#x} cross 256 bytes"
    fixed = {name: wire(name) for name in ("size", "burst", "cache", "prot", "lock", "qos", "id")}
    assert fixed == {"size": 4, "burst": 1, "cache": 3, "prot": 0, "lock": 0, "qos": 0, "id": 0}, fixed
    return address, beats


class ReadMemory:
    """Answers reads with ``content(address)``.

    Attributes
    ----------
    bursts : (cycle, address, beats) of every burst that was taken
    beats : beats that were delivered; ``pending`` the ones still to come
    """

    def __init__(
        self,
        dut,
        cycles: Cycles,
        prefix: str,
        content: Callable[[int], int],
        *,
        latency: int = 1,
        stall_address: float = 0.0,
        stall_data: float = 0.0,
        failing: frozenset[int] = frozenset(),
        rng: random.Random | None = None,
    ) -> None:
        self.dut, self.cycles, self.prefix, self.content = dut, cycles, prefix, content
        self.latency, self.stall_address, self.stall_data, self.failing = latency, stall_address, stall_data, failing
        self.rng = rng or random.Random(0)
        self.bursts: list[tuple[int, int, int]] = []
        self.beats = 0
        self._queue: deque[tuple[int, int, bool]] = deque()  # first cycle, address, last
        self._wire("arready").value = 0
        self._wire("rvalid").value = 0
        self._wire("rid").value = 0
        cocotb.start_soon(self._serve())
        Stable(dut, f"{prefix}_arvalid", f"{prefix}_arready", (f"{prefix}_araddr", f"{prefix}_arlen"))

    def _wire(self, name: str):
        return getattr(self.dut, f"{self.prefix}_{name}")

    @property
    def pending(self) -> int:
        return len(self._queue)

    async def _serve(self) -> None:
        ready = valid = False
        while True:
            await RisingEdge(self.dut.clk)
            assert not valid or int(self._wire("rready").value), "a beat that was asked for is not accepted at once"
            if valid:
                self._queue.popleft()
                self.beats += 1
            if ready and int(self._wire("arvalid").value):
                self._accept()
            await FallingEdge(self.dut.clk)
            ready = self.rng.random() >= self.stall_address
            self._wire("arready").value = int(ready)
            valid = self._offer()

    def _accept(self) -> None:
        address, beats = check_burst(self.dut, self.prefix, "ar")
        self.bursts.append((self.cycles.now, address, beats))
        for beat in range(beats):
            self._queue.append((self.cycles.now + self.latency, address + beat * BEAT_BYTES, beat == beats - 1))

    def _offer(self) -> bool:
        if not self._queue or self._queue[0][0] > self.cycles.now + 1 or self.rng.random() < self.stall_data:
            self._wire("rvalid").value = 0
            return False
        _, address, last = self._queue[0]
        self._wire("rvalid").value = 1
        self._wire("rdata").value = self.content(address)
        self._wire("rlast").value = int(last)
        self._wire("rresp").value = 2 if address in self.failing else 0
        return True


class WriteMemory:
    """Takes writes into ``bytes`` (address to value).

    Attributes
    ----------
    bursts : (cycle, address, beats) of every burst; ``responses`` the number of answers taken; ``last_response`` the cycle of the newest
    """

    def __init__(
        self,
        dut,
        cycles: Cycles,
        prefix: str,
        *,
        latency: int = 1,
        stall_address: float = 0.0,
        stall_data: float = 0.0,
        stall_response: float = 0.0,
        failing: frozenset[int] = frozenset(),
        rng: random.Random | None = None,
    ) -> None:
        self.dut, self.cycles, self.prefix = dut, cycles, prefix
        self.latency, self.stall_address, self.stall_data, self.stall_response = latency, stall_address, stall_data, stall_response
        self.failing = failing
        self.rng = rng or random.Random(0)
        self.bytes: dict[int, int] = {}
        self.bursts: list[tuple[int, int, int]] = []
        self.responses = 0
        self.last_response = 0
        self._data: deque[tuple[int, int, int, int]] = deque()  # cycle, data, strobe, last
        self._open: deque[tuple[int, int]] = deque()
        self._answers: deque[tuple[int, int]] = deque()  # first cycle, response
        for name in ("awready", "wready", "bvalid", "bid"):
            self._wire(name).value = 0
        cocotb.start_soon(self._serve())
        Stable(dut, f"{prefix}_awvalid", f"{prefix}_awready", (f"{prefix}_awaddr", f"{prefix}_awlen"))
        Stable(dut, f"{prefix}_wvalid", f"{prefix}_wready", (f"{prefix}_wdata", f"{prefix}_wstrb", f"{prefix}_wlast"))

    def _wire(self, name: str):
        return getattr(self.dut, f"{self.prefix}_{name}")

    @property
    def quiet(self) -> bool:
        """Whether everything that was asked for is written and answered."""
        return not (self._data or self._open or self._answers)

    async def _serve(self) -> None:
        address_ready = data_ready = valid = False
        while True:
            await RisingEdge(self.dut.clk)
            if valid:
                assert int(self._wire("bready").value), "a response is not accepted at once"
                self._answers.popleft()
                self.responses += 1
                self.last_response = self.cycles.now
            if address_ready and int(self._wire("awvalid").value):
                address, beats = check_burst(self.dut, self.prefix, "aw")
                self.bursts.append((self.cycles.now, address, beats))
                self._open.append((address, beats))
            if data_ready and int(self._wire("wvalid").value):
                fields = (int(self._wire(name).value) for name in ("wdata", "wstrb", "wlast"))
                self._data.append((self.cycles.now, *fields))
            self._finish_bursts()
            await FallingEdge(self.dut.clk)
            address_ready = self.rng.random() >= self.stall_address
            data_ready = self.rng.random() >= self.stall_data
            self._wire("awready").value = int(address_ready)
            self._wire("wready").value = int(data_ready)
            valid = bool(self._answers) and self._answers[0][0] <= self.cycles.now + 1 and self.rng.random() >= self.stall_response
            self._wire("bvalid").value = int(valid)
            self._wire("bresp").value = self._answers[0][1] if valid else 0

    def _finish_bursts(self) -> None:
        """Stores each burst of which the address and all data have come."""
        while self._open and len(self._data) >= self._open[0][1]:
            address, beats = self._open.popleft()
            failed = False
            for beat in range(beats):
                _, value, strobe, last = self._data.popleft()
                assert last == (beat == beats - 1), f"wlast is {last} on beat {beat} of {beats}"
                failed |= address + beat * BEAT_BYTES in self.failing
                for byte in range(BEAT_BYTES):
                    if strobe >> byte & 1:
                        self.bytes[address + beat * BEAT_BYTES + byte] = value >> 8 * byte & 0xFF
            self._answers.append((self.cycles.now + self.latency, 2 if failed else 0))
