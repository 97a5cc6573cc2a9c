"""`WindowFormer`: an image's bytes to codes, and these to the 3 x 3 windows, two pixels apart, that the stem's convolution multiplies."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, BEAT_BYTES
from rtl.cost import Cost
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.row_bus import ADDRESS_BITS, ROW_BITS, window_lane
from rtl.tech.memory_cost import memory
from rtl.units.protocol import delay

#: Columns of the image that are stored together: two windows step over as many.
COLUMNS = 4
LINE_BANKS = 4
#: Lines that are kept; three are read, the others arrive meanwhile.
LINES = 2 * LINE_BANKS
#: From a read of the lines to its window: cycles.
LATENCY = 3


def start_layout(bits: int) -> data.StructLayout:
    return data.StructLayout(
        {
            "first": 1,
            "lines": 9,
            "row": ROW_BITS,
            "address": ADDRESS_BITS,
            "region": ADDRESS_BITS,
            "region_end": ADDRESS_BITS,
            "pads": data.ArrayLayout(bits, 3),
        }
    )


class WindowFormer(wiring.Component):
    """
    Parameters
    ----------
    config : EfficientVitMachine

    Members
    -------
    start, job : begins ``job.lines`` output lines, the image's first ones if ``job.first``; only when idle. ``job`` is held until then
    i_beats : the image's bytes (y, x, channel)
    o : window_lane(bits); code (ky * 3 + kx) * channels + channel of the window
    idle : everything has left        clear : abandons everything

    Timing
    ------
    A window per cycle; a line of them begins when the lines under it have come. Lines arrive at 4 columns per cycle.
    From a read of the lines to its window on ``o``: `LATENCY` cycles.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(start_layout(config.bits)),
                "i_beats": In(stream.Signature(BEAT)),
                "o": Out(window_lane(config.bits)),
                "idle": Out(1),
                "clear": In(1),
            }
        )

    @property
    def _groups(self) -> int:
        return self.config.image_size // COLUMNS

    @property
    def _group_bits(self) -> int:
        return COLUMNS * self.config.channels * self.config.bits

    def elaborate(self, platform):
        m = Module()
        # of output; of input; lines that are kept, and one: LINES says that there is no room, by a bit of its own
        line, written, ahead = Signal(2), Signal(range(LINES)), Signal(range(LINES + 1), init=1)
        writes = self._banks(m)
        begins, group_valid, complete, read = Signal(), Signal(), Signal(), Signal()
        m.d.comb += begins.eq(self.start & self.job.first)
        group = self._groups_of(m, begins, ~ahead[-1], group_valid)
        self._fill(m, begins, group_valid, group, written, complete, writes)
        self._read(m, line, ahead, read)
        m.d.sync += ahead.eq(ahead + complete - (read << 1))
        with m.If(begins | self.clear):
            m.d.sync += ahead.eq(1)
        return m

    def _banks(self, m):
        """Line l is in bank l % 4; two lines each."""
        self._reads, writes = [], []
        for bank in range(LINE_BANKS):
            m.submodules[f"lines_{bank}"] = memory = Memory(shape=unsigned(self._group_bits), depth=2 * self._groups, init=[])
            writes.append(memory.write_port())
            self._reads.append(memory.read_port())
        return writes

    def _groups_of(self, m, begins, room, valid):
        """Cuts beats, of whose bytes the upper bits are the codes, into groups of columns. What is left of a beat waits: ``left`` units of
        a column of one channel each."""
        units, bits = self.config.channels, self.config.bits
        beat = Cat(self.i_beats.payload.data.word_select(pixel, 8)[8 - bits :] for pixel in range(BEAT_BYTES))
        left, held, unit = Signal(2), Signal(bits * (BEAT_BYTES - COLUMNS), reset_less=True), bits * COLUMNS
        group = Signal(self._group_bits)
        takes = Signal()
        m.d.comb += [self.i_beats.ready.eq(room & takes), valid.eq(room & (self.i_beats.valid | ~takes))]
        with m.Switch(left):
            for count in range(BEAT_BYTES // COLUMNS):
                with m.Case(count):
                    known = Cat(held[: unit * count], *([beat] if count < units else []))
                    m.d.comb += [takes.eq(count < units), group.eq(known[: len(group)])]
                    with m.If(valid):
                        m.d.sync += [left.eq(len(known) // unit - units), held.eq(known[len(group) :])]
        with m.If(self.clear | begins):
            m.d.sync += left.eq(0)
        return group

    def _fill(self, m, begins, valid, group, written, complete, writes):
        place, last = Signal(range(self._groups)), self._groups - 1
        for bank, port in enumerate(writes):
            m.d.comb += [
                port.addr.eq(place + Mux(written[2], self._groups, 0)),
                port.data.eq(group),
                port.en.eq(valid & (written[:2] == bank)),
            ]
        m.d.comb += complete.eq(valid & (place == last))
        with m.If(valid):
            m.d.sync += place.eq(Mux(place == last, 0, place + 1))
        with m.If(complete):
            m.d.sync += written.eq(written + 1)
        with m.If(begins | self.clear):
            m.d.sync += [place.eq(0), written.eq(0)]

    def _read(self, m, line, ahead, read):
        """Steps over a line's groups, two cycles each, when its lines are there: two more than were read before."""
        left = Signal(signed(10), init=-1)  # lines, less one
        running, group, second, last, top = Signal(), Signal(range(self._groups)), Signal(), Signal(), Signal()
        lane, pads = Signal(self.o.shape()), Signal(self.job.pads.shape())
        m.d.comb += read.eq(running & second & last)
        m.d.sync += last.eq(group == self._groups - 1)
        for bank, port in enumerate(self._reads):
            # Of lines 2y - 1, 2y and 2y + 1 bank 3 holds the first if y is even, the last if it is odd.
            half = Mux(line[0], line[1], ~line[1]) if bank == 3 else line[1]
            m.d.comb += port.addr.eq(group + Mux(half, self._groups, 0))
        with m.If(running):
            m.d.sync += second.eq(~second)
            with m.If(second):
                m.d.sync += group.eq(group + 1)
        with m.If(read):
            m.d.sync += [group.eq(0), running.eq(0), top.eq(0), line.eq(line + 1), left.eq(left - 1)]
        with m.Elif(~left[-1] & ~running & (ahead > 2)):
            m.d.sync += running.eq(1)
        with m.If(self.start):
            m.d.sync += [left.eq(self.job.lines - 1), pads.eq(self.job.pads)]
            with m.If(self.job.first):
                m.d.sync += [line.eq(0), top.eq(1)]
        with m.If(self.clear):
            m.d.sync += [left.eq(-1), running.eq(0), second.eq(0), group.eq(0), line.eq(0)]
        busy = self._emit(m, lane, pads, running, second, group == 0, line[0], top)
        m.d.comb += self.idle.eq(left[-1] & ~busy)

    def _emit(self, m, lane, pads, running, second, at_left, odd, top):
        """Windows from what was read the cycle before. Returns whether one is still on its way."""
        channels, pixel = self.config.channels, self.config.channels * self.config.bits
        pad = Cat(pads[channel] for channel in range(channels))
        odd, top = delay(m, odd, 1, name="odd"), delay(m, top, 1, name="top")
        read, valid = delay(m, running, 1, name="read", reset=True), delay(m, running, 2, name="valid", reset=True)
        phase, left_edge = (delay(m, value, 2, name=name) for value, name in ((second, "phase"), (at_left, "edge")))
        banks = [port.data for port in self._reads]
        lines = [
            Mux(top, pad.replicate(COLUMNS), Mux(odd, banks[1], banks[3])),
            Mux(odd, banks[2], banks[0]),
            Mux(odd, banks[3], banks[1]),
        ]
        windows = []
        for number, line in enumerate(lines):
            columns = delay(m, line, 1, name=f"columns_{number}")
            column = [columns.word_select(index, pixel) for index in range(COLUMNS)]
            before = Signal(pixel, name=f"before_{number}", reset_less=True)
            with m.If(valid & phase):
                m.d.sync += before.eq(column[-1])
            left = Mux(left_edge, pad, before)
            windows.append(Mux(phase, Cat(column[1:]), Cat(left, column[0], column[1])))
        window = Cat(windows)
        m.d.sync += [
            self.o.valid.eq(valid),
            self.o.row.eq(lane.row),
            self.o.address.eq(lane.address),
            self.o.data.eq(Cat(window, Const(0, len(self.o.data) - len(window)))),
        ]
        self._place(m, lane, valid)
        return read | valid | self.o.valid

    def _place(self, m, lane, valid):
        """The next window's row, and its address: another one only after as many windows as there are rows."""
        last, wraps, onward = Signal(reset_less=True), Signal(reset_less=True), Signal.like(lane.address, reset_less=True)
        rows = self.config.rows
        m.d.sync += [wraps.eq(lane.address == self.job.region_end), onward.eq(Mux(wraps, self.job.region, lane.address + 1))]
        with m.If(valid):
            m.d.sync += [lane.row.eq(Mux(last, 0, lane.row + 1)), last.eq(lane.row == rows - 2)]
            with m.If(last):
                m.d.sync += lane.address.eq(onward)
        with m.If(self.start):
            m.d.sync += [lane.row.eq(self.job.row), last.eq(self.job.row == rows - 1), lane.address.eq(self.job.address)]


def window_cost(config: EfficientVitMachine) -> Cost:
    """Of a `WindowFormer`: lines in memories, each of two; windows and what is cut from beats by the bits of a column."""
    column = config.channels * config.bits
    lines = LINE_BANKS * memory(COLUMNS * column, 2 * (config.image_size // COLUMNS))
    return lines + Cost(priced_lut={"column bits": column}, priced_ff={"column bits": column})
