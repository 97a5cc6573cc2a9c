"""The head engine under test: its ports, the clock's cycle, and operators with random constants."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model.efficientvit import integer
from model.efficientvit.graph import Hardswish, LayerNorm, Requantizer
from model.integer import REQUANTIZE_SHIFTS, Saturation
from rtl.efficientvit.head_command import HEAD_COMMAND, HeadKind, encode
from rtl.efficientvit.program.pack_head import norm_fields, pack_linear, pack_norm, pack_pool, pack_weights
from sim_tests.cocotb.helpers import start
from sim_tests.cocotb.pool_groups import BITS, as_collected, passes_of, play

LIMIT = 200_000
TOP = (1 << BITS) - 1
SHIFTS = np.array(REQUANTIZE_SHIFTS)


class Machine:
    """Attributes
    ----------
    taken, done : cycles in which commands were taken, and strobes came
    """

    def __init__(self, dut) -> None:
        self.dut, self.cycle, self.sent = dut, 0, 0
        self.taken: list[int] = []
        self.done: list[int] = []

    async def reset(self) -> None:
        for port in ("pool", "i__valid", "i__payload", "load", "logit_address", *(f"write_weight_{s}" for s in range(4))):
            getattr(self.dut, port).value = 0
        await start(self.dut)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            if dut.i__valid.value and dut.i__ready.value:
                self.taken.append(self.cycle)
            if dut.done.value:
                self.done.append(self.cycle)
            self.cycle += 1

    async def wait(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            await FallingEdge(self.dut.clk)

    async def send(self, kind: HeadKind, **fields: int) -> None:
        """A command; back when it is taken. Fields that its kind does not use are ones."""
        used = {"kind", "words", "first", "parameters", *_USED[kind]}
        unused = {name: (1 << HEAD_COMMAND[name].width) - 1 for name in HEAD_COMMAND.members if name not in used}
        self.dut.i__payload.value, self.dut.i__valid.value = encode(**unused, kind=kind, **fields), 1
        self.sent += 1
        before = len(self.taken)
        while len(self.taken) == before:
            await self.wait()
        self.dut.i__valid.value = 0

    async def until(self, count: int | None = None) -> None:
        """Until so many commands, or all that were sent, are done."""
        count = self.sent if count is None else count
        for _ in range(LIMIT):
            if len(self.done) >= count:
                return
            await self.wait()
        raise AssertionError(f"{len(self.done)} strobes of done for {count} commands in {LIMIT} cycles")

    async def parameters(self, address: int, beats: bytes) -> None:
        for index in range(len(beats) // 16):
            beat = int.from_bytes(beats[16 * index : 16 * index + 16], "little")
            self.dut.load.value = 1 | (address + index) << 1 | beat << 17
            await self.wait()
        self.dut.load.value = 0

    async def weights(self, address: int, words: np.ndarray) -> None:
        for index, word in enumerate(words):
            for s in range(4):
                piece = int.from_bytes(word[16 * s : 16 * s + 16].tobytes(), "little")
                getattr(self.dut, f"write_weight_{s}").value = 1 | (address + index) % 1024 << 1 | piece << 17
            await self.wait()
        for s in range(4):
            getattr(self.dut, f"write_weight_{s}").value = 0

    async def pool(self, codes: np.ndarray, rows: int) -> None:
        """codes (pixels, channels)."""
        padded = np.zeros((len(codes), -(-codes.shape[1] // 32) * 32), dtype=np.int64)
        padded[:, : codes.shape[1]] = codes
        await play(self.dut, "pool", as_collected(passes_of(padded.reshape(len(codes), -1, 32), rows)))

    async def logits(self, count: int, image: int = 0) -> list[int]:
        got = []
        for beat in range(-(-count // 8)):
            self.dut.logit_address.value = beat | image << 9
            await self.wait()
            word = int(self.dut.logits.value)
            got += [(word >> 16 * place & 0xFFFF ^ 0x8000) - 0x8000 for place in range(8)]
        return got[:count]


_USED = {
    HeadKind.LINEAR: {"norm_vector", "logits", "image", "pairs", "weights"},
    HeadKind.POOL: {"zero", "low"},
    HeadKind.NORM: {"zero", "low", "statistics", "channels", "inverse", "inverse_shift", "dividend", "fraction", "hardswish_fraction"},
}


class Pooled:
    """A pool's requantizer for ``sums`` (channels,), less the zero point."""

    def __init__(self, rng, sums: np.ndarray, pixels: int) -> None:
        self.zero, self.pixels = int(rng.integers(0, TOP + 1)), pixels
        self.target_zero, self.low = int(rng.integers(0, TOP + 1)), int(rng.integers(2))
        sums = sums - pixels * self.zero
        self.requantizer = random_requantizer(rng, sums, 4000 * TOP / 255)
        self.codes = integer.requantize_code(sums, self.requantizer, self.target_zero, Saturation(low=self.low, high=TOP))

    async def run(self, machine: Machine, piece: int) -> None:
        """``piece``: channels per command; parameters alternate between two places."""
        beats, base = pack_pool(self.requantizer, self.pixels, self.zero), machine.sent
        for index, first in enumerate(range(0, len(self.codes), piece)):
            await machine.until(base + max(0, index - 1))
            address, some = 1024 - piece * (index % 2 + 1), beats[16 * first : 16 * (first + piece)]
            await machine.parameters(address, some)
            await machine.send(HeadKind.POOL, **self.fields(), words=-(-len(some) // 512), first=first // 32, parameters=address)

    def fields(self) -> dict[str, int]:
        return {"zero": self.target_zero, "low": self.low}


class Linear:
    """A fully connected layer with random constants, for codes ``u`` with zero point ``zero``."""

    def __init__(self, rng, u: np.ndarray, zero: int, outputs: int, extreme: bool = False) -> None:
        self.zero = zero
        self.weight = rng.choice((-127, 127), (outputs, len(u))) if extreme else rng.integers(-127, 128, (outputs, len(u)))
        sums = self.weight @ (u - zero)
        self.requantizer = random_requantizer(rng, sums, 12_000)
        self.values = integer.requantize_code(sums, self.requantizer, 0, integer.WIDE)

    @property
    def words(self) -> int:
        return -(-self.weight.shape[1] // 32)

    def parts(self, first: int, pairs: int) -> tuple[np.ndarray, bytes]:
        """Weight words and parameters of some pairs."""
        packed = pack_weights(self.weight.astype(np.int8)).reshape(-1, self.words, 64)
        beats = pack_linear(self.requantizer, self.weight, self.zero, BITS)
        return packed[first : first + pairs].reshape(-1, 64), beats[16 * first : 16 * (first + pairs)]

    async def run(self, machine: Machine, pairs: int, **fields: int) -> None:
        """``pairs`` per command; a command's weights and parameters come while the one before is computed."""
        base, total = machine.sent, -(-len(self.weight) // 2)
        for index, first in enumerate(range(0, total, pairs)):
            await machine.until(base + max(0, index - 1))
            words, beats = self.parts(first, pairs)
            address, parameters = 700 + 512 * (index % 2) & 1023, 100 * (index % 2)
            loading = cocotb.start_soon(machine.weights(address, words))
            await machine.parameters(parameters, beats)
            await loading
            await machine.wait(2)
            await machine.send(
                HeadKind.LINEAR, words=self.words, first=first, pairs=len(beats) // 16, weights=address, parameters=parameters, **fields
            )


class Norm:
    """LayerNorm of ``x`` (channels,) with random constants."""

    def __init__(self, rng, x: np.ndarray, fraction: int, hardswish: int) -> None:
        self.zero, self.low, channels = int(rng.integers(0, TOP + 1)), int(rng.integers(2)), len(x)
        limit = min(1 << 15, 3 << hardswish + fraction) - 1
        beta = np.clip((rng.normal(0, 1, channels) * 2.0 ** (hardswish + fraction + 11)).round(), -(1 << 31), (1 << 31) - 1)
        stage = Hardswish(fraction=hardswish, **random_stage(rng, channels, hardswish))
        self.norm = LayerNorm(
            name="norm", source="x", target="y", gamma=rng.integers(-limit - 1, limit + 1, channels), beta=beta.astype(np.int64),
            fraction=fraction, hardswish=stage,
        )  # fmt: skip
        self.codes = integer.layernorm_hardswish(x, self.norm, self.zero, Saturation(low=self.low, high=TOP))

    async def run(self, machine: Machine, piece: int) -> None:
        """``piece``: channels per command; the first one takes the statistics."""
        beats, base = pack_norm(self.norm), machine.sent
        for index, first in enumerate(range(0, len(self.codes), piece)):
            await machine.until(base + max(0, index - 1))
            address, some = piece * (index % 2), beats[16 * first : 16 * (first + piece)]
            await machine.parameters(address, some)
            fields = {**self.fields(), "statistics": index == 0}
            await machine.send(HeadKind.NORM, **fields, words=-(-len(some) // 512), first=first // 32, parameters=address)

    def fields(self) -> dict[str, int]:
        return {"zero": self.zero, "low": self.low, **norm_fields(self.norm)}


def random_requantizer(rng, sums: np.ndarray, deviation: float) -> Requantizer:
    """Results deviate by about ``deviation``; some channels have any constants at all."""
    channels, spread = len(sums), float(np.abs(sums).mean()) + 1
    shift = rng.choice(SHIFTS, channels)
    ratio = deviation / spread * rng.uniform(0.2, 4, channels)
    multiplier = np.clip(np.round(ratio * 2.0**shift), 1, (1 << 16) - 1).astype(np.int64)
    wild = rng.random(channels) < 0.1
    multiplier[wild] = rng.integers(0, 1 << 16, int(wild.sum()))
    bias = np.round(rng.normal(0, 0.3, channels) * spread).astype(np.int64)
    return Requantizer(bias=bias, multiplier=multiplier, shift=shift)


def random_stage(rng, channels: int, hardswish: int) -> dict[str, np.ndarray]:
    shift = rng.choice(SHIFTS, channels)
    ratio = TOP / 255 * 2.0 ** (13 - hardswish) * rng.uniform(0.2, 2, channels)
    multiplier = np.clip(np.round(ratio * 2.0**shift), 1, (1 << 16) - 1).astype(np.int64)
    bias = np.clip(rng.normal(0, 0.5, channels) * 2.0**hardswish, -(1 << 15), (1 << 15) - 1).round().astype(np.int64)
    return {"bias": bias, "multiplier": multiplier, "shift": shift}
