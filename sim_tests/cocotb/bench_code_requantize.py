"""Bench of `CodeRequantize` against its model: every kind of result, random, extreme and tied operands, with bubbles or without."""

import cocotb
import numpy as np

from model import integer
from model.efficientvit.graph import Divisor, Hardswish, Requantizer, Scale, Shortcut
from model.efficientvit.integer import EXPONENTS, HARDSWISH_FRACTIONS, divide, requantize_code
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.skewed import check_pipeline

COUNT = 1500
PLAIN, CURVED, SHORTCUT, QUOTIENT = range(4)


def pick(data: str, rng: np.random.Generator, low: int, high: int, *, spread: bool = True) -> np.ndarray:
    """Uniform, of any magnitude, or at and beside the ends, zero and powers of two."""
    if data != "extremes":
        values = rng.integers(low, high + 1, COUNT)
        return values >> rng.integers(0, high.bit_length() // 2 + 1, COUNT) if spread else values
    edges = [low, low + 1, -1, 0, 1, high - 1, high, *(sign << k for sign in (-1, 1) for k in range(high.bit_length()))]
    return rng.choice([value for value in edges if low <= value <= high], COUNT)


def operands(data: str, rng: np.random.Generator, parameters: dict) -> dict[str, np.ndarray]:
    """``edges``: sums that make first results, and quotients, next to every code, and to the rounding ties."""
    limit = (1 << (parameters["accumulator_bits"] - 1)) - 1
    v = {
        "total": pick(data, rng, -limit - 1, limit),
        "multiplier": pick(data, rng, 0, 65535),
        "shift": rng.integers(0, 4, COUNT),
        "fraction": rng.integers(0, len(HARDSWISH_FRACTIONS), COUNT),
        "second_bias": pick(data, rng, -32768, 32767),
        "second_multiplier": pick(data, rng, 0, 65535),
        "second_shift": rng.integers(0, 4, COUNT),
        "shortcut": pick(data, rng, -255, 255, spread=False),
        "exponent": rng.integers(0, EXPONENTS, COUNT),
        "zero": pick(data, rng, 0, 255, spread=False),
        "low": rng.integers(0, 2, COUNT),
    }
    kinds = [PLAIN, CURVED] + [SHORTCUT] * parameters["shortcut"] + [QUOTIENT] * parameters["quotient"]
    v["kind"] = rng.choice(kinds, COUNT)
    if data == "edges":
        # a code is total / 2**places, a first result 64 of them
        v["multiplier"] = 1 << rng.integers(8, 16, COUNT)
        exponent = np.where(v["kind"] == QUOTIENT, v["exponent"], 6)
        places = np.array(integer.REQUANTIZE_SHIFTS)[v["shift"]] + exponent - np.log2(v["multiplier"]).astype(int)
        halves = rng.integers(-600, 600, COUNT) * 2.0 ** (places - 1)
        v["total"] = np.clip(np.floor(halves).astype(np.int64) + rng.integers(-1, 2, COUNT), -limit - 1, limit)
        v["second_multiplier"] = rng.choice((64, 4096, 4095, 2048), COUNT)
    low, high = np.maximum(v["total"] - limit, -limit - 1), np.minimum(v["total"] + limit + 1, limit)
    unbiased = (v["kind"] == QUOTIENT) | (rng.random(COUNT) < 0.2)
    v["bias"] = np.where(unbiased, 0, rng.integers(low, high + 1))
    v["i_accumulator__payload"] = v.pop("total") - v["bias"]
    return v | {name: v["kind"] == kind for name, kind in (("hardswish", CURVED), ("shortcut_enable", SHORTCUT), ("quotient", QUOTIENT))}


def expected_code(v: dict[str, int], bits: int) -> int:
    """The model's code for one item."""
    accumulator, shift = np.int64(v["i_accumulator__payload"]), integer.REQUANTIZE_SHIFTS[v["shift"]]
    limits = integer.Saturation(low=v["low"], high=(1 << bits) - 1)
    if v["quotient"]:
        scale = Scale(
            source="", state_multiplier=None, state_shift=None, sum_multiplier=None, sum_shift=None,
            divisor=Divisor(kind="log2"), output_multiplier=v["multiplier"], output_shift=shift,
        )  # fmt: skip
        return int(integer.saturate(divide(accumulator, np.int64(1) << v["exponent"], scale) + v["zero"], limits))
    curve = Hardswish(
        fraction=v["fraction"] + HARDSWISH_FRACTIONS[0],
        bias=v["second_bias"],
        multiplier=v["second_multiplier"],
        shift=integer.REQUANTIZE_SHIFTS[v["second_shift"]],
    )
    added = Shortcut(source="", multiplier=v["second_multiplier"])
    rule = Requantizer(
        bias=v["bias"],
        multiplier=v["multiplier"],
        shift=shift,
        hardswish=curve if v["hardswish"] else None,
        shortcut=added if v["shortcut_enable"] else None,
    )
    return int(requantize_code(accumulator, rule, v["zero"], limits, np.int64(v["shortcut"])))


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["random", "extremes", "edges"], stall=["free", "gaps"])
async def matches_model(dut, data: str, stall: str) -> None:
    parameters, rng = bench_parameters(), bench_random(f"{data} {stall}")
    values = operands(data, np.random.default_rng(rng.getrandbits(64)), parameters)
    items = [{name: int(column[index]) for name, column in values.items()} for index in range(COUNT)]
    idle_stream(dut, sources=["i_accumulator"], sinks=[])
    await start(dut)
    columns = {port: (values[port], offset) for port, offset in parameters["offsets"].items()}
    await check_pipeline(
        dut,
        stream="i_accumulator",
        columns={**columns, "i_accumulator__payload": (values["i_accumulator__payload"], 0)},
        expected=[expected_code(item, parameters["bits"]) for item in items],
        latency=parameters["latency"],
        gap=0.0 if stall == "free" else 0.5,
        rng=rng,
        what=f"{data}, {stall}",
    )
