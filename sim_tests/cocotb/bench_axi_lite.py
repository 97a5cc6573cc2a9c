"""The control registers through cocotbext-axi's AXI-Lite master, with stalls on every channel."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from rtl.bus.register_map import COUNTERS, REGISTERS, WINDOWS, Access, ErrorCode, as_dict
from rtl.bus.registers import COMMANDS, STATE
from sim_tests.bus.axi_models import Cycles, Stable
from sim_tests.cocotb.helpers import bench_parameters, bench_random, start

MAP = as_dict()
START, CLEAR, INTERRUPT_ENABLE = 1, 2, 4
BUSY, DONE, ERROR = 1, 2, 4


class Driver:
    """Register access by name."""

    def __init__(self, dut, pause: float = 0.0) -> None:
        self.dut = dut
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        rng = bench_random("lite")
        write, read = self.master.write_if, self.master.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(iter(lambda: rng.random() < pause, None))

    async def read(self, name: str) -> int:
        answer = await self.master.read(MAP[name]["offset"], 4)
        assert answer.resp == AxiResp.OKAY, f"reading {name}"
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> AxiResp:
        return (await self.master.write(MAP[name]["offset"], value.to_bytes(4, "little"))).resp

    async def field(self, name: str, field: str) -> int:
        place = MAP[name]["fields"][field]
        return await self.read(name) >> place["low"] & (1 << place["width"]) - 1


async def begin(dut, pause: float = 0.0) -> Driver:
    dut.state.value = 0
    dut.rst.value = 1
    driver = Driver(dut, pause)
    Stable(dut, "s_axi_rvalid", "s_axi_rready", ("s_axi_rdata", "s_axi_rresp"))
    Stable(dut, "s_axi_bvalid", "s_axi_bready", ("s_axi_bresp",))
    await start(dut)
    await FallingEdge(dut.clk)
    return driver


def state(**fields) -> int:
    """The bits of STATE, by name; those of ``report`` and ``events`` directly."""
    groups = {"report": {}, "events": {}}
    for group, found in groups.items():
        layout = dict(STATE)[group].shape
        for name in dict(layout):
            if name in fields:
                found[name] = fields.pop(name)
    return STATE.const(fields | groups).as_bits()


def commands(dut):
    return COMMANDS.from_bits(int(dut.commands.value))


async def pulse(dut, **fields) -> None:
    await FallingEdge(dut.clk)
    before = int(dut.state.value)
    dut.state.value = before | state(**fields)
    await FallingEdge(dut.clk)
    dut.state.value = before


async def set_state(dut, **fields) -> None:
    await FallingEdge(dut.clk)
    dut.state.value = state(**fields)
    await FallingEdge(dut.clk)


async def count_pulses(dut, found: dict[str, int]) -> None:
    found |= {"start": 0, "clear": 0}
    while True:
        await RisingEdge(dut.clk)
        for name in found:
            found[name] += int(getattr(commands(dut), name))


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.5])
async def registers_hold_and_reset(dut, pause: float) -> None:
    """Every register after reset; every writable one keeps what is written, byte by byte, and changes no other."""
    driver = await begin(dut, pause)
    constants = {"id": 0x50564954, "version": 1} | {f"config_{name}": value for name, value in bench_parameters().items()}
    expected = {register.name: constants.get(register.name, register.init) for register in REGISTERS}
    for name, value in expected.items():
        assert await driver.read(name) == value, name
    rng = bench_random("values")
    for register in REGISTERS:
        if register.access in (Access.RW, Access.RW_LOCKED):
            value = rng.getrandbits(32)
            assert await driver.write(register.name, value) == AxiResp.OKAY
            expected[register.name] = value & (1 << register.width) - 1
            byte, patch = rng.randrange(4), rng.getrandbits(8)
            assert (await driver.master.write(register.offset + byte, bytes([patch]))).resp == AxiResp.OKAY
            expected[register.name] = (expected[register.name] & ~(0xFF << 8 * byte) | patch << 8 * byte) & (1 << register.width) - 1
        elif register.access is Access.RO:
            assert await driver.write(register.name, 0xFFFFFFFF) == AxiResp.SLVERR, register.name
    for name, value in expected.items():
        assert await driver.read(name) == value, name
    seen = commands(dut)
    assert int(seen.watchdog_limit) == expected["watchdog_limit"]
    for window in WINDOWS:
        assert int(seen.windows[window].base) == expected[f"{window}_base_hi"] << 32 | expected[f"{window}_base_lo"]
        assert int(seen.windows[window].bytes) == expected[f"{window}_bytes"]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def unmapped_addresses(dut) -> None:
    driver = await begin(dut)
    mapped = {register.offset for register in REGISTERS}
    for offset in [*range(0, 0x100, 4), 0x100, 0x400, 0x800, 0xFFC]:
        answer = await driver.master.read(offset, 4)
        assert (answer.resp == AxiResp.OKAY) == (offset in mapped), hex(offset)
        if offset not in mapped:
            assert answer.data == bytes(4)
            assert (await driver.master.write(offset, bytes(4))).resp == AxiResp.SLVERR


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.5])
async def run_to_done(dut, pause: float) -> None:
    driver = await begin(dut, pause)
    found = {}
    cocotb.start_soon(count_pulses(dut, found))
    await driver.write("control", START | INTERRUPT_ENABLE)
    assert found == {"start": 1, "clear": 0}
    await set_state(dut, busy=1)
    assert await driver.read("status") == BUSY and await driver.read("control") == INTERRUPT_ENABLE
    await driver.write("control", START | INTERRUPT_ENABLE)  # ignored while busy
    assert found == {"start": 1, "clear": 0}
    assert await driver.write("image_base_lo", 0x1230) == AxiResp.SLVERR
    assert await driver.write("watchdog_limit", 5) == AxiResp.OKAY
    assert not int(dut.irq.value)
    await pulse(dut, done=1)
    await set_state(dut)
    assert await driver.read("status") == DONE and int(dut.irq.value)
    assert await driver.read("image_base_lo") == 0
    assert await driver.write("image_base_lo", 0x1230) == AxiResp.OKAY
    await driver.write("status", BUSY | ERROR)
    assert await driver.read("status") == DONE
    await driver.write("control", 0)
    assert not int(dut.irq.value)
    await driver.write("control", INTERRUPT_ENABLE)
    await driver.write("status", DONE)
    assert await driver.read("status") == 0 and not int(dut.irq.value)
    await pulse(dut, done=1)
    await driver.write("control", START)
    assert await driver.read("status") == 0 and found == {"start": 2, "clear": 0}
    await driver.write("control", START | CLEAR)  # clear wins
    assert found == {"start": 2, "clear": 1}


REPORT = {"code": ErrorCode.WATCHDOG.value, "instruction": 0x1234, "op": 3, "counter": 9, "have": 0xFFFE, "want": 0x8001}


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(how=["status", "start", "clear"])
async def first_error_is_kept(dut, how: str) -> None:
    driver = await begin(dut)
    await driver.write("control", START | INTERRUPT_ENABLE)
    await set_state(dut, busy=1)
    await pulse(dut, error=1, **REPORT)
    await pulse(dut, error=1, code=1)
    await set_state(dut)
    assert await driver.read("status") == ERROR and int(dut.irq.value)
    names = {"error": ("code", "instruction"), "watchdog_wait": ("op", "counter"), "watchdog_values": ("have", "want")}
    for register, fields in names.items():
        for field in fields:
            assert await driver.field(register, field) == REPORT[field], field
    if how == "status":
        await driver.write("status", ERROR)
    else:
        await driver.write("control", START if how == "start" else CLEAR)
    for name in ("status", *names):
        assert await driver.read(name) == 0, name
    assert not int(dut.irq.value)
    await pulse(dut, error=1, code=2)
    assert await driver.field("error", "code") == 2


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def counters_count(dut) -> None:
    """Events of random cycles are counted exactly; start and clear set the counters to zero."""
    driver = await begin(dut)
    rng = bench_random("events")
    for restart in (START, CLEAR):
        expected = dict.fromkeys(COUNTERS, 0)
        await driver.write("control", restart)
        await FallingEdge(dut.clk)
        for _ in range(300):
            events = {name: rng.randrange(3 if name == "data_beats" else 2) for name in COUNTERS if name != "cycles"}
            busy = rng.randrange(2)
            for name, value in {**events, "cycles": busy}.items():
                expected[name] += value
            dut.state.value = state(busy=busy, **events)
            await FallingEdge(dut.clk)
        dut.state.value = 0
        for name, value in expected.items():
            assert await driver.read(f"count_{name}") == value, name
    await driver.write("control", START)
    for name in COUNTERS:
        assert await driver.read(f"count_{name}") == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def exact_cycles(dut) -> None:
    """Read data, write response and start pulse four cycles after the address and the data were taken."""
    dut.state.value = 0
    for name in ("awaddr", "awvalid", "awprot", "wdata", "wstrb", "wvalid", "araddr", "arvalid", "arprot"):
        getattr(dut, f"s_axi_{name}").value = 0
    dut.s_axi_bready.value = dut.s_axi_rready.value = 1
    cycles = Cycles(dut)
    await start(dut)
    await FallingEdge(dut.clk)
    dut.s_axi_araddr.value = MAP["id"]["offset"]
    dut.s_axi_wdata.value, dut.s_axi_wstrb.value = START, 0xF
    dut.s_axi_awvalid.value = dut.s_axi_wvalid.value = dut.s_axi_arvalid.value = 1
    await RisingEdge(dut.clk)
    assert int(dut.s_axi_awready.value) and int(dut.s_axi_wready.value) and int(dut.s_axi_arready.value)
    taken = cycles.now
    await FallingEdge(dut.clk)
    dut.s_axi_awvalid.value = dut.s_axi_wvalid.value = dut.s_axi_arvalid.value = 0
    seen = []
    for _ in range(5):
        await RisingEdge(dut.clk)
        seen.append((cycles.now - taken, int(dut.s_axi_rvalid.value), int(dut.s_axi_bvalid.value), int(commands(dut).start)))
        if int(dut.s_axi_rvalid.value):
            assert int(dut.s_axi_rdata.value) == 0x50564954
    assert seen == [(1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0), (4, 1, 1, 1), (5, 0, 0, 0)]
