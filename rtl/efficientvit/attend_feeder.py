"""`AttendFeeder`: takes commands and reads the words of their pixels, at the rate at which they are multiplied."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.attend_command import AttendConfig, command_layout
from rtl.efficientvit.key_value_memory import BANKS, read_layout
from rtl.units.linear_attention import word_layout


class AttendFeeder(wiring.Component):
    """Every 2 cycles a word of a head of 16 channels, every 4 cycles one of a head of 32: as long as their products take.

    Parameters
    ----------
    config : AttendConfig

    Members
    -------
    i : In(stream of command_layout), a head each
    read : Out(read_layout), the word to be read
    word : Out(word_layout), what it is, in the same cycle
    head : Out(command_layout), the head whose last step is being read or was read last

    Timing
    ------
    The first word is read a cycle after the command is taken. The next command is taken in the last cycle of the last word.
    The feeder waits before a head's last step until the one before began ``config.spacing(wide)`` cycles ago, wide as in the head before.
    It also waits ``config.late`` cycles between a head of 32 channels and one of 16, whose first step would else come before the other's
    tiles are through.
    """

    def __init__(self, config: AttendConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(command_layout(config))),
                "read": Out(read_layout(config.key_value)),
                "word": Out(word_layout(config.attention)),
                "head": Out(command_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.config.depth
        command = Signal(self.i.payload.shape(), reset_less=True)
        busy, tick, values, closing = Signal(), Signal(2), Signal(reset_less=True), Signal(reset_less=True)
        pixel = Signal(depth, init=1, reset_less=True)  # one-hot: which of the step
        left = Signal(len(command.pixels), reset_less=True)
        first, ends = Signal(reset_less=True), Signal(reset_less=True)  # the head's first, last step

        begin, pixel_end, step_end = pixel[0] & ~values, values | ~command.wide, pixel[-1]
        start, change = Signal(), Signal()
        close = _since(m, start, [self.config.spacing(bool(wide)) for wide in range(2)], command.wide, "close")
        changing = _since(m, change, [self.config.late + 1], 0, "changing")
        issue = busy & (tick == 0) & ~changing & ~(begin & ends & close)
        m.d.comb += start.eq(issue & begin & ends)
        tick_end = tick == Cat(1, command.wide)
        with m.If(issue):
            m.d.sync += [tick.eq(1), values.eq(command.wide & ~values), closing.eq(pixel_end & step_end & ends)]
            with m.If(pixel_end):
                m.d.sync += [pixel.eq(pixel.rotate_left(1)), left.eq(Mux(left == 0, 0, left - 1)), first.eq(first & ~step_end)]
        with m.Elif(tick != 0):
            m.d.sync += tick.eq(Mux(tick_end, 0, tick + 1))
        with m.If((tick == 1) & begin):
            m.d.sync += ends.eq(left <= depth)
        with m.If(start):
            m.d.sync += self.head.eq(command)

        payload, take = self.i.payload, self.i.ready & self.i.valid
        m.d.comb += [self.i.ready.eq(~busy | (closing & tick_end)), change.eq(take & command.wide & ~payload.wide)]
        with m.If(self.i.ready):
            m.d.sync += [busy.eq(self.i.valid), tick.eq(0), closing.eq(0), values.eq(0), pixel.eq(1), first.eq(1)]
            m.d.sync += [left.eq(payload.pixels), ends.eq(payload.pixels <= depth)]
        with m.If(take):  # else the command stays, for `change`
            m.d.sync += command.eq(payload)
        self._place(m, issue & pixel_end, command, values)
        m.d.comb += [
            self.word.pixel.eq(pixel & issue.replicate(depth)),
            self.word.wide.eq(command.wide),
            self.word.values.eq(values),
            self.word.live.eq(left != 0),
            self.word.go.eq(issue & pixel_end & step_end),
            self.word.first.eq(first),
            self.word.last.eq(ends),
        ]
        return m

    def _place(self, m, advance, command, values):
        """Where the pixel lies. A pass ends with its last row, in whatever bank that is."""
        address, bank, row = Signal(len(command.address), reset_less=True), Signal(range(BANKS)), Signal(range(self.config.rows + 1))
        pass_end = row == self.config.rows - 1
        with m.If(advance):
            m.d.sync += [row.eq(Mux(pass_end, 0, row + 1)), bank.eq(Mux(pass_end, 0, bank + 1))]
            with m.If(pass_end | (bank == BANKS - 1)):
                m.d.sync += address.eq(address + command.stride)
        with m.If(self.i.ready):
            m.d.sync += [address.eq(self.i.payload.address), bank.eq(0), row.eq(0)]
        m.d.comb += [self.read.bank.eq(bank), self.read.address.eq(Cat(address[0] | values, address[1:]))]


def _since(m, event, cycles, choice, name):
    """Whether ``event`` was less than ``cycles[choice]`` cycles ago. Not for less than 2 cycles."""
    short, counter = Signal(name=name), Signal(range(max(cycles)), name=f"{name}_cycles", reset_less=True)
    m.d.sync += counter.eq(counter - 1)
    with m.If(event):
        m.d.sync += [counter.eq(Array(count - 2 for count in cycles)[choice]), short.eq(1)]
    with m.Elif(counter == 0):
        m.d.sync += short.eq(0)
    return short
