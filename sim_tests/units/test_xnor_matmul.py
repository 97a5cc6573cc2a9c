"""The strategies of `XnorMatmul` give the same bits: both in one Verilator model, with random vectors made in hardware.

``make test-slow`` compares 1,000,000 weight vectors per precision, the default suite 20,000.
"""

from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.dot_ports import delayed
from rtl.flow.verilog import export
from rtl.units.xnor_matmul import STRATEGIES, XnorMatmulConfig
from sim_tests.netlist import verilate

INPUTS = 64
BATCH = 100_000


class Random(wiring.Component):
    """Xorshift, 64 bits per cycle. `load` sets the state to `seed`, never 0."""

    load: In(1)
    seed: In(64)
    o: Out(64)

    def elaborate(self, platform):
        m = Module()
        state = Signal(64, init=1)
        a = state ^ (state << 13)[:64]
        b = a ^ (a >> 7)
        m.d.sync += state.eq(Mux(self.load, self.seed | 1, b ^ (b << 17)[:64]))
        m.d.comb += self.o.eq(state)
        return m


class Duel(wiring.Component):
    """Fills and reads both strategies in every cycle: vectors of INPUTS activations, random, all 0 or all largest; weights likewise.

    Members: `load`, `seed` of the random numbers; `compared`, `different`: results so far.
    """

    load: In(1)
    seed: In(64)
    compared: Out(32)
    different: Out(32)

    def __init__(self, bits: int):
        self.bits = bits
        self.configs = [XnorMatmulConfig(inputs=INPUTS, bits=bits, strategy=STRATEGIES[name]()) for name in ("lut_table", "popcount")]
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.random = random = Random()
        m.submodules.weights_random = words = Random()
        m.submodules.table, m.submodules.count = units = [config.unit() for config in self.configs]
        lead = max(config.fill_lead for config in self.configs)
        latency = max(config.latency for config in self.configs)
        beat, bank, mode = Signal(range(INPUTS)), Signal(), Signal(3)
        m.d.comb += [random.load.eq(self.load), random.seed.eq(self.seed)]
        m.d.comb += [words.load.eq(self.load), words.seed.eq(~self.seed)]
        m.d.sync += beat.eq(Mux(self.load, 0, beat + 1))
        with m.If(beat.all()):
            m.d.sync += [bank.eq(~bank), mode.eq(random.o[:3])]
        value = Mux(mode == 0, 0, Mux(mode == 1, ~0, random.o[20:]))[: self.bits]
        weights = Mux(words.o[:4] == 0, 0, Mux(words.o[:4] == 1, ~0, words.o))[:INPUTS]
        filled = Cat(value, bank, beat == 0)
        reads = delayed(m, ~bank, lead - 1, "reads")  # the bank that was completed `lead` cycles ago
        results = []
        for unit, config in zip(units, self.configs, strict=True):
            m.d.comb += [
                unit.i_activations.payload.eq(delayed(m, filled, lead - config.fill_lead, f"fill_{config.fill_lead}")),
                unit.i_activations.valid.eq(delayed(m, ~self.load, lead - config.fill_lead, f"valid_{config.fill_lead}")),
                unit.i_weights.payload.eq(Cat(weights, reads)),
                unit.i_weights.valid.eq(1),
            ]
            results.append(delayed(m, unit.o.payload, latency - config.latency, f"result_{config.latency}"))
        cycle = Signal(32)
        with m.If(self.load):
            m.d.sync += cycle.eq(0)
        with m.Else():
            m.d.sync += cycle.eq(cycle + 1)
        with m.If(cycle > 2 * INPUTS + lead + latency):
            m.d.sync += [self.compared.eq(self.compared + 1), self.different.eq(self.different + (results[0] != results[1]))]
        return m


def duel(folder: Path, bits: int, vectors: int, seed: int) -> None:
    run = verilate.build(folder, export(Duel(bits), "duel"), "duel", {"rst": 1, "load": 1, "seed": 64}, {"compared": 32, "different": 32})
    begin, idle = ({"rst": 0, "load": load, "seed": 0} for load in (1, 0))
    compared = batch = 0
    while compared < vectors:
        batch += 1
        begin["seed"] = (seed * 1_000_003 + batch) * 0x9E3779B97F4A7C15 % (1 << 64)
        last = run([begin, begin] + [idle] * min(BATCH, vectors + 1000))[-1]
        assert last["different"] == 0, f"{last['different']} of {last['compared']} results differ, batch {batch}"
        compared += last["compared"]


@pytest.mark.parametrize("bits", [1, 8])
def test_strategies_equal(tmp_path: Path, seed: int, bits: int) -> None:
    duel(tmp_path, bits, 20_000, seed)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_strategies_equal_on_a_million(tmp_path: Path, seed: int, bits: int) -> None:
    duel(tmp_path, bits, 1_000_000, seed)
