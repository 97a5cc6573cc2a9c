"""One row: the pixels p with p % rows == index. Activation memory, dot products, requantizers."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS
from rtl.efficientvit.row_bus import ADDRESS_BITS, ROW_BITS, RowBus, depth_lane, window_lane
from rtl.efficientvit.row_timing import RowTiming
from rtl.tech.clocking import CLOCKINGS, FAST_CLOCK, drive_fast_domain
from rtl.tech.memory_cost import block_memory, lut_memory
from rtl.units.code_quotient import EXPONENT_BITS
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.int8_matmul import Int8MatmulConfig
from rtl.units.log2_exponent import Log2ExponentConfig
from rtl.units.protocol import delay

#: A pair of results: channels c and c + 16, each in a byte of the trace.
RowResult = data.StructLayout({"valid": 1, "codes": data.ArrayLayout(8, 2)})
SCORE_SLOTS = 16


def row_members(config: EfficientVitMachine) -> dict:
    lane = depth_lane(config.bits)
    lanes = {"bus": RowBus, "depth_a": lane, "depth_b": lane, "window": window_lane(config.bits)}
    clocks = {FAST_CLOCK: In(1)} if config.dsp_clock == 2 else {}
    return {
        **clocks,
        "index": In(ROW_BITS),
        **{f"i_{name}": In(shape) for name, shape in lanes.items()},
        **{f"o_{name}": Out(shape) for name, shape in lanes.items()},
        "i_collect": In(config.word_bits),
        "o_collect": Out(config.word_bits),
        "result": Out(RowResult),
    }


class RowUnits:
    """The units of a row, to be built, and their timing."""

    def __init__(self, config: EfficientVitMachine):
        self.matmul = Int8MatmulConfig(inputs=WORD_CHANNELS, technology=config.technology, clocking=CLOCKINGS[config.dsp_clock])
        self.requantize = CodeRequantizeConfig(bits=config.bits, technology=config.technology, shortcut=True, quotient="log2")
        self.exponent = Log2ExponentConfig()
        self.timing = RowTiming(self.matmul, self.requantize)


class Row(wiring.Component):
    """
    Parameters
    ----------
    config : EfficientVitMachine

    Members
    -------
    index : this row's number        clk_2x : only where ``dsp_clock`` is 2
    i_bus, i_depth_a, i_depth_b, i_window : from the row before; o_<name> : to the next, a cycle later
    i_collect, o_collect : the collection bus, past every fourth row
    result : a pair of codes as it is made, for comparison in simulation

    Timing
    ------
    A product per cycle; see `RowTiming`. A completed word leaves on the collection bus in the cycle after `RowTiming.word`.
    The memory's write port takes a completed word first, then the lanes in order: each waits in a register of its own, so that words of
    one lane for one row must be four cycles apart.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config, self.word = config, unsigned(config.word_bits)
        super().__init__(row_members(config))

    def elaborate(self, platform):
        m = Module()
        units = RowUnits(self.config)
        if self.config.dsp_clock == 2:
            drive_fast_domain(m, self.clk_2x)
        m.submodules.matmul = matmul = units.matmul.build()
        requantizers = [units.requantize.build() for _ in range(2)]
        bus = self._hop(m)
        m.submodules.memory = memory = Memory(shape=self.word, depth=self.config.memory_words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=self.word.width // 2)
        m.d.comb += [read.addr.eq(bus.address), read.en.eq(bus.read)]
        self._multiply(m, matmul, bus, read.data)
        shortcuts = self._shortcuts(m, bus, read.data, units.timing.shortcut_wait)
        for lane in range(2):
            self._requantize(m, units, lane, requantizers[lane], getattr(matmul, f"o_{lane}"), bus, shortcuts[lane])
        word = self._gather(m, requantizers, bus)
        self._write(m, write, bus, word)
        return m

    def _hop(self, m):
        """Every bus, a register later; what this row itself uses is what it passes on."""
        for name in ("bus", "depth_a", "depth_b", "window"):
            hop = Signal.like(getattr(self, f"i_{name}"), name=f"hop_{name}", reset_less=True)
            m.d.sync += hop.eq(getattr(self, f"i_{name}"))
            m.d.comb += getattr(self, f"o_{name}").eq(hop)
        return self.o_bus

    def _multiply(self, m, matmul, bus, word):
        """Rectified codes are less half their range, or 0: by the registers' reset, which costs a LUT per code and not one per bit."""
        operand, bits = Signal(self.word, reset_less=True), self.config.bits
        with m.If(bus.operand_load):
            m.d.sync += operand.eq(word)
            for channel in range(WORD_CHANNELS):
                code, rectified = word.word_select(channel, bits), operand.word_select(channel, bits)
                with m.If(bus.rectify):
                    m.d.sync += rectified[-1].eq(0)
                with m.If(bus.rectify & ~code[-1]):
                    m.d.sync += rectified[:-1].eq(0)
        m.d.comb += [
            *(matmul.codes[channel].eq(operand.word_select(channel, bits)) for channel in range(WORD_CHANNELS)),
            matmul.weights_0.eq(bus.weights_0),
            matmul.weights_1.eq(bus.weights_1),
            matmul.first.eq(bus.first),
            matmul.last.eq(bus.last),
        ]

    def _shortcuts(self, m, bus, word, wait):
        """Code less zero of the shortcut of each channel of the pair. One word is kept: its pairs are chosen as their products come, and
        wait, two codes each, in shift registers."""
        kept, bits = Signal(self.word, name="shortcut_word", reset_less=True), self.config.bits
        with m.If(bus.shortcut_load):
            m.d.sync += kept.eq(word)
        values = []
        for half in range(2):
            codes = [kept.word_select(half * PAIRS + pair, bits) for pair in range(PAIRS)]
            fours = [Signal(bits, name=f"shortcut_{half}_{group}", reset_less=True) for group in range(PAIRS // 4)]
            code = Signal(bits, name=f"shortcut_code_{half}", reset_less=True)
            value = Signal(bits + 1, name=f"shortcut_value_{half}", reset_less=True)
            m.d.sync += [four.eq(Array(codes[4 * group : 4 * group + 4])[bus.shortcut_low]) for group, four in enumerate(fours)]
            m.d.sync += code.eq(Array(fours)[bus.shortcut_high])
            late = delay(m, code, wait, name=f"shortcut_late_{half}")
            m.d.sync += value.eq((late - bus.constants.shortcut_zero[:bits])[: len(value)])
            values.append(value.as_signed())
        return values

    def _requantize(self, m, units, lane, requantize, total, bus, shortcut):
        """A sum is a result, or a divisor whose exponent is kept for the results of its word."""
        exponent, parameter = units.exponent.build(), bus[f"parameter_{lane}"]
        m.submodules[f"requantize_{lane}"], m.submodules[f"exponent_{lane}"] = requantize, exponent
        m.submodules[f"exponents_{lane}"] = exponents = Memory(shape=unsigned(EXPONENT_BITS), depth=SCORE_SLOTS, init=[])
        write, read = exponents.write_port(), exponents.read_port(domain="comb")
        m.d.comb += [
            requantize.i_accumulator.payload.eq(total.payload),
            requantize.i_accumulator.valid.eq(total.valid & ~bus.divisor),
            exponent.i.payload.eq(total.payload),
            exponent.i.valid.eq(total.valid & bus.divisor),
            exponent.low.eq(bus.exponent_low),
            write.addr.eq(bus.exponent_slot),
            write.en.eq(bus.exponent_write),
            write.data.eq(delay(m, exponent.o.payload, units.timing.exponent_wait, name=f"exponent_{lane}")),
            read.addr.eq(bus.exponent_read),
            requantize.exponent.eq(delay(m, read.data, 1, name=f"exponent_{lane}_kept")),
            requantize.shortcut.eq(shortcut),
            *(getattr(requantize, name).eq(parameter[name]) for name in parameter.shape().members),
            *(getattr(requantize, name).eq(bus.constants[name]) for name in bus.constants.shape().members if name != "shortcut_zero"),
        ]

    def _gather(self, m, requantizers, bus):
        """Pairs come in order of channels: each half of the word is a shift register."""
        results = [unit.o for unit in requantizers]
        halves = [Signal(self.word.width // 2, name=f"gather_{half}", reset_less=True) for half in range(2)]
        for half, result in zip(halves, results, strict=True):
            with m.If(result.valid):
                m.d.sync += half.eq(Cat(half[len(result.payload) :], result.payload))
        word = Cat(halves)
        collected = Signal(self.word, reset_less=True)
        m.d.sync += collected.eq(Mux(bus.word_collect, word, self.i_collect))
        m.d.comb += [
            self.o_collect.eq(collected),
            self.result.valid.eq(results[0].valid),
            *(self.result.codes[lane].eq(result.payload) for lane, result in enumerate(results)),
        ]
        return word

    def _write(self, m, port, bus, word):
        """The write port's four users: the row's own word, at once; the two lanes of the depthwise engine and the window wait."""
        depths = [
            (lane.valid & (lane.row == self.index), lane.address, Cat(~lane.half, lane.half), Cat(lane.data, lane.data))
            for lane in (self.o_depth_a, self.o_depth_b)
        ]
        window = (self.o_window.valid & (self.o_window.row == self.index), self.o_window.address, Const(3, 2), self.o_window.data)
        write = data.StructLayout({"valid": 1, "address": ADDRESS_BITS, "halves": 2, "data": self.word})
        chosen, own = Signal(write, name="chosen", reset_less=True), Signal(write)
        m.d.comb += [own.valid.eq(bus.word_write), own.address.eq(bus.word_address), own.halves.eq(3), own.data.eq(word)]
        waiting, taken = [], bus.word_write
        for number, (valid, address, halves, value) in enumerate((*depths, window)):
            held = Signal(write, name=f"held_{number}", reset_less=True)
            with m.If(valid):
                m.d.sync += [held.address.eq(address), held.halves.eq(halves), held.data.eq(value)]
            m.d.sync += held.valid.eq(valid | (held.valid & taken))
            taken |= held.valid
            waiting.append(held)
        which = Mux(bus.word_write, 0, Mux(waiting[0].valid, 1, Mux(waiting[1].valid, 2, 3)))
        m.d.sync += chosen.eq(Array([own.as_value(), *(held.as_value() for held in waiting)])[which])
        m.d.comb += [
            port.addr.eq(chosen.address),
            port.data.eq(chosen.data),
            port.en.eq(chosen.halves & chosen.valid.replicate(2)),
        ]


def row_cost(config: EfficientVitMachine) -> Cost:
    """Of a `Row`: a slice per two products, half as many at twice the clock, and two per requantizer; its memory and its exponents.

    What else there is has a width of ``bits``: codes, shortcuts, results and the buses they come on.
    """
    fast = config.dsp_clock - 1
    own = Cost(
        dsp=WORD_CHANNELS // config.dsp_clock + 4,
        priced_lut={"constant": 1, "bits": config.bits, "fast slices": fast},
        priced_ff={"constant": 1, "bits": config.bits, "fast slices": fast, "fast bits": fast * config.bits},
    )
    memory = block_memory(config.word_bits, config.memory_words, granularity=config.word_bits // 2)
    return own + memory + 2 * lut_memory(EXPONENT_BITS, SCORE_SLOTS)
