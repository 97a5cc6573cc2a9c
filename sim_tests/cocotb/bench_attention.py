"""Bench of engine, key/value memory and rows together, against `model.integer.attention`."""

from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.utils import get_sim_time

from model import integer
from model.integer import REQUANTIZE_SHIFTS, attention, attention_accumulator_shift
from rtl.program.isa import PAYLOAD, Opcode
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start

CLOCK_NS = 10
KEY, VALUE = 0, 1
LIMIT = 127


@dataclass(frozen=True, kw_only=True)
class Case:
    """One ATTEND. ``data`` names a generator of q, k, v; gap is the chance of an idle cycle at the collector.

    ``last``: the heads, places and passes that the command uses are the last ones, not the first. passes 0: all but one.
    """

    data: str = "random"
    gap: float = 0.0
    multiplier: int = 40000
    shift: int = 20
    gain: float = 1.0
    image: int = 0
    output_image: int = 0
    last: bool = False
    heads: int | None = None
    passes: int | None = None
    keys: int | None = None


CASES = {
    "random": Case(),
    "random again, shift 24": Case(multiplier=60000, shift=24, gain=3.3),
    "gaps": Case(gap=0.3, multiplier=9000),
    "shift 16": Case(multiplier=1700, shift=16, gain=0.5),
    "shift 12": Case(multiplier=7, shift=12),
    "saturated scores": Case(multiplier=65535, shift=12),
    "saturated outputs": Case(gain=15.9),
    "extremes": Case(data="extremes", gap=0.1),
    "largest sums": Case(data="largest", gain=2.0),
    "smallest sums": Case(data="smallest", gain=2.0),
    "ties": Case(data="ties"),
    "one dominating key": Case(data="dominating", shift=16),
    "uniform": Case(data="uniform"),
    "second image": Case(image=1, output_image=1),
    "into the other image": Case(output_image=1),
    "last places": Case(last=True),
    "one head": Case(heads=1),
    "one head, the last, second image": Case(heads=1, last=True, image=1),
    "one job, the last": Case(heads=1, passes=1, last=True, gap=0.2),
    "one pass": Case(passes=1),
    "the last pass": Case(passes=1, last=True),
    "all but the first pass": Case(passes=0, last=True, gap=0.2),
    "one job": Case(heads=1, passes=1),
    "one job, gaps": Case(heads=1, passes=1, gap=0.5),
    "fewer keys": Case(keys=0),
    "one key": Case(keys=1),
}


def operands(case, rng, heads, places, shape):
    """q, k, v: int64 arrays of shape (heads or places, slots, head_dim)."""
    q, k, v = (rng.integers(-LIMIT, LIMIT + 1, (count, *shape)) for count in (heads, places, places))
    if case.data == "extremes":
        q, k, v = (np.where(x < 0, -LIMIT, LIMIT) for x in (q, k, v))
    elif case.data in ("largest", "smallest"):
        q[:] = k[:] = LIMIT
        v[:] = LIMIT if case.data == "largest" else -LIMIT
    elif case.data == "ties":
        k[:] = k[:, :1]
    elif case.data == "dominating":
        k[: len(q)] = -q[:, :1]
        k[: len(q), 3] = q[:, 3]
    elif case.data == "uniform":
        q[:] = 0
    return q, k, v


def pack(values):
    """Signed bytes to one integer, the first in the lowest bits."""
    return int.from_bytes(np.asarray(values, dtype=np.int8).tobytes(), "little")


class Driver:
    """The harness's ports as functions. ``sizes``: the parameters of the AttentionConfig."""

    def __init__(self, dut, sizes):
        self.dut, self.sizes = dut, sizes
        self.pass_bits = max(1, (sizes["passes"] - 1).bit_length())
        self.place_bits = max(1, (sizes["key_value_heads"] - 1).bit_length())

    def rest(self):
        idle_stream(self.dut, sinks=())
        for name in ("collect", "values", "place"):
            getattr(self.dut, name).value = 0

    def by_pass(self, tensor, index):
        rows = self.sizes["rows"]
        return tensor[:, index * rows : (index + 1) * rows]

    async def load(self, image, q):
        """q into the activation memories of an image: (head, dim) at head * head_dim + dim."""
        for index in range(self.sizes["passes"]):
            for head, block in enumerate(self.by_pass(q, index)):
                for dim in range(block.shape[1]):
                    await self.place(image, index, head * block.shape[1] + dim, write=block[:, dim])
        self.dut.place.value = 0

    async def place(self, image, index, address, write=None):
        self.dut.place.value = int(write is not None) | image << 1 | index << 2 | address << (2 + self.pass_bits)
        if write is not None:
            self.dut.values.value = pack(write)
        await FallingEdge(self.dut.clk)

    async def collect(self, tiles, rng, gap):
        """Runs of (kind, tensor), each all passes; within a pass place, dim."""
        shifts = np.cumsum([0, 1, 1, self.pass_bits, self.place_bits])
        for kind, tensor in tiles:
            for index in range(self.sizes["passes"]):
                for head, block in enumerate(self.by_pass(tensor, index)):
                    for dim in range(block.shape[1]):
                        while rng.random() < gap:
                            self.dut.collect.value = 0
                            self.dut.values.value = pack(rng.integers(-LIMIT, LIMIT, self.sizes["rows"]))
                            await FallingEdge(self.dut.clk)
                        fields = zip((1, kind, index, head, dim), shifts, strict=True)
                        self.dut.collect.value = sum(int(field) << int(shift) for field, shift in fields)
                        self.dut.values.value = pack(block[:, dim])
                        await FallingEdge(self.dut.clk)
        self.dut.collect.value = 0
        for _ in range(self.sizes["rows"] + 4):
            await FallingEdge(self.dut.clk)

    async def attend(self, case, **fields):
        """Runs the command and returns its cycles."""
        fields |= {
            "image": case.image,
            "output_image": case.output_image,
            "score_multiplier": case.multiplier,
            "score_shift": REQUANTIZE_SHIFTS.index(case.shift),
        }
        word = position = 0
        for name, width in PAYLOAD[Opcode.ATTEND]:
            word, position = word | fields[name] << position, position + width
        assert int(self.dut.i__ready.value) == 1
        self.dut.i__valid.value, self.dut.i__payload.value = 1, word
        await FallingEdge(self.dut.clk)
        self.dut.i__valid.value = 0
        began = get_sim_time("ns")
        await RisingEdge(self.dut.done)
        await FallingEdge(self.dut.clk)
        return 1 + round((get_sim_time("ns") - began) / CLOCK_NS)

    async def held(self, rows):
        """What the built rows hold: (images, passes, channels, rows)."""
        held = np.zeros((2, self.sizes["passes"], self.sizes["heads"] * self.sizes["head_dim"], len(rows)), dtype=np.int64)
        for image, index, channel in np.ndindex(held.shape[:3]):
            await self.place(image, index, channel)
            held[image, index, channel] = np.frombuffer(int(self.dut.held.value).to_bytes(len(rows), "little"), dtype=np.uint8)
        return held


async def run_case(dut, name, case, parameters):
    sizes, rows, bits = parameters["sizes"], parameters["rows"], parameters["sizes"]["bits"]
    heads = case.heads or sizes["heads"]
    passes = sizes["passes"] - 1 if case.passes == 0 else case.passes or sizes["passes"]
    keys = sizes["tokens"] - 2 if case.keys == 0 else case.keys or sizes["tokens"]
    rng = np.random.default_rng(bench_random(name).getrandbits(64))
    driver = Driver(dut, sizes)
    slots, head_dim = sizes["rows"] * sizes["passes"], sizes["head_dim"]
    q, k, v = operands(case, rng, sizes["heads"], sizes["key_value_heads"], (slots, head_dim))
    await driver.load(case.image, q)
    await driver.collect([(KEY, k), (VALUE, v)], rng, case.gap)
    shift = attention_accumulator_shift(sizes["tokens"])
    dividend = min(int(case.gain * 2 ** (22 + shift + bits - 8)), 2**32 - 1)
    want = await driver.held(rows)
    first, first_place = (sizes["heads"] - heads, sizes["key_value_heads"] - heads) if case.last else (0, 0)
    first_pass = sizes["passes"] - passes if case.last else 0
    numbers = dict(first_head=first, key_value_head=first_place, heads=heads, first_pass=first_pass, passes=passes, keys=keys)
    numbers["dividend"] = dividend
    cycles = await driver.attend(case, **numbers)
    assert cycles == parameters["cycles"][f"{heads},{passes}"], (cycles, parameters["cycles"])
    for head, place in zip(range(first, first + heads), range(first_place, first_place + heads), strict=True):
        outputs = expected(q[head], k[place, :keys], v[place, :keys], case, dividend, sizes)
        for index in range(first_pass, first_pass + passes):
            want[case.output_image, index, head * head_dim : (head + 1) * head_dim] = outputs[index * sizes["rows"] + np.array(rows)].T
    wrong = np.argwhere(await driver.held(rows) != want)
    assert not len(wrong), f"{name}: {len(wrong)} of {want.size} bytes are wrong, first (image, pass, channel, row) {wrong[0]}"
    assert not int(dut.conflict.value), "two chunks met in a key/value bank"
    assert not int(dut.port_clash.value), "activation port read and written at once"


def expected(q, k, v, case, dividend, sizes):
    """`model.integer.attention`; with fewer keys than tokens the accumulator's shift is still that of the machine's tokens."""
    if len(k) == sizes["tokens"]:
        return attention(q, k, v, case.multiplier, case.shift, dividend, sizes["bits"])
    scores = integer.requantize(q @ k.T, case.multiplier, case.shift, 0, integer.signed(integer.SCORE_BITS))
    numerators = integer.softmax_numerators(scores)
    weighted = integer.round_shift(numerators @ v, attention_accumulator_shift(sizes["tokens"]))
    product = weighted * (dividend // numerators.sum(-1, keepdims=True))
    bits = sizes["bits"]
    return integer.saturate((product >> integer.ATTENTION_SHIFT) + (1 << (bits - 1)), integer.unsigned(bits))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def attends(dut) -> None:
    """All cases one after the other, without a reset."""
    parameters = bench_parameters()
    Driver(dut, parameters["sizes"]).rest()
    await start(dut)
    for name in parameters["cases"] or CASES:
        dut._log.info(name)
        await run_case(dut, name, CASES[name], parameters)
