"""Weight and parameter memories in front of row 0, and the delays that skew every field of the bus to its pipeline stage."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.array_sequencer import Emission, Product
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.efficientvit.row_bus import Parameter, RowBus
from rtl.efficientvit.row_timing import RowTiming
from rtl.efficientvit.weight_bank import bank_members
from rtl.row_feeder import memory_write
from rtl.separate import SeparateModule

WEIGHT_BITS = 512
BANK_MODULE = "efficientvit_weight_bank"
PARAMETER_BITS = Parameter.size
#: A beat of a pair's parameters: of lane 0, then of lane 1.
BEATS_PER_PAIR = 2
#: From a command to the field of offset 0 on the bus.
BASE = 1
#: Read, the memory's output register, and the choice between weights and state.
_WEIGHT_LATENCY, _PARAMETER_LATENCY = 3, 2


class RowFeeder(wiring.Component):
    """Drives row 0.

    Members
    -------
    i : from the sequencer
    write_weight_<p> : {valid, address, data}; slice p of a weight word        write_parameter : beats of 128 bits, two per pair of channels
    state_address, state : read port of the state memory; data two cycles later
    bus : row 0's        emission : the word that row 0 completes with this cycle's ``bus``        written : strobe per step, see Timing

    Timing
    ------
    A field of offset k appears on ``bus`` BASE + k cycles after its command. ``written``: whatever reads a row's memory `BASE` cycles later
    at row 0, and hops, finds the step's results there.
    """

    def __init__(self, config: EfficientVitMachine, timing: RowTiming):
        self.config, self.timing = config, timing
        super().__init__(
            {
                "i": In(Product),
                **{f"write_weight_{port}": In(memory_write(unsigned(128))) for port in range(config.weight_ports)},
                "write_parameter": In(memory_write(unsigned(128))),
                "state_address": Out(10),
                "state": In(WEIGHT_BITS),
                "bus": Out(RowBus),
                "emission": Out(Emission),
                "written": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._controls(m)
        self._weights(m)
        self._parameters(m)
        return m

    def _controls(self, m):
        i, bus, timing = self.i, self.bus, self.timing
        fields = {
            "read": (i.read | i.shortcut_read, 0),
            "address": (i.address, 0),
            "operand_load": (i.read, timing.operand_load),
            "rectify": (i.quotient, timing.operand_load),
            "shortcut_load": (i.shortcut_read, timing.operand_load),
            "first": (i.first, timing.first),
            "last": (i.last, timing.last),
            "divisor": (i.divisor, timing.sum),
            "exponent_low": (i.exponent_low, timing.exponent_low),
            "exponent_write": (i.last & i.divisor, timing.exponent_write),
            "exponent_slot": (i.slot, timing.exponent_write),
            "exponent_read": (i.slot, timing.exponent_read),
            "shortcut_low": (i.pair[:2], timing.shortcut_low),
            "shortcut_high": (i.pair[2:], timing.shortcut_high),
            "word_write": (i.word & i.write, timing.word),
            "word_address": (i.target, timing.word),
            "word_collect": (i.word & (i.emission.ring | i.emission.attention | i.emission.pool), timing.word),
        }
        for name, (value, offset) in fields.items():
            m.d.comb += bus[name].eq(self._later(m, value, BASE + offset, name))
        for name, offset in timing.constants.items():
            m.d.comb += bus.constants[name].eq(self._later(m, i[name], BASE + offset, name))
        m.d.comb += [
            self.emission.eq(self._later(m, i.emission.as_value(), BASE + timing.word, "emission")),
            self.written.eq(self._later(m, i.ends, timing.settle, "ends")),
        ]

    def _later(self, m, value, cycles, name):
        """One register for all stages: many signals would take long to elaborate."""
        value = Value.cast(value)
        if cycles == 0:
            return value
        line = Signal(cycles * len(value), name=f"late_{name}", reset_less=True)
        m.d.sync += line.eq(Cat(value, line[: (cycles - 1) * len(value)]))
        return line[(cycles - 1) * len(value) :]

    def _weights(self, m):
        """One memory per port; each lane of inputs as late as its place in its cascade."""
        slices = []
        for port in range(self.config.weight_ports):
            m.submodules[f"weights_{port}"] = bank = SeparateModule(BANK_MODULE, bank_members(self.config))
            m.d.comb += [bank.address.eq(self.i.weight_address), bank.write.eq(getattr(self, f"write_weight_{port}"))]
            slices.append(bank.data)
        word, is_state = Signal(WEIGHT_BITS, reset_less=True), self._later(m, self.i.state, _WEIGHT_LATENCY - 1, "is_state")
        m.d.comb += self.state_address.eq(self.i.weight_address)
        m.d.sync += word.eq(Mux(is_state, self.state, Cat(slices)))
        early = BASE + self.timing.product - _WEIGHT_LATENCY
        for lane, late in enumerate(self.timing.stagger):
            for output in range(2):
                byte = word.word_select(output * WORD_CHANNELS + lane, 8)
                late_byte = self._later(m, byte, early + late, f"weight_{output}_{lane}")
                m.d.comb += self.bus[f"weights_{output}"][lane].eq(late_byte)

    def _parameters(self, m):
        m.submodules.parameters = memory = Memory(
            shape=data.ArrayLayout(PARAMETER_BITS, BEATS_PER_PAIR), depth=self.config.parameter_words, init=[]
        )
        read, write = memory.read_port(), memory.write_port(granularity=1)
        beat = self.write_parameter
        m.d.comb += [
            read.addr.eq(self.i.parameter_address),
            write.addr.eq(beat.address >> 1),
            *(write.data[lane].eq(beat.data) for lane in range(BEATS_PER_PAIR)),
            write.en.eq(Cat(beat.valid & (beat.address[0] == lane) for lane in range(BEATS_PER_PAIR))),
        ]
        for lane in range(BEATS_PER_PAIR):
            kept = Signal(Parameter, name=f"parameter_{lane}", reset_less=True)
            m.d.sync += kept.eq(read.data[lane])
            for name, offset in self.timing.parameter.items():
                late = self._later(m, kept[name], BASE + offset - _PARAMETER_LATENCY, f"parameter_{lane}_{name}")
                m.d.comb += self.bus[f"parameter_{lane}"][name].eq(late)
