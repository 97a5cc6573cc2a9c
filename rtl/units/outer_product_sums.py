"""`TileSums`: running sums of the elements of a matrix that comes tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.shapes import wrap
from rtl.units.protocol import delay


class TileSums(wiring.Component):
    """A sum for each element of each tile, and a copy of those that are complete.

    Two memories of LUTs, a word per tile: ``running`` is read, added to and written; ``done`` gets what the last terms gave. The next
    matrix so begins while this one is read.

    Parameters
    ----------
    terms : whose shapes the elements of a tile have
    bits : of a sum, signed; the caller proves that no sum needs more
    slots : tiles of a matrix, a power of two

    Members
    -------
    slot : In, cycle 0        enable, first, last : In(1), cycle 0: there is a tile; it begins, ends its sums
    terms : In(the elements' bits, one after the other), cycle 1
    read : In, a slot        finished : Out(elements x signed ``bits``), the slot's complete sums, in the same cycle

    Timing
    ------
    ::

        cycle    0                  1                    2
                 slot: running sum  terms: plus running  both memories have it

    Hence a slot may come again after 2 cycles, and `read` have it after 2. A tile every cycle.
    """

    def __init__(self, terms: Sequence[Value], *, bits: int, slots: int):
        self.shapes, self.bits, self.slots = [term.shape() for term in terms], bits, slots
        sums = data.ArrayLayout(signed(bits), len(terms))
        super().__init__(
            {
                "slot": In(range(slots)),
                "enable": In(1),
                "first": In(1),
                "last": In(1),
                "terms": In(sum(shape.width for shape in self.shapes)),
                "read": In(range(slots)),
                "finished": Out(sums),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = len(self.shapes)
        running, write = self._memory(m, "running", self.slot)
        done, keep = self._memory(m, "done", self.read)
        before, after = (Signal(data.ArrayLayout(signed(self.bits), count), name=name) for name in ("before", "after"))
        enable, last = delay(m, self.enable, 1, name="enable", reset=True), delay(m, self.last, 1, name="last")
        begun = Signal(count * self.bits, name="begun", reset_less=True)
        m.d.sync += begun.eq(Mux(self.first, 0, running))
        at = 0
        for index, shape in enumerate(self.shapes):
            term = self.terms[at : at + shape.width]
            total = before[index] + (term.as_signed() if shape.signed else term)
            m.d.comb += after[index].eq(wrap(total, signed(self.bits)))
            at += shape.width
        slot = delay(m, self.slot, 1, name="slot")
        m.d.comb += [
            before.eq(begun),
            *(port.addr.eq(slot) for port in (write, keep)),
            *(port.data.eq(after) for port in (write, keep)),
            write.en.eq(enable),
            keep.en.eq(enable & last),
            self.finished.eq(done),
        ]
        return m

    def _memory(self, m, name, address):
        """The word at ``address``, and the write port."""
        memory = Memory(shape=len(self.shapes) * self.bits, depth=self.slots, init=[], attrs={"ram_style": "distributed"})
        m.submodules[name] = memory
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += read.addr.eq(address)
        return read.data, write
