"""Whole accelerators in Verilator: every write of every row equals the reference, and what is broken is found and named."""

import dataclasses

import numpy as np
import pytest
from amaranth import Signal, signed

from model import data
from model.graph import DeitShape
from model.interpreter import interpret
from model.zoo import load_graph
from rtl import row_units
from rtl.bus.register_map import ErrorCode
from rtl.config import preset
from rtl.flow.machine import Machine, MachineError, accelerator_verilog
from rtl.flow.simulate import simulate
from rtl.flow.verilator import Memory
from rtl.program.compiler import compile_graph
from rtl.program.isa import Counter
from rtl.tech import dsp48e2
from sim_tests.system.machines import SHAPE, VARIANTS, images, run, tiny


def exact(result) -> None:
    assert result.bit_exact, "\n".join(map(str, result.mismatches[:4]))
    assert all(image.exact for image in result.images)


@pytest.mark.parametrize("strategy, bits", [("lut_table", 8), ("popcount", 2)])
def test_tiny(strategy: str, bits: int) -> None:
    """One image, a pair, and a pair with half a pair behind it: in turn through two slots."""
    graph, config = tiny(bits, strategy=strategy)
    verilog = accelerator_verilog(config)
    results = {count: run(graph, config, count=count, verilog=verilog) for count in (1, 2, 3)}
    for result in results.values():
        exact(result)
    assert results[2].cycles_per_image < results[1].cycles_per_image, "two images in flight hide the attention"
    again = run(graph, config, count=2, verilog=verilog, seed=5)
    assert again.cycles_per_image == results[2].cycles_per_image, "cycles depend on nothing but the program"


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 3, 4, 6])
def test_tiny_widths(bits: int) -> None:
    exact(run(*tiny(bits)))


@pytest.mark.parametrize("name", ["ported", "distilled", "partial"])
def test_variants(name: str) -> None:
    """Three weight ports, pixels turned 16 at a time and a patch of two K-tiles; a distillation token; a last group of fewer rows."""
    exact(run(*VARIANTS[name](), count=2))


def test_slow_memory_changes_cycles_only() -> None:
    """Latency, refresh and random stalls on every channel: the same values, later."""
    graph, config = tiny()
    verilog = accelerator_verilog(config)
    quick = run(graph, config, verilog=verilog)
    slow = run(graph, config, verilog=verilog, memory=Memory(latency=90, efficiency=70, stall=30, seed=5))
    exact(slow)
    assert slow.cycles_per_image > quick.cycles_per_image
    assert all(np.array_equal(a.logits, b.logits) for a, b in zip(quick.images, slow.images, strict=True))


def test_micro_on_fashion_mnist() -> None:
    """The shipped W1A8 network on real images."""
    graph = load_graph("deit_micro", 8)
    pictures, _ = data.load("fashion-mnist", "test", graph.shape)
    config = preset(graph.shape)
    exact(simulate(graph, config, pictures[:4], lambda image: interpret(graph, image), verilog=accelerator_verilog(config)))


def test_broken_weight_bit_is_named() -> None:
    """One bit of one weight word of the first q channel."""
    graph, config = tiny()
    qkv = graph.layers[0].qkv
    codes = qkv.codes.copy()
    codes[5, 3] ^= 1
    broken = dataclasses.replace(graph, layers=(dataclasses.replace(graph.layers[0], qkv=dataclasses.replace(qkv, codes=codes)),))
    result = simulate(broken, config, images(SHAPE, 1), lambda image: interpret(graph, image), verilog=accelerator_verilog(config))
    first = result.mismatches[0]
    assert (first.tensor, first.channel) == ("0.q", 5)
    assert first.got != first.expected and first.cycle is not None and first.token is not None


class _NoRounding(type(dsp48e2.generic)):
    """Multipliers whose rounding constant is lost."""

    def multiply_add(self, m, unit):
        value = (unit.a + unit.d) * unit.b
        for stage in range(unit.latency):
            following = Signal(signed(48), name=f"stage_{stage}")
            m.d.sync += following.eq(value)
            value = following
        m.d.comb += unit.p.eq(value)


def test_broken_rounding_constant_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(row_units.TECHNOLOGIES, "generic", _NoRounding())
    result = run(*tiny(), count=1)
    first = result.mismatches[0]
    assert first.tensor == "residual.embed" and abs(first.got - first.expected) == 1


class _Shifted(DeitShape):
    @property
    def first_patch(self) -> int:
        """Every patch one slot too late."""
        return 2


def test_misplaced_token_is_named() -> None:
    """Pixels that the hardware scatters to the wrong rows."""
    graph, config = tiny()
    shape = _Shifted(**dataclasses.asdict(config.shape))
    first = run(graph, config, count=1, verilog=accelerator_verilog(dataclasses.replace(config, shape=shape))).mismatches[0]
    assert first.tensor == "residual.embed" and first.token == 1 and first.image == 0


@pytest.fixture(scope="module")
def tiny_design() -> tuple:
    graph, config = tiny()
    return graph, config, accelerator_verilog(config), compile_graph(graph, config)


@pytest.mark.parametrize(
    "window, code",
    [("program", ErrorCode.PROGRAM_BUS), ("weights", ErrorCode.DATA_READ_BUS), ("image", ErrorCode.DATA_READ_BUS),
     ("result", ErrorCode.DATA_WRITE_BUS)],
)  # fmt: skip
def test_bus_error_stops_the_machine(tiny_design, window: str, code: ErrorCode) -> None:
    """A status code, readable counters, no write outside the result window, and the next run works."""
    _, config, verilog, compiled = tiny_design
    machine = Machine(config, compiled, verilog)
    address, size = machine.windows[window]
    machine.simulator.inject_error(address, address + size - 1)
    with pytest.raises(MachineError) as error:
        machine.run(images(SHAPE, 1), max_cycles=100_000)
    assert error.value.code == code
    assert not machine.read_field("status.busy") and machine.read_field("status.error")
    assert machine.counters()["cycles"] > 0
    assert machine.read("id") == int.from_bytes(b"PVIT", "big")
    beats = machine.simulator.beats("data_read")
    machine.simulator.run(2_000, until_interrupt=False)
    assert machine.simulator.beats("data_read") == beats, "it goes on after an error"


def _outside(machine: Machine) -> list[int]:
    low, size = machine.windows["result"]
    return [int(write["address"]) for write in machine.simulator.writes() if not low <= write["address"] < low + size]


def test_window_overrun_is_refused(tiny_design) -> None:
    _, config, verilog, compiled = tiny_design
    for window in ("weights", "image", "result"):
        machine = Machine(config, compiled, verilog)
        machine.write(f"{window}_bytes", machine.windows[window][1] // 2 & ~15)
        with pytest.raises(MachineError) as error:
            machine.run(images(SHAPE, 1), max_cycles=100_000)
        assert error.value.code == ErrorCode.WINDOW_OVERRUN
        assert _outside(machine) == []


def test_bad_instruction_and_watchdog(tiny_design) -> None:
    _, config, verilog, compiled = tiny_design
    bad = dataclasses.replace(compiled, program=bytes([0x0F]) + compiled.program[1:])
    with pytest.raises(MachineError) as error:
        Machine(config, bad, verilog).run(images(SHAPE, 1), max_cycles=100_000)
    assert error.value.code == ErrorCode.BAD_INSTRUCTION

    first = compiled.instructions[0]
    stuck = dataclasses.replace(first, wait0_counter=Counter.TILES_DONE, wait0_value=77).encode()
    machine = Machine(config, dataclasses.replace(compiled, program=stuck + compiled.program[len(stuck) :]), verilog)
    machine.write("watchdog_limit", 2_000)
    with pytest.raises(MachineError) as error:
        machine.run(images(SHAPE, 1), max_cycles=100_000)
    assert error.value.code == ErrorCode.WATCHDOG
    assert machine.read_field("watchdog_wait.counter") != 0 and machine.read_field("watchdog_values.want") > 0


def test_machine_runs_again_after_an_error(tiny_design) -> None:
    graph, config, verilog, compiled = tiny_design
    machine = Machine(config, compiled, verilog)
    machine.write("image_bytes", 16)
    with pytest.raises(MachineError):
        machine.run(images(SHAPE, 1), max_cycles=100_000)
    machine.write("image_bytes", machine.windows["image"][1])
    assert np.array_equal(machine.run(images(SHAPE, 1))[0], interpret(graph, images(SHAPE, 1)[0])["logits"].reshape(-1))
