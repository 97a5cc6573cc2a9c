"""Bench of `XnorMatmul` against numpy: {random, extremes} x {free running, gaps in the activations, gaps in the weights, both}.

A row never stalls, so its streams are always ready and there is no "stalled out"; input stalls are the gaps.
"""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from sim_tests.cocotb import matmul_stimulus
from sim_tests.cocotb.helpers import bench_parameters, bench_random, signed, start

GAPS = {"free": (0.0, 0.0), "activation gaps": (0.3, 0.0), "weight gaps": (0.0, 0.3), "both gaps": (0.3, 0.3)}


async def play(dut, stimulus: matmul_stimulus.Stimulus, latency: int) -> dict[int, int]:
    """Drives a stimulus; returns the results by cycle of the weight beat that they belong to, if the latency is kept."""
    for port in ("i_activations", "i_weights"):
        getattr(dut, f"{port}__valid").value = 0
        getattr(dut, f"{port}__payload").value = 0
    await start(dut)
    got = {}
    for cycle in range(stimulus.cycles + latency + 2):
        if int(dut.o__valid.value):
            pattern = dut.o__payload.value
            got[cycle - latency] = signed(int(pattern), len(pattern))
        for port, beats in (("i_activations", stimulus.activations), ("i_weights", stimulus.weights)):
            getattr(dut, f"{port}__valid").value = int(cycle in beats)
            if cycle in beats:
                getattr(dut, f"{port}__payload").value = beats[cycle]
        await FallingEdge(dut.clk)
    return got


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(values=["random", "extremes"], case=list(GAPS))
async def matches_model(dut, values: str, case: str) -> None:
    """Exact values, and a valid result exactly `latency` cycles after every weight beat and at no other time."""
    p = bench_parameters()
    activation_gap, weight_gap = GAPS[case]
    stimulus = matmul_stimulus.make(
        bench_random(f"{values} {case}").getrandbits(64),
        inputs=p["inputs"],
        bits=p["bits"],
        fill_lead=p["fill_lead"],
        extreme=values == "extremes",
        activation_gap=activation_gap,
        weight_gap=weight_gap,
    )
    if case == "free":  # refill is hidden: reading never pauses
        assert len(stimulus.results) == max(stimulus.results) - min(stimulus.results) + 1
    got = await play(dut, stimulus, p["latency"])
    assert sorted(got) == sorted(stimulus.results), "results must be valid exactly `latency` cycles after the weight beats"
    wrong = [cycle for cycle in got if got[cycle] != stimulus.results[cycle]]
    if wrong:
        at = wrong[0]
        raise AssertionError(
            f"{len(wrong)} of {len(got)} results differ, first at cycle {at}: got {got[at]}, expected {stimulus.results[at]}"
        )


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def fill_lead_is_minimal(dut) -> None:
    """One cycle before the lead, the last activation is not yet seen: the published number is the smallest true one."""
    p = bench_parameters()
    stimulus = matmul_stimulus.Stimulus(p["inputs"], p["bits"])
    beats = p["inputs"] // 16 * 16
    weights = np.zeros(p["inputs"], int)
    weights[:beats] = 1
    largest = np.full(beats, (1 << p["bits"]) - 1)
    for cycle, value in enumerate([*np.zeros(beats, int), *largest]):
        stimulus.activation(cycle, value, 0, cycle % beats == 0)
    seen = 2 * beats - 1 + p["fill_lead"]
    for cycle in (seen - 1, seen):
        stimulus.weight(cycle, weights, 0, largest)
    got = await play(dut, stimulus, p["latency"])
    assert got[seen] == stimulus.results[seen]
    assert got[seen - 1] != stimulus.results[seen - 1], "fill_lead could be smaller"
