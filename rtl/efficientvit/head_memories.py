"""The head engine's memories: weights, parameters, vectors of codes, values and logits."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.efficientvit.depth_memories import LOAD
from rtl.efficientvit.head_command import (
    CHANNEL_BITS,
    PAIR_BITS,
    PARAMETER_BITS,
    PARAMETER_WIDTH,
    VALUE_BITS,
    WEIGHT_BITS,
    WORD_ADDRESS_BITS,
    WORD_CHANNELS,
)
from rtl.logit_memory import BANK_BITS, BANKS, BEAT_ADDRESS_BITS
from rtl.row_feeder import memory_write
from rtl.units.protocol import delay

SLICE_BITS, SLICES = 128, 4
#: Results of a pair of outputs: values, or logits of an image slot.
PAIR_WRITE = data.StructLayout({"valid": 1, "logits": 1, "image": 1, "pair": PAIR_BITS, "values": 2 * VALUE_BITS})
#: {word, vector}.
VECTOR_BITS = WORD_ADDRESS_BITS + 1


def code_write(bits: int) -> data.StructLayout:
    """A channel of a vector: POOL's, or NORM's."""
    return data.StructLayout({"valid": 1, "norm_vector": 1, "channel": CHANNEL_BITS, "code": bits})


class HeadMemories(wiring.Component):
    """All memories of the head but the pool's sums.

    Parameters
    ----------
    classes : logits of an image        bits : of a code

    Members
    -------
    write_weight_<s> : In(memory_write(128 bits)): bits 128 s .. 128 s + 127 of a weight word
    load : In(LOAD): parameters        write_pair : In(PAIR_WRITE)        write_code : In(code_write(bits))
    weight_address, vector_address, parameter_address, value_address : In; the vector's is {word, NORM's?}, the values' is a pair's
    weights : Out(512), vector : Out(32 * bits), parameters : Out(90), value : Out(32): ``latency`` = 2 cycles after the address
    logit_address : In({beat, image})        logits : Out(8 x 16 bits), a cycle later

    Timing
    ------
    One word per cycle of each. What is written can be read ``written`` = 2 cycles later; weights, 1.

    Resources, 8 bits: 16 + 4 + 2.5 + 2 + 2 BRAM36 for weights, vectors, parameters, values and 1,000 logits of two images.
    """

    latency, written = 2, 2

    def __init__(self, classes: int, bits: int):
        self.bits = bits
        self.beat_bits = max(1, ceil_log2(-(-classes // BANKS)))
        super().__init__(
            {
                **{f"write_weight_{s}": In(memory_write(unsigned(SLICE_BITS))) for s in range(SLICES)},
                "load": In(LOAD),
                "write_pair": In(PAIR_WRITE),
                "write_code": In(code_write(bits)),
                "weight_address": In(WEIGHT_BITS),
                "vector_address": In(VECTOR_BITS),
                "parameter_address": In(PARAMETER_BITS),
                "value_address": In(PAIR_BITS),
                "weights": Out(SLICES * SLICE_BITS),
                "vector": Out(WORD_CHANNELS * bits),
                "parameters": Out(PARAMETER_WIDTH),
                "value": Out(2 * VALUE_BITS),
                "logit_address": In(BEAT_ADDRESS_BITS),
                "logits": Out(VALUE_BITS * BANKS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        weights = []
        for s in range(SLICES):
            write = getattr(self, f"write_weight_{s}")
            weights.append(
                _memory(m, f"weights_{s}", SLICE_BITS, write.valid, write.address[:WEIGHT_BITS], write.data, self.weight_address)
            )
        load, pair = Signal(LOAD), self.write_pair
        m.d.sync += load.eq(self.load)
        place, values = delay(m, pair.pair, 1, name="pair"), delay(m, pair.values, 1, name="pair_values")
        is_value = delay(m, pair.valid & ~pair.logits, 1, name="is_value", reset=True)
        beat, parameters = load.address[:PARAMETER_BITS], load.data[:PARAMETER_WIDTH]
        m.d.comb += [
            self.weights.eq(Cat(weights)),
            self.parameters.eq(_memory(m, "parameters", PARAMETER_WIDTH, load.valid, beat, parameters, self.parameter_address)),
            self.value.eq(_memory(m, "values", 2 * VALUE_BITS, is_value, place, values, self.value_address)),
        ]
        self._vectors(m)
        self._logits(m, place, values)
        return m

    def _vectors(self, m):
        write, channel = self.write_code, self.write_code.channel
        lane, word = channel[: CHANNEL_BITS - WORD_ADDRESS_BITS], channel[CHANNEL_BITS - WORD_ADDRESS_BITS :]
        enable = delay(m, Cat(write.valid & (lane == index) for index in range(WORD_CHANNELS)), 1, name="code_enable", reset=True)
        address, codes = (
            delay(m, value, 1, name=name) for value, name in ((Cat(word, write.norm_vector), "code_word"), (write.code, "code"))
        )
        codes = codes.replicate(WORD_CHANNELS)
        vector = _memory(m, "vectors", len(codes), enable, address, codes, self.vector_address, granularity=self.bits)
        m.d.comb += self.vector.eq(vector)

    def _logits(self, m, place, values):
        """A beat is eight logits: four pairs."""
        pair, lane_bits = self.write_pair, BANK_BITS - 1
        lanes = Cat(pair.valid & pair.logits & (pair.pair[:lane_bits] == index) for index in range(BANKS // 2))
        m.submodules.logits = memory = Memory(shape=unsigned(VALUE_BITS * BANKS), depth=2 << self.beat_bits, init=[])
        write, read = memory.write_port(granularity=2 * VALUE_BITS), memory.read_port()
        m.d.comb += [
            write.en.eq(delay(m, lanes, 1, name="logit_enable", reset=True)),
            write.addr.eq(Cat(place[lane_bits:][: self.beat_bits], delay(m, pair.image, 1, name="image"))),
            write.data.eq(values.replicate(BANKS // 2)),
            read.addr.eq(Cat(self.logit_address[: self.beat_bits], self.logit_address[-1])),
            self.logits.eq(read.data),
        ]


def _memory(m, name, width, enable, address, value, read_address, granularity=None):
    """What a memory of ``width`` bits, as deep as its address can tell, holds at ``read_address``, two cycles later."""
    m.submodules[name] = memory = Memory(shape=unsigned(width), depth=1 << len(read_address), init=[])
    write, read = memory.write_port(granularity=granularity), memory.read_port()
    m.d.comb += [write.en.eq(enable), write.addr.eq(address), write.data.eq(value), read.addr.eq(read_address)]
    return delay(m, read.data, 1, name=f"{name}_read")
