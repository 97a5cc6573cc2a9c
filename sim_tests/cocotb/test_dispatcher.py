from rtl.dispatcher import Dispatcher
from rtl.program.isa import Instruction
from sim_tests.bus.shells import Renamed
from sim_tests.cocotb.runner import run_bench


def test_dispatcher() -> None:
    run_bench(Renamed(Dispatcher(Instruction), {"program": "window"}), module="sim_tests.cocotb.bench_dispatcher", name="dispatcher")
