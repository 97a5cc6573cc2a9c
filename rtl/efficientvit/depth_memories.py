"""The depthwise engine's weights and parameters."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit.depth_columns import FETCH
from rtl.efficientvit.depth_command import ADDRESS
from rtl.efficientvit.expansion_ring import HALF
from rtl.tech.memory_cost import block_memory
from rtl.units.depthwise_conv import PLACES
from rtl.units.depthwise_parameters import CHANNEL_PARAMETERS, parameter_word
from rtl.units.depthwise_window import TAPS
from rtl.units.protocol import delay

#: One beat of 16 bytes per cycle.
LOAD = data.StructLayout({"valid": 1, "address": 16, "data": 128})
_LATENCY = 2


class WeightMemory(wiring.Component):
    """A word of nine slots of 16 channels' weights for every step of every sweep: layout of `pack_depthwise.pack_weights`.

    Members
    -------
    load : In(LOAD); address = word * 16 + slot        address : In(9), of a word
    weights : Out(9 x 16 signed 8): slot t's ``latency`` + PLACES[t] = 2 + PLACES[t] cycles after ``address``

    Timing
    ------
    A word per cycle. A beat is in place 2 cycles after it came.

    Resources: nine memories of 128 bits: 18 BRAM36. Any word in any cycle: no weights wait in registers, and no sweep is too short.
    """

    latency = _LATENCY

    def __init__(self):
        super().__init__(
            {"load": In(LOAD), "address": In(ADDRESS), "weights": Out(data.ArrayLayout(data.ArrayLayout(signed(8), 16), TAPS))}
        )

    def elaborate(self, platform):
        m = Module()
        load, address = Signal(LOAD), [self.address]
        m.d.sync += load.eq(self.load)
        for place in range(max(PLACES)):
            address.append(delay(m, address[-1], 1, name=f"address_{place}"))
        for tap, place in enumerate(PLACES):
            m.submodules[f"tap_{tap}"] = memory = Memory(shape=128, depth=1 << ADDRESS, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(load.valid & (load.address[:4] == tap)),
                write.addr.eq(load.address[4 : 4 + ADDRESS]),
                write.data.eq(load.data),
                read.addr.eq(address[place]),
                self.weights[tap].as_value().eq(delay(m, read.data, _LATENCY - 1, name=f"weights_{tap}")),
            ]
        return m


class ParameterMemory(wiring.Component):
    """The requantizers' constants, four channels to a word: layout of `pack_depthwise.pack_parameters`.

    Members
    -------
    load : In(LOAD); address = channel. Four channels, from a multiple of 4 on, come in order
    fetch : In(FETCH)        o : Out(parameter_word(16)), ``latency`` = 2 cycles later

    Timing
    ------
    A word per cycle. A word is in place 2 cycles after its last beat.

    Resources: 316 bits: 5 BRAM36.
    """

    latency = _LATENCY

    def __init__(self):
        super().__init__({"load": In(LOAD), "fetch": In(FETCH), "o": Out(parameter_word(HALF))})

    def elaborate(self, platform):
        m = Module()
        bits = self.o.word.shape().size
        m.submodules.memory = memory = Memory(shape=bits, depth=1 << ADDRESS, init=[])
        write, read = memory.write_port(), memory.read_port()
        gathered, address, complete = Signal(bits, reset_less=True), Signal(ADDRESS, reset_less=True), Signal()
        with m.If(self.load.valid):
            m.d.sync += [
                gathered.eq(Cat(gathered[CHANNEL_PARAMETERS.size :], self.load.data[: CHANNEL_PARAMETERS.size])),
                address.eq(self.load.address[2 : 2 + ADDRESS]),
            ]
        m.d.sync += complete.eq(self.load.valid & self.load.address[:2].all())
        m.d.comb += [
            write.en.eq(complete),
            write.addr.eq(address),
            write.data.eq(gathered),
            read.addr.eq(self.fetch.address),
            self.o.word.as_value().eq(delay(m, read.data, _LATENCY - 1, name="word")),
            self.o.valid.eq(delay(m, self.fetch.valid, _LATENCY, name="valid", reset=True)),
            self.o.quarter.eq(delay(m, self.fetch.quarter, _LATENCY, name="quarter")),
        ]
        return m


def depth_cost(bits: int) -> Cost:
    """Of a `DepthEngine` without its channels: the memories of weights and parameters; the window's registers and choices by ``bits``."""
    memories = TAPS * block_memory(128, 1 << ADDRESS) + block_memory(parameter_word(HALF)["word"].width, 1 << ADDRESS)
    return memories + Cost(priced_lut={"constant": 1, "bits": bits}, priced_ff={"constant": 1, "bits": bits})
