"""Where the items of a LOAD go: the feeder's memories, or the load bus to the rows."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.config import AcceleratorConfig
from rtl.program.isa import LoadTarget
from rtl.row_bus import LoadBus, LoadKind
from rtl.row_feeder import NormPair, Parameter, memory_write

Place = data.StructLayout({"row": 8, "pass_index": 4})


class Loader(wiring.Component):
    """Scatters items, one per cycle.

    Members
    -------
    target, address : of the LOAD in progress        start : resets the counters, one cycle before the first item at the latest
    i : stream of {data, index}; always ready
    write_weight, write_parameter, write_norm : memory writes        load : row 0's load bus

    Timing
    ------
    Memory writes come in the item's cycle, the load bus one cycle later (the slot's row and pass are read from a ROM).
    """

    def __init__(self, config: AcceleratorConfig, item_bits: int):
        self.config = config
        super().__init__(
            {
                "target": In(3),
                "address": In(16),
                "start": In(1),
                "i": In(stream.Signature(data.StructLayout({"data": item_bits, "index": 24}), always_ready=True)),
                "write_weight": Out(memory_write(config.inputs)),
                "write_parameter": Out(memory_write(Parameter)),
                "write_norm": Out(memory_write(NormPair)),
                "load": Out(LoadBus),
            }
        )

    def elaborate(self, platform):
        m = Module()
        item, valid = self.i.payload, self.i.valid
        for target, write in (
            (LoadTarget.WEIGHT, self.write_weight),
            (LoadTarget.PARAMETER, self.write_parameter),
            (LoadTarget.NORM, self.write_norm),
        ):
            m.d.comb += [
                write.valid.eq(valid & (self.target == target)),
                write.address.eq(self.address + item.index),
                Value.cast(write.data).eq(item.data[: len(Value.cast(write.data))]),
            ]
        slot, channel = self._slots(m, valid)
        places = [self.config.place(slot) for slot in range(self.config.shape.tokens)]
        rom = Memory(shape=Place, depth=len(places), init=[{"row": row, "pass_index": index} for row, index in places])
        m.submodules.places = rom
        place = rom.read_port(domain="sync")
        m.d.comb += [place.addr.eq(slot), place.en.eq(1), self.load.row.eq(place.data.row), self.load.pass_index.eq(place.data.pass_index)]
        pixel = item.data[8 - self.config.bits : 8]
        with m.Switch(self.target):
            with m.Case(LoadTarget.TABLE):
                m.d.sync += [
                    self.load.kind.eq(LoadKind.TABLE),
                    self.load.address.eq(self.address + item.index),
                    self.load.value.eq(item.data[:8]),
                ]
            with m.Case(LoadTarget.POSITION):
                m.d.sync += [self.load.kind.eq(LoadKind.POSITION), self.load.address.eq(channel), self.load.value.eq(item.data[:16])]
            with m.Case(LoadTarget.PIXEL):
                m.d.sync += [self.load.kind.eq(LoadKind.PIXEL), self.load.address.eq(channel), self.load.value.eq(pixel)]
        m.d.sync += self.load.valid.eq(valid & (self.target >= LoadTarget.TABLE))
        return m

    def _slots(self, m, valid):
        """Slot and channel of the next POSITION or PIXEL item, by counting."""
        shape = self.config.shape
        line = shape.patch_size * shape.channels
        slot, channel = Signal(16), Signal(16)
        column, line_offset, first_slot, first_channel = Signal(16), Signal(16), Signal(16), Signal(16)
        pixels = self.target == LoadTarget.PIXEL
        token, index = Signal(16), Signal(16)
        m.d.comb += [
            slot.eq(Mux(pixels, first_slot + column, token)),
            channel.eq(Mux(pixels, first_channel + line_offset, index)),
        ]
        with m.If(valid):
            with m.If(index == shape.embed_dim - 1):
                m.d.sync += [index.eq(0), token.eq(token + 1)]
            with m.Else():
                m.d.sync += index.eq(index + 1)
            m.d.sync += line_offset.eq(line_offset + 1)
            with m.If(line_offset == line - 1):
                m.d.sync += [line_offset.eq(0), column.eq(column + 1)]
                with m.If(column == shape.grid - 1):
                    m.d.sync += [column.eq(0), first_channel.eq(first_channel + line)]
                    with m.If(first_channel == shape.patch_dim - line):
                        m.d.sync += [first_channel.eq(0), first_slot.eq(first_slot + shape.grid)]
        with m.If(self.start):
            m.d.sync += [token.eq(0), index.eq(0), line_offset.eq(0), column.eq(0), first_channel.eq(0), first_slot.eq(1)]
        return slot, channel
