"""The whole-accelerator simulator, on a stand-in that copies a burst: memory, timing, stalls, errors, traces, and the rules it enforces."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from rtl.errors import InputError
from rtl.flow import toolchain
from rtl.flow.verilator import DECERR, IDEAL, SLVERR, Memory, SimulationError, Simulator
from rtl.flow.verilator_build import Options, need_waves, share, translate

ROWS, BEATS = 40, 16
SOURCE, TARGET = 0x1000_0000, 0x2000_0100
VERILOG = Path(__file__).with_name("harness_dummy.v").read_text(encoding="utf-8")
DATA = bytes(range(256))


def make(memory: Memory = IDEAL, *, defect: int = 0, waves: bool = False) -> Simulator:
    return Simulator.build(VERILOG.replace("DEFECT = 0", f"DEFECT = {defect}"), "dummy", ROWS, memory=memory, waves=waves)


def start(simulator: Simulator) -> None:
    simulator.write_memory(SOURCE, DATA)
    simulator.write_register(4, SOURCE)
    simulator.write_register(8, TARGET)
    simulator.write_register(0, 1)


def copy(simulator: Simulator) -> int:
    start(simulator)
    return simulator.run(10_000)


@pytest.mark.parametrize("stall", [0, 30, 80])
@pytest.mark.parametrize("timing", [{"latency": 1, "peak_bytes_per_cycle": 1000, "refresh_period": 0}, {}], ids=["ideal", "ddr"])
def test_copies_under_any_timing(stall: int, timing: dict, seed: int) -> None:
    with make(Memory(stall=stall, seed=seed, **timing)) as simulator:
        copy(simulator)
        assert simulator.interrupt
        assert simulator.read_memory(TARGET, 256) == DATA
        assert simulator.read_memory(TARGET - 16, 16) == bytes([0xA5] * 16)
        assert simulator.read_register(4) == SOURCE
        assert (simulator.beats("program_read"), simulator.beats("data_read"), simulator.beats("data_write")) == (0, BEATS, BEATS)


def test_same_seed_same_cycles() -> None:
    cycles = []
    for seed in (5, 5, 6):
        with make(Memory(stall=50, seed=seed)) as simulator:
            cycles.append((copy(simulator), simulator.cycles))
    assert cycles[0] == cycles[1] != cycles[2]


def cycles(**changes: float) -> int:
    """Of a copy, with ideal memory but for ``changes``."""
    with make(dataclasses.replace(IDEAL, **changes)) as simulator:
        return copy(simulator)


def test_latency_bandwidth_and_refresh_cost_what_they_say() -> None:
    """The copy pays the latency twice (first beat, write answer); reads and writes share the bandwidth; a refresh holds all back."""
    ideal = cycles()
    assert ideal == BEATS + 2  # the writes trail the reads by one cycle, the answer by another
    assert cycles(latency=101) == ideal + 200
    slow = cycles(peak_bytes_per_cycle=16, efficiency=50)  # 32 beats of 16 bytes at 8 bytes a cycle; the memory saves up two beats
    assert 2 * 2 * BEATS - 4 <= slow <= 2 * 2 * BEATS + 4
    assert cycles(refresh_period=5000, refresh_length=400) > 380


BURSTS = 200


def stream(memory: Memory) -> int:
    """Cycles in which two weight ports read BURSTS bursts each."""
    data = np.arange(2 * 4 * 16 * BURSTS, dtype="<u4").reshape(2, -1)
    with make(memory) as simulator:
        for port in range(2):
            simulator.write_memory(SOURCE + port * 2**20, data[port].tobytes())
        simulator.write_register(4, SOURCE)
        simulator.write_register(16, BURSTS)
        ran = simulator.run(1_000_000)
        assert simulator.interrupt
        assert simulator.read_register(20) == data[:, ::4].sum() % 2**32
        assert [simulator.beats(f"weights_read_{port}") for port in range(2)] == [16 * BURSTS] * 2
    return ran


def test_weight_ports_share_the_bandwidth_of_one_memory() -> None:
    """A port moves a beat a cycle where the memory can; two ports at 24 bytes a cycle move 24, not 32; refreshes come on top."""
    beats = 16 * BURSTS
    assert beats <= stream(IDEAL) <= beats + 20
    shared = stream(dataclasses.replace(IDEAL, peak_bytes_per_cycle=32, efficiency=75))
    assert shared == pytest.approx(2 * 16 * beats / 24, rel=0.01)
    default = Memory()
    assert default.bytes_per_cycle == pytest.approx(57.6)
    assert beats * (1 + 88 / 1950) <= stream(default) <= beats * (1 + 88 / 1950) + 300


def test_state_account() -> None:
    """A tile is eight beats; waiting is told from working, and both by tile."""
    with make(dataclasses.replace(IDEAL, latency=30)) as simulator:
        start(simulator)
        simulator.clear_trace()
        ran = simulator.run(10_000)
        counts, attention = simulator.account()
        assert simulator.tile == BEATS // 8
    assert counts.shape == (BEATS // 8 + 1, 8)
    assert counts[:, 1].tolist() == [8, 8, 0] and counts[1, 4] == 0 and counts[0, 4] > 20
    assert counts.sum() == ran and attention == BEATS // 2


def test_traces_and_write_records() -> None:
    with make() as simulator:
        copy(simulator)
        linear, attention = simulator.trace("linear"), simulator.trace("attention")
        writes = simulator.writes()
        simulator.clear_trace()
        assert all(not len(cycles) for cycles, _ in simulator.trace("linear"))
    assert len(linear) == ROWS
    for row, (cycles, values) in enumerate(linear):
        assert np.array_equal(values, (1000 * row + np.arange(BEATS)) % 65536)
        assert np.array_equal(np.diff(cycles), np.ones(BEATS - 1))
    assert attention[0][1].tolist() == [0xBEEF]
    assert not any(len(values) for _, values in attention[1:])
    assert writes["address"].tolist() == [TARGET + 16 * beat for beat in range(BEATS)]
    assert writes["data"].tobytes() == DATA
    assert set(writes["strobe"].tolist()) == {0xFFFF}


@pytest.mark.parametrize("response", [SLVERR, DECERR])
@pytest.mark.parametrize("address", [SOURCE + 32, TARGET + 32])
def test_injected_errors_reach_the_design(response: int, address: int) -> None:
    with make() as simulator:
        simulator.inject_error(address, address, response)
        copy(simulator)
        assert simulator.read_register(12) == response
        if address > TARGET:
            assert simulator.read_memory(address, 16) == bytes([0xA5] * 16)


def test_error_can_be_confined_to_writes() -> None:
    with make() as simulator:
        simulator.inject_error(SOURCE, SOURCE + 255, reads=False)
        copy(simulator)
        assert simulator.read_register(12) == 0


def test_limit_ends_the_run() -> None:
    with make(Memory(latency=1000)) as simulator:
        start(simulator)
        assert simulator.run(50) == 50
        assert not simulator.interrupt


@pytest.mark.parametrize(("defect", "rule"), [(1, "burst is not INCR"), (2, "last is not on the last beat")])
def test_broken_rules_are_named(defect: int, rule: str) -> None:
    with make(defect=defect) as simulator, pytest.raises(SimulationError, match=rf"^cycle \d+: data (read|write): {rule}$"):
        copy(simulator)


def test_burst_across_4_kib_is_named() -> None:
    with make() as simulator, pytest.raises(SimulationError, match="data read: burst crosses 4 KiB"):
        simulator.write_register(4, 0x1F80)
        simulator.write_register(0, 1)
        simulator.run(100)


def test_two_at_once_do_not_share_state() -> None:
    with make() as first, make() as second:
        copy(first)
        assert first.interrupt
        assert not second.interrupt
        assert second.read_memory(TARGET, 16) == bytes([0xA5] * 16)


def test_memory_parameters_are_checked() -> None:
    with pytest.raises(InputError, match=r"memory stall must be 0\.\.99: 100 is not"):
        Memory(stall=100)


def test_a_slower_clock_sees_a_faster_memory() -> None:
    """Bytes, latency and refreshes are of the memory: in cycles they follow the clock."""
    quick, slow = Memory.ddr(19.2e9, 0.75, 250), Memory.ddr(19.2e9, 0.75, 125)
    assert quick == Memory()
    assert (slow.latency, slow.refresh_period, slow.bytes_per_cycle) == (30, 975, pytest.approx(2 * quick.bytes_per_cycle))


def test_missing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"^g\+\+ must be on PATH and is not: install a C\+\+ compiler[^\n]*$"):
        toolchain.need("g++")
    with pytest.raises(InputError, match="must be on PATH"):
        make()


def test_waves_of_a_window(tmp_path: Path) -> None:
    try:
        need_waves()
    except InputError as error:
        pytest.skip(str(error))
    path = tmp_path / "window.fst"
    with make(waves=True) as simulator:
        simulator.dump(path, 5, 20)
        copy(simulator)
    assert path.stat().st_size > 0


def test_waves_must_be_asked_for(tmp_path: Path) -> None:
    with make() as simulator, pytest.raises(InputError, match="waves must be asked for"):
        simulator.dump(tmp_path / "none.fst", 0, 10)


def test_instances_share_their_code(tmp_path: Path) -> None:
    """Ten rows in a chain: their code is compiled for one or two of them, not ten times."""
    row = "module row(clk, i_bus, o_bus);\n  input clk;\n  input [63:0] i_bus;\n  output [63:0] o_bus;\n  reg [63:0] o_bus;\n"
    row += "  reg [63:0] mixed;\n  always @(posedge clk) begin\n    mixed <= {i_bus[30:0], i_bus[63:31]} + 64'd77;\n"
    row += "    o_bus <= mixed ^ i_bus * 64'd3;\n  end\nendmodule\n"
    chain = "".join(f"  wire [63:0] b{n + 1};\n  row row_{n}(.clk(clk), .i_bus(b{n}), .o_bus(b{n + 1}));\n" for n in range(10))
    verilog = f"{row}module top(clk, b0, b10);\n  input clk;\n  input [63:0] b0;\n  output [63:0] b10;\n{chain}endmodule\n"
    verilog = verilog.replace("  wire [63:0] b10;\n", "")
    translate(verilog, "top", tmp_path, Options(shared=True), share(verilog, ("row", "absent")))
    code = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("Vtop_row*.cpp"))
    assert 1 <= len(set(re.findall(r"void (Vtop_row___nba\w+row_\d+\w*)\(", code))) <= 3
