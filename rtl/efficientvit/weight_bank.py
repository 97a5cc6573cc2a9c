"""`WeightBank`: one slice of every weight word. A module of its own: elaborating so large a memory takes long, and all slices are alike."""

from __future__ import annotations

from amaranth import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit.config import EfficientVitMachine
from rtl.row_feeder import memory_write
from rtl.tech.memory_cost import block_memory

SLICE_BITS = 128


def bank_members(config: EfficientVitMachine) -> dict:
    return {"write": In(memory_write(unsigned(SLICE_BITS))), "address": In(13), "data": Out(SLICE_BITS)}


class WeightBank(wiring.Component):
    """
    Members
    -------
    write : {valid, address, data}        address : to read        data : what is there, two cycles later
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__(bank_members(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(SLICE_BITS), depth=self.config.weight_words, init=[])
        read, write = memory.read_port(), memory.write_port()
        kept = Signal(SLICE_BITS, reset_less=True)
        m.d.sync += kept.eq(read.data)
        m.d.comb += [
            read.addr.eq(self.address),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            write.en.eq(self.write.valid),
            self.data.eq(kept),
        ]
        return m


def bank_cost(config: EfficientVitMachine) -> Cost:
    """Of a `WeightBank`: its memory, the choice between its chunks, and a register."""
    return block_memory(SLICE_BITS, config.weight_words) + Cost(ff=SLICE_BITS, priced_lut={"constant": 1}, priced_ff={"constant": 1})
