"""Bench of `LayerNormNormalize` against `model.integer.layernorm`: whole tokens, and operands at their limits one by one."""

import cocotb
import numpy as np

from model import integer
from sim_tests.cocotb.helpers import bench_parameters, bench_random, idle_stream, start
from sim_tests.cocotb.layernorm_tokens import tokens
from sim_tests.cocotb.skewed import check_pipeline


def of_tokens(bits: int, numbers: np.random.Generator) -> tuple[dict, np.ndarray]:
    """The residuals of whole tokens, their statistics, and gamma and beta from useful to extreme."""
    columns = {name: [] for name in ("x", "minus_mean2", "rsqrt", "gamma", "beta")}
    expected = []
    for x in tokens(64, numbers):
        mean2, rsqrt = integer.layernorm_statistics(x)
        gamma = numbers.integers(-32768, 32768, x.size) >> numbers.integers(0, 9, x.size)
        beta = numbers.integers(-32768, 32768, x.size) >> numbers.integers(0, 9, x.size)
        values = (x, np.full(x.size, -mean2), np.full(x.size, rsqrt), gamma, beta)
        for column, value in zip(columns.values(), values, strict=True):
            column.extend(value.tolist())
        expected.extend(integer.layernorm(x, gamma, beta, bits).tolist())
    return columns, expected


def of_extremes(bits: int, numbers: np.random.Generator) -> tuple[dict, list[int]]:
    """Operands that no token has together, by the second half of the same formula."""
    count = 1500
    x = numbers.choice([-32768, -1, 0, 1, 32767], count)
    mean2 = numbers.choice([-65537, -65536, -1, 0, 1, 65534], count)
    rsqrt = numbers.choice([0, 1, 2, 3, (1 << 18) - 1, 1 << 18, (1 << 25) + 1, (1 << 26) - 1], count)
    gamma, beta = numbers.choice([-32768, -128, -1, 0, 1, 127, 32767], (2, count))
    normalized = integer.saturate(integer.round_shift((2 * x - mean2) * rsqrt, integer.NORMALIZE_SHIFT), integer.signed(18))
    expected = integer.saturate(integer.round_shift(normalized * gamma + (beta << 14), 18), integer.unsigned(bits))
    return {"x": x, "minus_mean2": -mean2, "rsqrt": rsqrt, "gamma": gamma, "beta": beta}, expected.tolist()


def of_edges(bits: int, numbers: np.random.Generator) -> tuple[dict, list[int]]:
    """Results inside the output range with the largest gamma, where the last bit of the normalised value shows."""
    count = 3000
    centred = numbers.integers(64, 4096, count)
    tie = numbers.integers(0, 8 << bits, count) * 2 + 1 << 17
    rsqrt = np.minimum(tie // centred + numbers.integers(0, 2, count), (1 << integer.RSQRT_BITS) - 1)  # next to a tie, on either side
    gamma, beta = numbers.choice([32767, 32766, -32768], count), numbers.integers(0, 8, count)
    beta = np.where(gamma < 0, beta + (16 << bits), beta)
    normalized = integer.saturate(integer.round_shift(centred * rsqrt, integer.NORMALIZE_SHIFT), integer.signed(18))
    expected = integer.saturate(integer.round_shift(normalized * gamma + (beta << 14), 18), integer.unsigned(bits))
    x = numbers.integers(-16384, 16384, count)
    return {"x": x, "minus_mean2": centred - 2 * x, "rsqrt": rsqrt, "gamma": gamma, "beta": beta}, expected.tolist()


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(data=["tokens", "extremes", "edges"], stall=["free", "gaps"])
async def matches_model(dut, data: str, stall: str) -> None:
    parameters = bench_parameters()
    rng = bench_random(f"{data} {stall}")
    source = {"tokens": of_tokens, "extremes": of_extremes, "edges": of_edges}[data]
    values, expected = source(parameters["bits"], np.random.default_rng(rng.getrandbits(64)))
    columns = {port: (values[port], parameters["offsets"][port]) for port in ("minus_mean2", "rsqrt", "gamma", "beta")}
    choices, x = parameters["choices"], np.asarray(values["x"])
    select = np.random.default_rng(rng.getrandbits(64)).integers(0, choices, x.size)
    columns["i__payload"] = (select, 0)
    columns |= {f"residual__{index}": (np.where(select == index, x, ~x), 0) for index in range(choices)}
    idle_stream(dut, sources=["i"], sinks=[])
    await start(dut)
    await check_pipeline(
        dut,
        stream="i",
        columns=columns,
        expected=expected,
        latency=parameters["latency"],
        gap=0.0 if stall == "free" else 0.5,
        rng=rng,
        what=f"{data}, {stall}",
    )
