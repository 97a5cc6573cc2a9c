"""The whole accelerator against cocotbext-axi's memory and register master, with and without random stalls on every channel."""

import pytest

from model.interpreter import interpret
from rtl.accelerator import Accelerator, separate_modules
from rtl.bus.register_map import as_dict
from rtl.flow.machine import windows
from rtl.program.compiler import compile_graph
from sim_tests.cocotb.runner import run_bench
from sim_tests.system.machines import images, tiny

BENCH = "sim_tests.cocotb.bench_accelerator"


@pytest.mark.parametrize("bits", [4])
def test_accelerator(bits: int) -> None:
    graph, config = tiny(bits, seed=3)
    compiled = compile_graph(graph, config)
    image = images(graph.shape, 1, seed=4)[0]
    contents = {"program": compiled.program, "weights": compiled.weights, "image": image.tobytes()}
    run_bench(
        Accelerator(config),
        modules={name: component for name, (component, _) in separate_modules(config).items()},
        module=BENCH,
        name="accelerator",
        parameters={
            "registers": {name: register["offset"] for name, register in as_dict().items()},
            "windows": windows(compiled),
            "weight_ports": config.weight_ports,
            "contents": {name: data.hex() for name, data in contents.items()},
            "logits": interpret(graph, image)["logits"].reshape(-1).tolist(),
        },
    )
