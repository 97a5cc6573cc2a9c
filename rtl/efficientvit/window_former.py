"""`WindowFormer`: an image's bytes to the 3 x 3 windows, two pixels apart, that the stem's convolution multiplies."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, BEAT_BYTES
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.row_bus import ADDRESS_BITS, ROW_BITS, WINDOW_BYTES, WindowLane
from rtl.units.protocol import delay

#: Columns of the image that are stored together: two windows step over as many.
COLUMNS = 4
LINE_BANKS = 4
#: Lines that are kept; three are read, the others arrive meanwhile.
LINES = 2 * LINE_BANKS
Start = data.StructLayout(
    {
        "first": 1,
        "lines": 9,
        "row": ROW_BITS,
        "address": ADDRESS_BITS,
        "region": ADDRESS_BITS,
        "region_end": ADDRESS_BITS,
        "pads": data.ArrayLayout(8, 3),
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
    o : WindowLane; byte (ky * 3 + kx) * channels + channel of the window
    idle : everything has left        clear : abandons everything

    Timing
    ------
    A window per cycle; a line of them begins when the lines under it have come. Lines arrive at 4 columns per cycle.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(Start),
                "i_beats": In(stream.Signature(BEAT)),
                "o": Out(WindowLane),
                "idle": Out(1),
                "clear": In(1),
            }
        )

    @property
    def _groups(self) -> int:
        return self.config.image_size // COLUMNS

    @property
    def _group_bytes(self) -> int:
        return COLUMNS * self.config.channels

    def elaborate(self, platform):
        m = Module()
        line, written = Signal(range(self.config.image_size)), Signal(range(self.config.image_size + 1))  # of output; of input, complete
        writes = self._banks(m)
        begins = Signal()
        m.d.comb += begins.eq(self.start & self.job.first)
        group_valid, group = self._groups_of(m, begins, (written < 2 * line + LINES - 1))
        self._fill(m, begins, group_valid, group, written, writes)
        self._read(m, line, written)
        return m

    def _banks(self, m):
        """Line l is in bank l % 4; two lines each."""
        self._reads, writes = [], []
        for bank in range(LINE_BANKS):
            m.submodules[f"lines_{bank}"] = memory = Memory(shape=unsigned(8 * self._group_bytes), depth=2 * self._groups, init=[])
            writes.append(memory.write_port())
            self._reads.append(memory.read_port())
        return writes

    def _groups_of(self, m, begins, room):
        """Cuts beats into groups of columns."""
        size = self._group_bytes
        limit = BEAT_BYTES + size - COLUMNS
        held, count = Signal(8 * (limit + COLUMNS)), Signal(range(limit + COLUMNS + 1))
        emit, rest = Signal(), Signal(range(limit + 1))
        take = Signal()
        remaining = Signal.like(held)
        m.d.comb += [
            emit.eq((count >= size) & room),
            rest.eq(count - Mux(emit, size, 0)),
            remaining.eq(Mux(emit, held >> 8 * size, held)),
            self.i_beats.ready.eq(rest < size),
            take.eq(self.i_beats.ready & self.i_beats.valid),
        ]
        shifted = Signal.like(held)
        with m.Switch(rest):
            for bytes_left in range(0, size, COLUMNS):
                with m.Case(bytes_left):
                    m.d.comb += shifted.eq(Cat(remaining[: 8 * bytes_left], self.i_beats.payload.data))
            with m.Default():
                m.d.comb += shifted.eq(remaining)
        m.d.sync += [held.eq(Mux(take, shifted, remaining)), count.eq(rest + Mux(take, BEAT_BYTES, 0))]
        with m.If(self.clear | begins):
            m.d.sync += count.eq(0)
        return emit, held[: 8 * size]

    def _fill(self, m, begins, valid, group, written, writes):
        place = Signal(range(self._groups))
        for bank, port in enumerate(writes):
            m.d.comb += [
                port.addr.eq(place + Mux(written[2], self._groups, 0)),
                port.data.eq(group),
                port.en.eq(valid & (written[:2] == bank)),
            ]
        with m.If(valid):
            m.d.sync += place.eq(place + 1)
            with m.If(place == self._groups - 1):
                m.d.sync += [place.eq(0), written.eq(written + 1)]
        with m.If(begins | self.clear):
            m.d.sync += [place.eq(0), written.eq(0)]

    def _read(self, m, line, written):
        """Steps over a line's groups, two cycles each, when its lines are there."""
        left, running, group, second = Signal(9), Signal(), Signal(range(self._groups)), Signal()
        lane = Signal(WindowLane)
        pads = Signal(data.ArrayLayout(8, 3))
        ends_line = running & second & (group == self._groups - 1)
        for bank, port in enumerate(self._reads):
            # Of lines 2y - 1, 2y and 2y + 1 bank 3 holds the first if y is even, the last if it is odd.
            half = Mux(line[0], line[1], ~line[1]) if bank == 3 else line[1]
            m.d.comb += port.addr.eq(group + Mux(half, self._groups, 0))
        with m.If(running):
            m.d.sync += second.eq(~second)
            with m.If(second):
                m.d.sync += group.eq(group + 1)
        with m.If(ends_line):
            m.d.sync += [group.eq(0), running.eq(0), line.eq(line + 1), left.eq(left - 1)]
        with m.Elif((left != 0) & ~running & (written > 2 * line + 1)):
            m.d.sync += running.eq(1)
        with m.If(self.start):
            m.d.sync += [left.eq(self.job.lines), pads.eq(self.job.pads), lane.row.eq(self.job.row), lane.address.eq(self.job.address)]
            with m.If(self.job.first):
                m.d.sync += line.eq(0)
        with m.If(self.clear):
            m.d.sync += [left.eq(0), running.eq(0), second.eq(0), group.eq(0), line.eq(0)]
        busy = self._emit(m, lane, pads, running, second, group == 0, line)
        m.d.comb += self.idle.eq((left == 0) & ~busy)

    def _emit(self, m, lane, pads, running, second, at_left, line):
        """Windows from what was read the cycle before. Returns whether one is still on its way."""
        channels = self.config.channels
        pad = Cat(pads[channel] for channel in range(channels))
        odd, top = delay(m, line[0], 1, name="odd"), delay(m, line == 0, 1, name="top")
        valid, phase, left_edge = (
            delay(m, value, 1, name=name, reset=True) for value, name in ((running, "valid"), (second, "phase"), (at_left, "edge"))
        )
        banks = [port.data for port in self._reads]
        lines = [
            Mux(top, pad.replicate(COLUMNS), Mux(odd, banks[1], banks[3])),
            Mux(odd, banks[2], banks[0]),
            Mux(odd, banks[3], banks[1]),
        ]
        windows = []
        for number, columns in enumerate(lines):
            column = [columns[8 * channels * index : 8 * channels * (index + 1)] for index in range(COLUMNS)]
            before = Signal(8 * channels, name=f"before_{number}", reset_less=True)
            with m.If(valid & phase):
                m.d.sync += before.eq(column[-1])
            left = Mux(left_edge, pad, before)
            windows.append(Mux(phase, Cat(column[1:]), Cat(left, column[0], column[1])))
        window = Cat(windows)
        m.d.sync += [
            self.o.valid.eq(valid),
            self.o.row.eq(lane.row),
            self.o.address.eq(lane.address),
            self.o.data.eq(Cat(window, Const(0, 8 * WINDOW_BYTES - len(window)))),
        ]
        with m.If(valid):
            m.d.sync += lane.row.eq(lane.row + 1)
            with m.If(lane.row == self.config.rows - 1):
                m.d.sync += [
                    lane.row.eq(0),
                    lane.address.eq(Mux(lane.address == self.job.region_end, self.job.region, lane.address + 1)),
                ]
        return valid | self.o.valid
