"""The logits of the images in flight, written by rows 0 and 1, read eight at a time by STORE."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.row_bus import CHANNEL_BITS
from rtl.units.protocol import delay, narrow

#: Logits side by side: a beat.
BANKS = 8
BANK_BITS = 3
#: Address of a beat: {beat of the image, image}.
BEAT_ADDRESS_BITS = CHANNEL_BITS - BANK_BITS + 1
#: What row 0 writes in this cycle. ``add``: it is row 1, one cycle later, and its value is added to what is there.
LogitWrite = data.StructLayout({"valid": 1, "add": 1, "image": 1, "address": CHANNEL_BITS})


class LogitMemory(wiring.Component):
    """Two images of s16 logits, in eight banks.

    Members
    -------
    i : LogitWrite        value_0, value_1 : 16 bits, of row 0 in the cycle of ``i``, of row 1 in the cycle after it
    read_address : {beat of the image, image}        read_value : eight logits, one cycle later; not while logits are written

    Timing
    ------
    A write of cycle t is in memory at t + 6. An address comes again after 6 or more cycles.
    """

    def __init__(self, classes: int):
        self.beat_bits = max(1, ceil_log2(-(-classes // BANKS)))
        super().__init__(
            {
                "i": In(LogitWrite),
                "value_0": In(16),
                "value_1": In(16),
                "read_address": In(BEAT_ADDRESS_BITS),
                "read_value": Out(16 * BANKS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked, given, chosen, summed, written = (Signal(LogitWrite, name=n) for n in ("asked", "given", "chosen", "summed", "written"))
        first, second = (delay(m, given, cycles, name="value") for given, cycles in ((self.value_0, 2), (self.value_1, 1)))
        value, old, stored, total = Signal(signed(16)), Signal(signed(16)), Signal(16), Signal(signed(17))
        m.d.sync += [asked.eq(self.i), given.eq(asked), chosen.eq(given), summed.eq(chosen), written.eq(summed)]
        words = self._banks(m, asked, written, stored)
        m.d.sync += [
            value.eq(Mux(given.add, second, first).as_signed()),
            old.eq(Array(words)[given.address[:BANK_BITS]].as_signed()),
            total.eq(value + Mux(chosen.add, old, 0)),
            stored.eq(narrow(m, total, signed(16), name="saturated")),
        ]
        m.d.comb += self.read_value.eq(Cat(words))
        return m

    def _banks(self, m, asked, written, stored):
        """The eight words of the beat that the cycle before asked for: of ``asked`` if it is valid, else of ``read_address``."""
        words = []
        beat, image = asked.address[BANK_BITS:], asked.image
        place = Mux(asked.valid, self._place(beat, image), self._place(self.read_address, self.read_address[-1]))
        for bank in range(BANKS):
            m.submodules[f"bank_{bank}"] = memory = Memory(shape=16, depth=2 << self.beat_bits, init=[])
            write, read = memory.write_port(), memory.read_port(domain="sync")
            m.d.comb += [
                read.addr.eq(place),
                read.en.eq(1),
                write.addr.eq(self._place(written.address[BANK_BITS:], written.image)),
                write.data.eq(stored),
                write.en.eq(written.valid & (written.address[:BANK_BITS] == bank)),
            ]
            words.append(read.data)
        return words

    def _place(self, beat, image):
        return Cat(beat[: self.beat_bits], image)
