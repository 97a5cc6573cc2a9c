import dataclasses

import pytest

from rtl.config import preset
from rtl.weight_stream import WeightStream
from sim_tests.bus.shells import Renamed
from sim_tests.cocotb.runner import run_bench
from sim_tests.program.shapes import BASE


@pytest.mark.parametrize("inputs, ports", [(768, 3), (384, 3), (768, 1), (64, 1), (192, 3)])
def test_weight_stream(inputs: int, ports: int) -> None:
    shape = dataclasses.replace(BASE, embed_dim=48, hidden_dim=inputs, heads=3)
    config = dataclasses.replace(preset(shape), inputs=inputs, weight_ports=ports)
    run_bench(
        Renamed(WeightStream(config), {"window": "weights"}),
        module="sim_tests.cocotb.bench_weight_stream",
        name="weight_stream",
        parameters={"inputs": inputs // ports, "ports": ports},
    )
