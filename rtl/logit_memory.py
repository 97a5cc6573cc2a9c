"""The logits of the images in flight, written by rows 0 and 1, read by STORE."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.row_bus import CHANNEL_BITS
from rtl.units.protocol import narrow

#: What row 0 writes in this cycle. ``add``: it is row 1, one cycle later, and its value is added to what is there.
LogitWrite = data.StructLayout({"valid": 1, "add": 1, "image": 1, "address": CHANNEL_BITS})


class LogitMemory(wiring.Component):
    """Two images of s16 logits.

    Members
    -------
    i : LogitWrite        value_0, value_1 : 16 bits, of row 0 in the cycle of ``i``, of row 1 in the cycle after it
    read_address : {index: CHANNEL_BITS, image: 1}        read_value : one cycle later; not while logits are written

    Timing
    ------
    A write of cycle t is in memory at t + 4. An address comes again after 4 or more cycles.
    """

    def __init__(self, classes: int):
        self.index_bits = max(1, ceil_log2(classes))
        super().__init__(
            {
                "i": In(LogitWrite),
                "value_0": In(16),
                "value_1": In(16),
                "read_address": In(CHANNEL_BITS + 1),
                "read_value": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=16, depth=2 << self.index_bits, init=[])
        write, read = memory.write_port(), memory.read_port(domain="sync")
        given, summed, written = Signal(LogitWrite), Signal(LogitWrite), Signal(LogitWrite)
        first, total = Signal(16), Signal(signed(17))
        m.d.sync += [given.eq(self.i), summed.eq(given), written.eq(summed), first.eq(self.value_0)]
        value = Mux(given.add, self.value_1, first).as_signed()
        m.d.sync += total.eq(value + Mux(given.add, read.data.as_signed(), 0))
        stored = Signal(16)
        m.d.sync += stored.eq(narrow(m, total, signed(16), name="saturated"))
        m.d.comb += [
            read.addr.eq(Mux(self.i.valid, self._place(self.i.image, self.i.address), self._place(self.read_address[-1], self.read_address))),
            read.en.eq(1),
            write.addr.eq(self._place(written.image, written.address)),
            write.data.eq(stored),
            write.en.eq(written.valid),
            self.read_value.eq(read.data),
        ]
        return m

    def _place(self, image, index):
        return index[: self.index_bits] | (image << self.index_bits)
