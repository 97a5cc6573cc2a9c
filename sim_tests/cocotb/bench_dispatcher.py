"""The dispatcher against engines that take and post at random times: order, payloads, no instruction before its waits, errors."""

import random

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from rtl.dispatcher import Blocked
from rtl.program.instruction import COUNTERS
from rtl.program.isa import PAYLOAD, QUEUE_OF, Instruction, Opcode
from sim_tests.cocotb.helpers import bench_random, drive_stream, idle_stream, start

_PAYLOAD_BITS = 176
QUEUES = Instruction.queue_count()


def random_program(rng: random.Random, count: int) -> list[Instruction]:
    """Every wait is met by posts earlier in the program, often only just."""
    posts = [0] * COUNTERS
    program = []
    for _ in range(count):
        opcode = rng.choice(list(Opcode))
        waits = {}
        for wait in range(3):
            counter = rng.randrange(COUNTERS)
            waits |= {f"wait{wait}_counter": counter, f"wait{wait}_value": max(0, posts[counter] - rng.choice([0, 0, 0, 1, 5]))}
        payload = {name: rng.getrandbits(width) for name, width in PAYLOAD[opcode]}
        post = rng.randrange(1, COUNTERS)
        enable = int(rng.random() < 0.8)
        program.append(Instruction(opcode=opcode, payload=payload, post_enable=enable, post_counter=post, **waits))
        posts[post] += enable
    return program


def beats_of(program: list[Instruction]) -> list[int]:
    data = b"".join(instruction.encode() for instruction in program)
    return [int.from_bytes(data[at : at + 16], "little") for at in range(0, len(data), 16)]


def offered(instruction: Instruction) -> int:
    """The pattern of an instruction on its queue's output."""
    word = int.from_bytes(instruction.encode(), "little")
    post = instruction.post_enable | instruction.post_counter << 1
    return word & 15 | (word >> 80) << 4 | post << 4 + _PAYLOAD_BITS


class Engines:
    """Takes what is offered, posts later, and checks every instruction against the counters of this moment."""

    def __init__(self, dut, program: list[Instruction], *, stall: float, delay: int, rng: random.Random) -> None:
        self.dut, self.stall, self.delay, self.rng = dut, stall, delay, rng
        self.left = {q: [i for i in program if QUEUE_OF[i.opcode] == q] for q in range(QUEUES)}
        self.counters = [0] * COUNTERS  # as posted so far
        self.owed: list[list[tuple[int, int]]] = [[] for _ in range(QUEUES)]  # (cycles to go, counter)
        self.taken_at: list[int] = []
        self.cycle = 0

    async def run(self, limit: int) -> None:
        while any(self.left.values()):
            assert self.cycle < limit, f"{sum(map(len, self.left.values()))} instructions left after {limit} cycles"
            await self.step()

    async def step(self) -> None:
        dut, rng = self.dut, self.rng
        ready = [rng.random() >= self.stall for _ in range(QUEUES)]
        for queue in range(QUEUES):
            getattr(dut, f"o_{queue}__ready").value = int(ready[queue])
            due = [entry for entry in self.owed[queue] if entry[0] <= self.cycle]
            getattr(dut, f"post_{queue}").value = due[0][1] << 1 | 1 if due else 0
            if due:
                self.owed[queue].remove(due[0])
                self.counters[due[0][1]] += 1
        await RisingEdge(dut.clk)
        for queue in range(QUEUES):
            if ready[queue] and int(getattr(dut, f"o_{queue}__valid").value):
                self._take(queue, int(getattr(dut, f"o_{queue}__payload").value))
        self.cycle += 1
        await FallingEdge(dut.clk)

    def _take(self, queue: int, got: int) -> None:
        assert self.left[queue], f"queue {queue} offers more than the program has"
        instruction = self.left[queue].pop(0)
        assert got == offered(instruction), f"queue {queue}: got {got:#x}, expected {offered(instruction):#x}"
        for counter, value in instruction.waits:
            assert self.counters[counter] >= value, f"queue {queue}: counter {counter} has {self.counters[counter]}, not yet {value}"
        if instruction.post_enable:
            self.owed[queue].append((self.cycle + 1 + self.rng.randrange(self.delay), instruction.post_counter))
        self.taken_at.append(self.cycle)


async def begin(dut) -> None:
    idle_stream(dut, sources=("i_beats",), sinks=("o_read", *(f"o_{queue}" for queue in range(QUEUES))))
    for name in ("start", "clear", "window", *(f"post_{queue}" for queue in range(QUEUES))):
        getattr(dut, name).value = 0
    await start(dut)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.7], delay=[1, 40], source=[0.0, 0.8])
async def deals_in_order(dut, stall: float, delay: int, source: float) -> None:
    rng = bench_random(f"{stall} {delay} {source}")
    await begin(dut)
    program = random_program(rng, 400)
    cocotb.start_soon(drive_stream(dut, "i_beats", beats_of(program), stall=source))
    await Engines(dut, program, stall=stall, delay=delay, rng=rng).run(60_000)
    assert int(dut.index.value) == 400 and not int(dut.overflow.value) and not int(dut.bad_instruction.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cycles(dut) -> None:
    """The first instruction is offered nine cycles after its second beat was stored, then one per seven cycles and queue."""
    await begin(dut)
    payload = {name: 0 for name, _ in PAYLOAD[Opcode.TILE]}
    program = [Instruction(opcode=Opcode.TILE, payload=payload, comment=str(number)) for number in range(20)]
    engines = Engines(dut, program, stall=0.0, delay=1, rng=bench_random())
    cocotb.start_soon(drive_stream(dut, "i_beats", beats_of(program)))
    await engines.run(1000)
    gaps = {late - early for early, late in zip(engines.taken_at, engines.taken_at[1:], strict=False)}
    dut._log.info(f"taken at {engines.taken_at}")
    assert engines.taken_at[0] <= 13 and gaps <= {7, 8, 9}, engines.taken_at


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(wait=[0, 1, 2])
async def reports_what_it_waits_for(dut, wait: int) -> None:
    await begin(dut)
    payload = {name: 0 for name, _ in PAYLOAD[Opcode.STREAM]}
    waits = {f"wait{wait}_counter": 9, f"wait{wait}_value": 300}
    program = [Instruction(opcode=Opcode.STREAM, payload=payload, **waits)]
    cocotb.start_soon(drive_stream(dut, "i_beats", beats_of(program)))
    engines = Engines(dut, program, stall=0.0, delay=1, rng=bench_random())
    for posted in range(300):
        engines.owed[posted % QUEUES].append((posted, 9))
    while engines.cycle < 150:
        await engines.step()
    report = Blocked.from_bits(int(dut.blocked_3.value))
    have = engines.counters[9]
    assert (report.waiting, report.wait, report.opcode, report.counter, report.want) == (1, wait, Opcode.STREAM, 9, 300)
    assert have - 6 <= report.have <= have
    assert not any(int(getattr(dut, f"blocked_{queue}").value) & 1 for queue in range(QUEUES) if queue != QUEUE_OF[Opcode.STREAM])
    await engines.run(400)
    assert engines.taken_at[0] >= 300 and not int(dut.blocked_3.value) & 1


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def posts_at_once_and_overflow(dut) -> None:
    await begin(dut)
    for queue in range(QUEUES):
        getattr(dut, f"post_{queue}").value = 7 << 1 | 1
    for _ in range((1 << 16) // QUEUES):
        assert not int(dut.overflow.value)
        await FallingEdge(dut.clk)
    for _ in range(4):
        await FallingEdge(dut.clk)
    assert int(dut.overflow.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(opcode=[0, 8, 15])
async def bad_opcode(dut, opcode: int) -> None:
    await begin(dut)
    cocotb.start_soon(drive_stream(dut, "i_beats", [opcode, 0]))
    for _ in range(10):
        await FallingEdge(dut.clk)
    assert int(dut.bad_instruction.value) and not int(dut.index.value)


async def clear(dut) -> None:
    for name in ("i_beats__valid", *(f"post_{queue}" for queue in range(QUEUES))):
        getattr(dut, name).value = 0
    dut.clear.value = 1
    await FallingEdge(dut.clk)
    dut.clear.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def clear_empties(dut) -> None:
    """After clear a new program runs with counters at zero, whatever was in the queues."""
    rng = bench_random("clear")
    await begin(dut)
    for _ in range(6):
        old = random_program(rng, 60)
        driver = cocotb.start_soon(drive_stream(dut, "i_beats", beats_of(old)))
        engines = Engines(dut, old, stall=0.3, delay=5, rng=rng)
        for _ in range(rng.randrange(5, 250)):
            await engines.step()
        driver.cancel()
        await clear(dut)
        program = random_program(rng, 30)
        cocotb.start_soon(drive_stream(dut, "i_beats", beats_of(program)))
        await Engines(dut, program, stall=0.3, delay=5, rng=rng).run(5000)
        assert int(dut.index.value) == 30
        await clear(dut)
