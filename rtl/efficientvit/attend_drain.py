"""`AttendDrain`: reads the sums of a head that is complete and puts them, requantized, into the state memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.efficientvit.attend_command import COLUMN_BITS, AttendConfig, command_layout
from rtl.efficientvit.state_memory import CHUNK, CHUNKS, LANES, write_layout
from rtl.units.linear_attention import LinearAttention
from rtl.units.outer_product import ReadLayout
from rtl.units.protocol import delay

#: Of four values: which four of a lane's 32, which lanes have them, which lanes may be cleared, whether they are.
PlaceLayout = data.StructLayout({"chunk": range(CHUNKS), "has": LANES, "written": LANES, "clear": 1})


class AttendDrain(wiring.Component):
    """Four values per cycle: the sums of K, d / 4 cycles, then the columns of S, d / 4 cycles each. The first four values of a word
    clear the rest of what the head writes of it, so that nothing is left of what was there.

    Parameters
    ----------
    config : AttendConfig        unit : the `LinearAttention` that is read

    Members
    -------
    start : In(1), the sums of ``head`` are complete. Not before the last head's are all read
    head : In(command_layout), sampled with start
    read : Out(ReadLayout); multiplier, shift : Out, as ``unit.OFFSETS`` says; values : In, ``unit.latency`` cycles after read
    write : Out(write_layout), to the state memory
    done : Out(1), the state may be read in this cycle

    Timing
    ------
    Requests begin a cycle after start and take (d + 1) d / 4 cycles; done follows the last one by ``unit.latency`` + 2 cycles.
    """

    def __init__(self, config: AttendConfig, unit: LinearAttention):
        self.config, self.unit = config, unit
        super().__init__(
            {
                "start": In(1),
                "head": In(command_layout(config)),
                "read": Out(ReadLayout),
                "multiplier": Out(integer.MULTIPLIER_BITS),
                "shift": Out(2),
                "values": In(data.ArrayLayout(signed(8), CHUNK)),
                "write": Out(write_layout(config.state)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        head = Signal(self.head.shape(), reset_less=True)
        running, total = Signal(), Signal(reset_less=True)
        part, column = Signal(3, reset_less=True), Signal(5, reset_less=True)
        # a head of 16 channels has half of the parts and of the columns: the highest bit stays 0
        part_end, column_end = ((Cat(count[:-1], count[-1] | ~head.wide)).all() for count in (part, column))
        end = running & part_end & column_end
        m.d.sync += part.eq(Mux(part_end, 0, part + 1))
        with m.If(part_end):
            m.d.sync += [total.eq(0), column.eq(Mux(total, 0, column + 1))]
        with m.If(end):
            m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [running.eq(1), total.eq(1), part.eq(0), column.eq(0), head.eq(self.head)]
        later = self.unit.OFFSETS["multiplier"]
        chosen = Cat(Mux(total, head.sum_multiplier, head.state_multiplier), Mux(total, head.sum_shift, head.state_shift))
        m.d.comb += [
            Cat(self.read.part, self.read.column, self.read.total).eq(Cat(part, column, total)),
            Cat(self.multiplier, self.shift).eq(delay(m, chosen, later, name="requantizer")),
            self.done.eq(delay(m, end, self.unit.latency + 2, name="end", reset=True)),
        ]
        self._write(m, head, running, total, part, column)
        return m

    def _write(self, m, head, running, total, part, column):
        latency = self.unit.latency
        word, odd = Mux(head.wide, head.place, head.place >> 1), head.place[0] & ~head.wide
        offset, address = Signal(9, reset_less=True), Signal.like(head.base, name="address", reset_less=True)
        m.d.sync += [offset.eq(Mux(total, word, Cat(column[:COLUMN_BITS], word + 1))), address.eq(head.base + offset)]

        place = Signal(PlaceLayout)
        lane = Mux(head.wide, column[-1], odd)
        m.d.comb += [
            place.chunk.eq(Cat(part[:2], part[2] | odd)),
            place.has.eq(Mux(head.wide & total, 0b11, Cat(~lane, lane))),
            place.written.eq(place.has | Cat(0, ~head.wide)),  # an even head of 16 clears lane 1 too
            place.clear.eq(part == 0),
        ]
        enable = delay(m, running, latency, name="enable", reset=True)
        place = data.View(PlaceLayout, delay(m, place.as_value(), latency, name="place"))
        self._merge(m, enable, delay(m, address, latency - 2, name="address"), place)

    def _merge(self, m, enable, address, place):
        """The values in their chunk; 0 elsewhere."""
        m.d.sync += [self.write.address.eq(address), self.write.enable.eq(0)]
        for lane in range(LANES):
            for chunk in range(CHUNKS):
                here = place.has[lane] & (place.chunk == chunk)
                m.d.sync += self.write.enable[lane * CHUNKS + chunk].eq(enable & (here | (place.written[lane] & place.clear)))
                for k in range(CHUNK):
                    m.d.sync += self.write.data[lane][chunk * CHUNK + k].eq(Mux(here, self.values[k], 0))
