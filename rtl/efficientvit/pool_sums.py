"""The average pool's sums: groups of four pixels in, a sum per channel of the image out."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit.collector import CONTEXTS, pool_group
from rtl.efficientvit.config import BUSES
from rtl.efficientvit.head_command import WORD_ADDRESS_BITS, WORD_CHANNELS
from rtl.tech.dsp48e2 import generic
from rtl.tech.memory_cost import lut_memory, memory
from rtl.units.protocol import delay, require

#: More than a code: of three of them; of a pass of 64 pixels; of an image of 514.
_TRIPLE, _PASS, _IMAGE = 2, 6, 9
#: Channels that are added to the memory at a time.
LANES = 4
_STEPS = WORD_CHANNELS // LANES
STEP_BITS = 3
ADDRESS_BITS = WORD_ADDRESS_BITS + STEP_BITS
#: Cycles from a group to its sum, and from there to the memory's first channels.
_ADD, _UPDATE = 3, 5


def sums_layout(bits: int) -> data.ArrayLayout:
    return data.ArrayLayout(bits + _IMAGE, LANES)


@dataclass(frozen=True, kw_only=True)
class PoolSumsConfig:
    """
    Parameters
    ----------
    bits : of a code, 4..8        technology : of the adders, see `rtl.tech.dsp48e2`
    """

    bits: int = 8
    technology: object = generic

    def __post_init__(self) -> None:
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")

    def build(self) -> PoolSums:
        return PoolSums(self)


class PoolSums(wiring.Component):
    """memory[word] = (begin ? 0 : memory[word]) + sum of the valid pixels' codes over the groups of a pass, per channel.

    Parameters
    ----------
    config : PoolSumsConfig

    Members
    -------
    group : In(pool_group(bits)): up to four pixels of a word. ``last`` is a strobe: the pass ends with this group, which may have no valid
        pixels; ``word``, ``begin`` are used with it. Of groups without pixels nothing else counts
    address : In(10): {word, step}        sums : Out(sums_layout(bits)): of channels 4 * step + k of the word, 2 cycles later

    Timing
    ------
    A group per cycle. Groups of one context are 3 cycles apart, or more; groups that are the last of their pass 8 (the collector's are 16).
    ``settle`` = 16 cycles after its last group a word can be read. Reads are noise while a word is added to the memory.

    Groups of up to three words interleave, so each context has a sum of its own, in LUTs. When a pass ends, its 32 sums are added to the
    memory four at a time, so that it is two block memories, not eight.

    Resources, 8 bits, yosys, before place-and-route: 1,574 LUT (256 memory, 74 shift register), 3,054 FF, 2 BRAM36.

    Source: model/efficientvit/interpreter.py, pool.
    """

    settle = _ADD + _STEPS + _UPDATE
    latency = 2

    def __init__(self, config: PoolSumsConfig):
        self.config, self._pass_bits = config, config.bits + _PASS
        super().__init__({"group": In(pool_group(config.bits)), "address": In(ADDRESS_BITS), "sums": Out(sums_layout(config.bits))})

    def elaborate(self, platform):
        m = Module()
        group = self.group
        total = self._pass_sums(m)
        # the pass is complete: its channels leave four by four
        steps, step, leaving = Signal(), Signal(STEP_BITS, reset_less=True), Signal.like(Cat(total), reset_less=True)
        target = delay(m, Cat(group.word, group.begin), _ADD, name="target")
        word, begin = Signal(WORD_ADDRESS_BITS, reset_less=True), Signal(reset_less=True)
        last = delay(m, group.last, _ADD, name="last", reset=True)
        m.d.sync += [leaving.eq(leaving[LANES * self._pass_bits :]), step.eq(step + 1)]
        with m.If(step == _STEPS - 1):
            m.d.sync += steps.eq(0)
        with m.If(last):
            m.d.sync += [leaving.eq(Cat(total)), step.eq(0), steps.eq(1), Cat(word, begin).eq(target)]
        self._update(m, Cat(step, word), steps, begin, leaving[: LANES * self._pass_bits])
        return m

    def _pass_sums(self, m):
        """Sums of the group's context, ``_ADD`` cycles after the group."""
        technology, group, bits, pass_bits = self.config.technology, self.group, self.config.bits, self._pass_bits
        context, first, valid = group.context, group.first, group.valid.any()
        pixels = [Signal(data.ArrayLayout(bits, WORD_CHANNELS), name=f"pixel_{pixel}", reset_less=True) for pixel in range(BUSES)]
        for pixel, codes in enumerate(pixels):
            m.d.sync += codes.as_value().eq(Mux(group.valid[pixel], group.data[pixel], 0))
        m.submodules.contexts = memory = Memory(
            shape=unsigned(WORD_CHANNELS * pass_bits), depth=1 << (CONTEXTS - 1).bit_length(), init=[], attrs={"ram_style": "distributed"}
        )
        read, write = memory.read_port(domain="comb"), memory.write_port()
        before = Signal(data.ArrayLayout(pass_bits, WORD_CHANNELS), reset_less=True)
        m.d.comb += read.addr.eq(delay(m, context, 1, name="read_context"))
        m.d.sync += before.as_value().eq(Mux(delay(m, first, 1, name="first"), 0, read.data))
        totals = []
        for channel in range(WORD_CHANNELS):
            triple = Signal(bits + _TRIPLE, name=f"triple_{channel}", reset_less=True)
            total = Signal(pass_bits, name=f"total_{channel}", reset_less=True)
            fourth = delay(m, pixels[3][channel], 1, name=f"fourth_{channel}")
            m.d.sync += [
                triple.eq(technology.add(m, [codes[channel] for codes in pixels[:3]], triple.shape())),
                total.eq(technology.add(m, [before[channel], triple, fourth], total.shape())),
            ]
            totals.append(total)
        m.d.comb += [
            write.addr.eq(delay(m, context, _ADD, name="write_context")),
            write.en.eq(delay(m, valid, _ADD, name="written", reset=True)),
            write.data.eq(Cat(totals)),
        ]
        return totals

    def _update(self, m, address, valid, begin, added):
        """Reads, adds and writes four channels per cycle: read, memory's register, sum, write."""
        sums, pass_bits = self.sums.shape(), self._pass_bits
        m.submodules.sums = memory = Memory(shape=unsigned(sums.size), depth=1 << ADDRESS_BITS, init=[])
        read, write = memory.read_port(), memory.write_port()
        old, new = Signal(sums, reset_less=True), Signal(sums, reset_less=True)
        m.d.comb += [read.addr.eq(Mux(valid, address, self.address)), self.sums.eq(old)]
        m.d.sync += old.as_value().eq(read.data)
        parts, begin = delay(m, added, 2, name="added"), delay(m, begin, 2, name="begin")
        for lane in range(LANES):
            part = parts.word_select(lane, pass_bits)
            m.d.sync += new[lane].eq((part + Mux(begin, 0, old[lane]))[: sums.elem_shape])  # an image has at most 514 pixels
        m.d.comb += [
            write.addr.eq(delay(m, address, 3, name="target_address")),
            write.en.eq(delay(m, valid, 3, name="target_valid", reset=True)),
            write.data.eq(new),
        ]


def pool_cost(bits: int) -> Cost:
    """Of `PoolSums`: sums of the contexts in LUTs and of words in block memories; two adders per channel."""
    pass_bits = bits + _PASS
    contexts = lut_memory(WORD_CHANNELS * pass_bits, 1 << (CONTEXTS - 1).bit_length())
    adders = WORD_CHANNELS * (bits + _TRIPLE + pass_bits)
    return contexts + memory(sums_layout(bits).size, 1 << ADDRESS_BITS) + Cost(lut=adders, ff=adders)
