"""Bench of `AttendEngine`: every word of the state memory, zeros and what was there before included, and the cycle of every done."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model.efficientvit import integer
from model.efficientvit.graph import Divisor, Scale
from model.integer import REQUANTIZE_SHIFTS, Saturation, choose_multiplier, requantize
from rtl.efficientvit import key_value_memory
from rtl.efficientvit.attend_command import AttendConfig, command_layout
from sim_tests.cocotb.helpers import bench_parameters, bench_random, start

WORDS = 512
#: (heads of 32, heads, pixels)
SIZES = ((0, 4, 49), (0, 3, 16), (1, 2, 49), (0, 2, 196), (1, 1, 16), (0, 3, 324), (1, 2, 324), (0, 1, 1), (1, 3, 3))


class Machine:
    """The engine, the clock's cycle, and what its state memory should hold."""

    def __init__(self, dut, rng):
        self.dut, self.rng = dut, rng
        self.config = AttendConfig(**bench_parameters()["config"])
        self.words = np.zeros((WORDS, 2, 32), dtype=np.int64)
        self.cycle = 0
        self.taken, self.done = [], []

    async def reset(self):
        for port in ("write", "address", "i__payload", "i__valid"):
            getattr(self.dut, port).value = 0
        await start(self.dut)
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.i__valid.value and self.dut.i__ready.value:
                self.taken.append(self.cycle)
            if self.dut.done.value:
                self.done.append(self.cycle)
            self.cycle += 1

    async def write(self, tensor, address):
        """tensor (pixels, words, 32) of codes. Passes of ``rows`` pixels; pixel 4i + b of a pass in bank b."""
        layout, rows = key_value_memory.write_layout(self.config.key_value), self.config.rows
        for first in range(0, len(tensor), rows):
            tokens = tensor[first : first + rows]
            for group in range(-(-rows // 4)):
                some = tokens[4 * group : 4 * group + 4]
                for word in range(tensor.shape[1]):
                    data = [sum(int(code) << c * self.config.bits for c, code in enumerate(pixel[word])) for pixel in some]
                    fields = {"valid": (1 << len(some)) - 1, "address": address % WORDS, "data": data + [self.noise()] * (4 - len(some))}
                    self.dut.write.value = layout.const(fields).as_bits()
                    await FallingEdge(self.dut.clk)
                    address += 1
        self.dut.write.value = 0

    def noise(self):
        return int(self.rng.integers(1 << 60)) << 60 & (1 << 32 * self.config.bits) - 1

    async def run(self, commands, stall=0.0):
        """All commands; back when the last one's state may be read."""
        layout, count = command_layout(self.config), len(self.done) + len(commands)
        for command in commands:
            while self.rng.random() < stall:
                for _ in range(int(self.rng.choice((1, 2, 3, 5, 90)))):
                    await FallingEdge(self.dut.clk)
            self.dut.i__valid.value, self.dut.i__payload.value = 1, layout.const(command).as_bits()
            before = len(self.taken)
            while len(self.taken) == before:
                await FallingEdge(self.dut.clk)
            self.dut.i__valid.value, self.dut.i__payload.value = 0, layout.const(dict.fromkeys(command, 1) | {"wide": 0}).as_bits()
        for _ in range(20_000):
            if len(self.done) >= count:
                break
            await FallingEdge(self.dut.clk)
        assert len(self.done) == count, f"{count} heads asked for, {len(self.done)} done"

    async def check(self, what):
        """Every word of the state memory. Called in the cycle after a done: the first read is in that cycle."""
        latency, got = 2, []
        for cycle in range(WORDS + latency):
            self.dut.address.value = (cycle + 300) % WORDS
            await RisingEdge(self.dut.clk)
            if cycle >= latency:
                got.append(int(self.dut.word.value))
            await FallingEdge(self.dut.clk)
        got = np.roll([np.frombuffer(word.to_bytes(64, "little"), dtype=np.int8) for word in got], 300, axis=0)
        wrong = np.argwhere(got != self.words.reshape(WORDS, 64))
        assert not len(wrong), (
            f"{what}: {len(wrong)} bytes differ, first word, byte {wrong[0]}: got {got[tuple(wrong[0])]}, "
            f"expected {self.words.reshape(WORDS, 64)[tuple(wrong[0])]}"
        )


class Heads:
    """Heads of one size in the key/value memory: random codes, every command of them, and what it does to the state memory."""

    def __init__(self, machine, *, wide, heads, pixels, address, extreme=False):
        self.machine, self.wide, self.heads, self.pixels, self.address = machine, wide, heads, pixels, address
        self.dim, rng = (32 if wide else 16), machine.rng
        limit = (1 << (machine.config.bits - 1)) - 1
        shape = (heads, pixels, self.dim)
        self.k, self.v = ((rng.choice((-limit, limit), shape) if extreme else rng.integers(-limit, limit + 1, shape)) for _ in range(2))
        if extreme:
            self.k = np.abs(self.k)
        self.stride = heads * self.dim // 16
        maximum = np.abs(np.maximum(self.k, 0).swapaxes(-1, -2) @ self.v).max((-1, -2)), np.maximum(self.k, 0).sum(-2).max(-1)
        # 127 * 1.6: some saturate
        self.state, self.total = ([choose_multiplier(min(203 / max(int(m), 1), 15.9)) for m in ms] for ms in maximum)

    async def write(self):
        """Words of heads of 16: [k0 v0], [k1 v1], ...; of 32: [k0], [v0], ..."""
        codes = np.concatenate([self.k, self.v], axis=-1).transpose(1, 0, 2).reshape(self.pixels, -1, 32)
        await self.machine.write(codes + (1 << (self.machine.config.bits - 1)), self.address)

    def command(self, head, *, base, place, pixels=None):
        """The command; the state is put where it should be."""
        pixels = pixels or self.pixels
        (state_multiplier, state_shift), (sum_multiplier, sum_shift) = self.state[head], self.total[head]
        k, v = np.maximum(self.k[head, :pixels], 0), self.v[head, :pixels]
        state = requantize(k.T @ v, state_multiplier, state_shift, 0, integer.OPERAND)
        total = requantize(k.sum(0), sum_multiplier, sum_shift, 0, Saturation(low=0, high=127))
        self._place(self.machine.words, base, place, state, total)
        return {
            "address": self.address + head * self.dim // 16,
            "stride": self.stride,
            "pixels": pixels,
            "wide": int(self.wide),
            "base": base,
            "place": place,
            "state_multiplier": state_multiplier,
            "state_shift": REQUANTIZE_SHIFTS.index(state_shift),
            "sum_multiplier": sum_multiplier,
            "sum_shift": REQUANTIZE_SHIFTS.index(sum_shift),
        }

    def _place(self, words, base, place, state, total):
        j, odd = (place, 0) if self.wide else divmod(place, 2)
        divisor, dividends = words[base + j], words[base + 16 + 16 * j : base + 32 + 16 * j]
        if self.wide:
            divisor[:] = total
            dividends[:, 0], dividends[:, 1] = state.T[:16], state.T[16:]
            return
        if not odd:
            divisor[:], dividends[:] = 0, 0
        inputs = slice(16, 32) if odd else slice(0, 16)
        divisor[odd], dividends[:, odd] = 0, 0
        divisor[odd, inputs], dividends[:, odd, inputs] = total, state.T


async def filled(dut, salt):
    """A machine whose whole state memory holds states of heads of 32, without zeros but by chance."""
    machine = Machine(dut, np.random.default_rng(bench_random(salt).getrandbits(64)))
    await machine.reset()
    heads = Heads(machine, wide=True, heads=16, pixels=5, address=0)
    await heads.write()
    await machine.run([heads.command(place, base=base, place=place) for base in (0, WORDS - 272) for place in range(16)])
    assert (machine.words != 0).mean() > 0.8
    return machine


def check_quotients(machine, heads, base):
    """What the rows make of the state's words is what the model makes of q, k and v."""
    q = machine.rng.integers(-127, 128, heads.k.shape)
    columns = {f"{n}_{c}": np.array([pair[c == "shift"] for pair in pairs]) for n, pairs in (("state", heads.state), ("sum", heads.total))
               for c in ("multiplier", "shift")}  # fmt: skip
    scale = Scale(source="qkv", **columns, divisor=Divisor(kind="exact"), output_multiplier=1 << 26, output_shift=0)
    expected = integer.linear_attention(q, heads.k, heads.v, scale)
    per_word = 1 if heads.wide else 2
    q = np.maximum(q, 0)
    for j in range(-(-heads.heads // per_word)):
        here = q[j * per_word : (j + 1) * per_word]
        inputs = np.zeros((heads.pixels, 32), dtype=np.int64)
        inputs[:, : len(here) * heads.dim] = here.transpose(1, 0, 2).reshape(heads.pixels, -1)
        divisor = np.einsum("pi,li->lp", inputs, machine.words[base + j])
        dividend = np.einsum("pi,cli->lpc", inputs, machine.words[base + 16 + 16 * j : base + 32 + 16 * j])
        quotient = integer.divide(dividend, divisor[..., None], scale)
        for index in range(len(here)):
            got = np.concatenate(quotient, axis=-1) if heads.wide else quotient[index]
            assert (got == expected[j * per_word + index]).all()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def matches_model(dut) -> None:
    """Steps of equal heads, back to back: every word, and every done to the cycle."""
    machine, was_wide = await filled(dut, "matches"), True
    for wide, heads, pixels in SIZES:
        base, address = int(machine.rng.integers(0, WORDS - 272)), 2 * int(machine.rng.integers(0, 40))
        some = Heads(machine, wide=bool(wide), heads=heads, pixels=pixels, address=address, extreme=pixels == 196)
        await some.write()
        first = int(machine.rng.integers(0, 32 // (2 if wide else 1) - heads)) & ~1
        before = len(machine.done)
        await machine.run([some.command(head, base=base, place=first + head) for head in range(heads)])
        what = f"wide {wide}, {heads} heads, {pixels} pixels"
        await machine.check(what)
        done, taken = machine.done[before:], machine.taken[before:]
        late = machine.config.late if was_wide and not wide else 0
        assert done[0] - taken[0] == 1 + late + machine.config.latency(pixels, some.wide), f"{what}: {taken} {done}"
        assert (np.diff(done) == machine.config.cycles(pixels, some.wide)).all(), f"{what}: {done}"
        was_wide = some.wide


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def quotients(dut) -> None:
    machine = await filled(dut, "quotients")
    for wide, heads in ((False, 5), (True, 2)):
        some = Heads(machine, wide=wide, heads=heads, pixels=49, address=0)
        await some.write()
        await machine.run([some.command(head, base=7, place=head) for head in range(heads)])
        await machine.check("quotients")
        check_quotients(machine, some, 7)


@cocotb.test(timeout_time=40, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def mixed(dut, stall: float) -> None:
    """Heads of both sizes, any number of pixels, any place, in any order."""
    machine = await filled(dut, f"mixed {stall}")
    narrow = Heads(machine, wide=False, heads=3, pixels=120, address=5)
    wide = Heads(machine, wide=True, heads=2, pixels=110, address=200)
    await narrow.write()
    await wide.write()
    for _ in range(8):
        commands = []
        for _ in range(12):
            some = narrow if machine.rng.random() < 0.6 else wide
            pixels = int(machine.rng.choice((1, 2, 7, int(machine.rng.integers(1, some.pixels + 1)))))
            place = int(machine.rng.integers(16 if some.wide else 32))
            head = int(machine.rng.integers(some.heads))
            commands.append(some.command(head, base=int(machine.rng.integers(0, WORDS - 272)), place=place, pixels=pixels))
        await machine.run(commands, stall)
        await machine.check(f"mixed, stall {stall}")
