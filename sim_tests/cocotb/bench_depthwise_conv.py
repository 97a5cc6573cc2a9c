"""Bench of `DepthwiseConv` against the interpreter: sweeps of changing lines, weights and parameters, without a bubble or with gaps."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from model.efficientvit import integer
from model.efficientvit.graph import Convolution, Requantizer
from model.efficientvit.interpreter import accumulators
from model.integer import REQUANTIZE_SHIFTS, Saturation
from rtl.units.depthwise_channel import PLACES
from rtl.units.depthwise_parameters import CHANNEL_PARAMETERS
from rtl.units.depthwise_window import tap_place
from sim_tests.cocotb.depth_layers import requantizer
from sim_tests.cocotb.helpers import assert_equal, bench_parameters, bench_random, signed, start

PARAMETERS = bench_parameters()
BITS, CHANNELS, OFFSETS = PARAMETERS["bits"], PARAMETERS["channels"], PARAMETERS["offsets"]
SUM_BITS = 20
MIDDLE = 1 << BITS - 1
LINES, TAPS, SWEEPS = 7, 9, 6


def packed(values: list[int], bits: int) -> int:
    return sum((int(value) & (1 << bits) - 1) << bits * index for index, value in enumerate(values))


class Sweep:
    """``sums``, ``codes`` : [x][line][channel]."""

    def __init__(self, case: dict, width: int, static: dict, rng: np.random.Generator) -> None:
        kernel, stride, self.width = case["kernel"], case["stride"], width
        self.codes_in = rng.choice((0, 2 * MIDDLE - 1, int(rng.integers(2 * MIDDLE))), (LINES, width, CHANNELS))
        self.mask = int(rng.integers(1 << LINES)) & int(rng.integers(1 << LINES))
        self.weight = rng.choice((-127, 127, *rng.integers(-127, 128, 4)), (CHANNELS, 1, kernel, kernel)).astype(np.int8)
        seen = self.codes_in.copy()
        seen[[line for line in range(LINES) if self.mask >> line & 1]] = static["pad"]
        bare = Requantizer(bias=np.zeros(0), multiplier=np.zeros(0), shift=np.zeros(0))
        conv = Convolution(name="", source="", target="", weight=self.weight, stride=1, groups=CHANNELS, requantizer=bare)
        every = accumulators(seen[None].astype(np.int64), conv, static["pad"])[0]
        every += (static["pad"] - MIDDLE) * self.weight.astype(np.int64).sum((1, 2, 3))
        # whole windows alone: of the line in the middle of lines 0..kernel - 1, and of the one ``stride`` below
        self.sums = every[[kernel // 2, kernel // 2 + stride]][:, ::stride].transpose(1, 0, 2)
        self.requantizer = requantizer(rng, self.sums[None], BITS, bool(static["hardswish"]))
        limits = Saturation(low=static["low"], high=2 * MIDDLE - 1)
        self.codes = integer.requantize_code(self.sums, self.requantizer, static["zero"], limits)

    def weights(self, kernel: int, step: int, tap: int) -> list[int]:
        place = tap_place(kernel, step, tap)
        return [0] * CHANNELS if place is None else list(self.weight[:, 0, place[1], place[0] - (kernel == 3)])

    def parameters(self, quarter: int) -> int:
        """A word of ParameterBank."""
        r, count, word = self.requantizer, CHANNELS // 4, 0
        for index in range(count):
            channel = count * quarter + index
            values = {"bias": r.bias, "multiplier": r.multiplier, "shift": [REQUANTIZE_SHIFTS.index(shift) for shift in r.shift]}
            if r.hardswish is not None:
                stage = r.hardswish
                shifts = [REQUANTIZE_SHIFTS.index(shift) for shift in stage.shift]
                values |= {"second_bias": stage.bias, "second_multiplier": stage.multiplier, "second_shift": shifts}
            for name, column in values.items():
                field = CHANNEL_PARAMETERS[name]
                word |= (int(column[channel]) & (1 << field.width) - 1) << field.offset + CHANNEL_PARAMETERS.size * index
        return word


class Plan:
    """What is driven in each cycle, and what must come."""

    def __init__(self) -> None:
        self.columns, self.shifts, self.controls, self.weights, self.parameters = {}, set(), {}, {}, {}
        self.sums, self.codes = {}, {}

    def add(self, sweep: Sweep, case: dict, first: int) -> int:
        """``first`` : cycle of the first step. Returns the cycle after the last one."""
        kernel, stride = case["kernel"], case["stride"]
        steps, padding, width = 3 if kernel == 5 else 1, kernel // 2, sweep.width
        for x in range(width):
            self.columns[first + steps * (x - padding) + OFFSETS["lines"]] = sweep.codes_in[:, x]
            self.shifts.add(first + steps * x + OFFSETS["shift"])
            self.shifts.add(first + steps * (x - padding) + OFFSETS["shift"])
            outside = (x < 2) | (x < 1) << 1 | (x > width - 2) << 2 | (x > width - 3) << 3
            for step in range(steps):
                now = first + steps * x + step
                valid = x % stride == 0
                self.controls[now] = int(valid) | step << 1 | outside << 3 | sweep.mask << 7
                for tap in range(TAPS):
                    self.weights[now + OFFSETS["weights"] + PLACES[tap], tap] = sweep.weights(kernel, step, tap)
                if valid and step == steps - 1:
                    self.sums[now + PARAMETERS["sums"]] = sweep.sums[x // stride]
                    self.codes[now + PARAMETERS["latency"]] = sweep.codes[x // stride]
        for quarter in range(4):
            self.parameters[first + OFFSETS["parameters"] + quarter] = quarter, sweep.parameters(quarter)
        return first + steps * width

    def drive(self, dut, now: int, rng) -> None:
        """Noise wherever nothing is needed."""
        lines = self.columns.get(now)
        dut.lines.value = rng.getrandbits(BITS * LINES * CHANNELS) if lines is None else packed(lines.ravel(), BITS)
        dut.shift.value = int(now in self.shifts)
        dut.control.value = self.controls.get(now, rng.getrandbits(14) & ~1)
        slots = [self.weights.get((now, tap), [rng.getrandbits(8) or 1 for _ in range(CHANNELS)]) for tap in range(TAPS)]
        dut.weights.value = sum(packed(slot, 8) << 8 * CHANNELS * tap for tap, slot in enumerate(slots))
        quarter, word = self.parameters.get(now, (None, 0))
        noise = rng.getrandbits(2 + CHANNELS // 4 * CHANNEL_PARAMETERS.size) << 1
        dut.parameters.value = noise if quarter is None else 1 | quarter << 1 | word << 3


def read(port, bits: int) -> list[int] | None:
    """[line][channel] in one list, or None if invalid."""
    value = int(port.value)
    return [value >> 1 + bits * index & (1 << bits) - 1 for index in range(2 * CHANNELS)] if value & 1 else None


@cocotb.test(timeout_time=50, timeout_unit="ms")
@cocotb.parametrize(stall=["free", "gaps"])
async def matches_model(dut, stall: str) -> None:
    rng = bench_random(stall)
    for port in ("lines", "shift", "control", "weights", "parameters", *PARAMETERS["static"]):
        getattr(dut, port).value = 0
    await start(dut)
    for case in PARAMETERS["cases"]:
        data = np.random.default_rng(rng.getrandbits(64))
        static = dict(
            kernel_5=int(case["kernel"] == 5), stride_2=case["stride"] - 1, hardswish=int(case["hardswish"]), fraction=5,
            low=rng.getrandbits(1), pad=rng.getrandbits(BITS), zero=rng.getrandbits(BITS),
        )  # fmt: skip
        for name, value in static.items():
            getattr(dut, name).value = value
        plan, now, steps = Plan(), 10, 3 if case["kernel"] == 5 else 1
        for _ in range(SWEEPS):
            now = plan.add(Sweep(case, case["width"], static, data), case, now)
            now += steps * rng.randrange(4) if stall == "gaps" else 0
        await run(dut, plan, rng, f"{case}, {stall}")


async def run(dut, plan: Plan, rng, what: str) -> None:
    for now in range(max(plan.codes) + 3):
        plan.drive(dut, now, rng)
        await RisingEdge(dut.clk)
        for port, bits, expected in ((dut.sums, SUM_BITS, plan.sums), (dut.o, BITS, plan.codes)):
            got = read(port, bits)
            assert (got is None) == (now not in expected), f"{what}: valid is {got is not None} in cycle {now}"
            if got is not None:
                want = [int(value) for value in expected[now].ravel()]
                got = [signed(value, bits) for value in got] if port is dut.sums else got
                assert_equal(got, want, f"{what}, cycle {now}, {bits} bits")
        await FallingEdge(dut.clk)
