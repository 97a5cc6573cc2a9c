"""`AttendEngine`: OUTER, the first half of ReLU linear attention: keys and values of all pixels -> states, as weights of a score step."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit import key_value_memory
from rtl.efficientvit.attend_command import AttendConfig, command_layout
from rtl.efficientvit.attend_drain import AttendDrain
from rtl.efficientvit.attend_feeder import AttendFeeder
from rtl.efficientvit.key_value_memory import BANKS, PixelMemory
from rtl.efficientvit.state_memory import CHUNK, WORD_BITS, StateMemory, WordLayout
from rtl.shapes import ceil_div
from rtl.tech.lut_arithmetic import row_bits
from rtl.tech.memory_cost import block_memory, lut_memory
from rtl.units.outer_product import PRODUCTS, READ
from rtl.units.protocol import delay

__all__ = ["AttendConfig", "AttendEngine"]


class AttendEngine(wiring.Component):
    """::

        write -> PixelMemory -> LinearAttention -> AttendDrain -> StateMemory -> word
                  i -> AttendFeeder ----^

    The compiler sees to it that a head's pixels are written before its command comes, and that a state is no longer read when its
    place is written anew.

    Parameters
    ----------
    config : AttendConfig

    Members
    -------
    write : In(key_value_memory.write_layout): keys and values, a group of four pixels per cycle
    i : In(stream of attend_command.command_layout): a head each
    done : Out(1): the state of the next head, in the order of commands, may be read from this cycle on
    address : In, of the state memory        word : Out(WordLayout), ``StateMemory.latency`` cycles later

    Timing
    ------
    Equal heads whose commands wait: a head every ``config.cycles(pixels, wide)`` cycles, with depth 1 max(2 * pixels, 70) for heads of 16
    channels and max(8 * pixels, 276) for heads of 32.
    done follows the first word's read by ``config.latency(pixels, wide)`` cycles, if no read waited; that read follows the command by
    1 cycle (``config.late`` more for a head of 16 after one of 32).

    Resources of depth 1, 2, 4 at 8 bits, yosys, before place-and-route: 9,620, 5,710, 3,870 LUT; 8,590, 7,570, 8,480 FF;
    68 DSP48E2, 24 block RAMs; at most 2 LUT levels and a carry chain. Depth 1 with multipliers of LUTs: 17,458 LUT, 23,679 FF, 4 DSP48E2.
    """

    def __init__(self, config: AttendConfig):
        self.config = config
        self.memory = PixelMemory(config.key_value)
        self.unit = config.attention.build()
        super().__init__(
            {
                "write": In(key_value_memory.write_layout(config.key_value)),
                "i": In(stream.Signature(command_layout(config))),
                "done": Out(1),
                "address": In(config.state.address_bits),
                "word": Out(WordLayout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.key_value = memory = self.memory
        m.submodules.feeder = feeder = AttendFeeder(self.config)
        m.submodules.attention = unit = self.unit
        m.submodules.drain = drain = AttendDrain(self.config, unit)
        m.submodules.state = state = StateMemory(self.config.state)
        wiring.connect(m, wiring.flipped(self.i), feeder.i)
        m.d.comb += [
            memory.write.eq(self.write),
            memory.read.eq(feeder.read),
            unit.word.eq(memory.word),
            unit.i.eq(delay(m, feeder.word.as_value(), memory.latency, name="what", reset=True)),
            drain.start.eq(unit.finish),
            drain.head.eq(feeder.head),
            unit.read.eq(drain.read),
            Cat(unit.multiplier, unit.shift).eq(Cat(drain.multiplier, drain.shift)),
            drain.values.eq(unit.o),
            state.write.eq(drain.write),
            self.done.eq(drain.done),
            state.address.eq(self.address),
            self.word.eq(state.word),
        ]
        return m


def attend_cost(config: AttendConfig) -> Cost:
    """Of an `AttendEngine` with multipliers of LUTs: the sums and their multipliers, keys and values of pixels, states.

    Four slices requantize. A sum has two memories, an adder, and a product of `row_bits`; four sums are chosen, four to a LUT.
    """
    core, words = config.attention, config.key_value.word_bits
    product, slots = sum(row_bits(core.bits, core.key_bits)), core.key_parts * core.value_parts
    choices, level = 0, (core.values + 1) * (core.keys // READ)
    while level > 1:
        level = ceil_div(level, 4)
        choices += level
    sums = 2 * lut_memory(PRODUCTS * core.sum_bits, slots) + 2 * lut_memory(core.keys * core.total_bits, slots)
    memories = BANKS * block_memory(words, config.key_value_depth) + block_memory(WORD_BITS, config.state_depth, granularity=8 * CHUNK)
    own = Cost(
        dsp=READ,
        lut=PRODUCTS * (core.sum_bits + product) + core.values * (2 * core.bits + 2) + READ * choices * core.sum_bits,
        priced_lut={"constant": 1, "bits": core.bits},
        priced_ff={"constant": 1, "bits": core.bits, "product bits": PRODUCTS * product},
    )
    return own + sums + memories
