"""One image through the whole accelerator: registers by AXI-Lite, everything else from one AXI memory."""

import itertools
import struct

import cocotb
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiRamRead, AxiReadBus

from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, start

MEMORY_BYTES = 1 << 22
DONE = 2


def pauses(salt: str, share: float):
    rng = bench_random(salt)
    return (rng.random() < share for _ in itertools.count())


class Host:
    """Memory behind all masters, and the register master."""

    def __init__(self, dut, stall: float) -> None:
        self.parameters = bench_parameters()
        self.control = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_control"), dut.clk, dut.rst)
        self.memory = AxiRam(AxiBus.from_prefix(dut, "m_axi_data"), dut.clk, dut.rst, size=MEMORY_BYTES)
        names = ["program", "pixels", *(f"weights_{port}" for port in range(self.parameters["weight_ports"]))]
        self.readers = [AxiRamRead(AxiReadBus.from_prefix(dut, f"m_axi_{name}"), dut.clk, dut.rst, mem=self.memory.mem) for name in names]
        if stall:
            reads, writes = self.memory.read_if, self.memory.write_if
            channels = [channel for reader in (reads, *self.readers) for channel in (reader.ar_channel, reader.r_channel)]
            channels += [writes.aw_channel, writes.w_channel, writes.b_channel]
            for number, channel in enumerate(channels):
                channel.set_pause_generator(pauses(f"channel {number}", stall))

    async def write(self, register: str, value: int) -> None:
        await self.control.write_dword(self.parameters["registers"][register], value)

    async def read(self, register: str) -> int:
        return await self.control.read_dword(self.parameters["registers"][register])

    async def load(self) -> None:
        for name, (address, size) in self.parameters["windows"].items():
            if name in self.parameters["contents"]:
                self.memory.write(address, bytes.fromhex(self.parameters["contents"][name]))
            await self.write(f"{name}_base_lo", address)
            await self.write(f"{name}_bytes", size)


async def run(dut, stall: float) -> int:
    host = Host(dut, stall)
    await start(dut)
    await RisingEdge(dut.clk)
    await host.load()
    before = bytes(host.memory.mem[:])
    await host.write("control", 0b101)
    await with_timeout(RisingEdge(dut.interrupt), 5, "ms")
    assert await host.read("status") == DONE
    address, size = host.parameters["windows"]["result"]
    expected = host.parameters["logits"]
    got = struct.unpack(f"<{len(expected)}h", host.memory.read(address, 2 * len(expected)))
    assert_equal(list(got), expected, "logits")
    after = bytes(host.memory.mem[:])
    assert before[:address] == after[:address] and before[address + size :] == after[address + size :], "a write outside the result window"
    return await host.read("count_cycles")


@cocotb.test()
async def free(dut) -> None:
    await run(dut, 0.0)


@cocotb.test()
async def stalled(dut) -> None:
    await run(dut, 0.4)
