"""Scatters an image to the rows' activation memories: patches are tokens, and memory holds lines of pixels."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory

from model.graph import DeitShape
from rtl.bus.axi import DATA_BITS
from rtl.config import AcceleratorConfig
from rtl.cost import Cost
from rtl.pixel_serial import PixelSerial, scatterer_members
from rtl.row_bus import CHANNEL_BITS, LANES, PASS_BITS, LoadKind
from rtl.tech.memory_cost import memory

#: Tokens of one grid row that lie in one pass. ``turn``: lane of the grid row's first token, had it been in this pass.
#: ``final``: no more parts in this grid row.
Part = data.StructLayout({"turn": 4, "pass_index": PASS_BITS, "group_0": 4, "group_1": 4, "lanes": LANES, "upper": LANES, "final": 1})


def pixel_turn(config: AcceleratorConfig) -> wiring.Component:
    """`PixelTurn` where it can be, else `PixelSerial`."""
    return PixelTurn(config) if is_turned(config) else PixelSerial(config)


def is_turned(config: AcceleratorConfig) -> bool:
    """Whether patch lines are whole beats and at most 16 patches lie side by side."""
    shape = config.shape
    return shape.patch_size * shape.channels % LANES == 0 and shape.grid <= LANES


def turn_cost(shape: DeitShape) -> Cost:
    """Of a `PixelTurn`: its banks; the rest hardly varies."""
    return LANES * memory(8, 2 << _place_bits(shape))


def _place_bits(shape: DeitShape) -> int:
    """Of a byte's place in a bank: patch column, and beat of the patch's line."""
    return 4 + max(1, (shape.patch_size * shape.channels // LANES - 1).bit_length())


def parts(config: AcceleratorConfig) -> list[dict[str, int]]:
    """The parts of all grid rows, in order."""
    found = []
    for grid_row in range(config.shape.grid):
        first = config.shape.first_patch + grid_row * config.shape.grid
        slots = range(first, first + config.shape.grid)
        for index in sorted({slot // config.rows for slot in slots}):
            rows = [slot - index * config.rows for slot in slots if slot // config.rows == index]
            group = rows[0] // LANES
            found.append(
                {
                    "turn": (first - index * config.rows) % LANES,
                    "pass_index": index,
                    "group_0": group,
                    "group_1": group + 1 & 15,
                    "lanes": sum(1 << row % LANES for row in rows),
                    "upper": sum(1 << row % LANES for row in rows if row // LANES != group),
                    "final": int(index == slots[-1] // config.rows),
                }
            )
    return found


def rotate_left(value, amount, step: int):
    """Bytes of ``value`` moved up by ``step`` * ``amount`` lanes (two bits of amount: one 4:1 multiplexer)."""
    turned = [Cat(value[DATA_BITS - 8 * step * count :], value[: DATA_BITS - 8 * step * count]) if count else value for count in range(4)]
    return Mux(amount[1], Mux(amount[0], turned[3], turned[2]), Mux(amount[0], turned[1], turned[0]))


class PixelTurn(wiring.Component):
    """A corner turn: beats of 16 bytes of one patch line come in, beats of one byte of each patch of a grid row go out.

    Byte x of the line of patch column j lies in bank (x + j) % 16, so that both the 16 bytes of a beat and byte x of all patches lie in
    different banks. Two image lines are held: one is written while the other is read.
    DeiT at 224: 1,260 LUT (512 of them memory), 1,097 FF (`rtl.flow.estimate`).

    Members
    -------
    i : stream of 16 bytes, the image as (y, x, channel)        image : slot that it belongs to
    start : a new image begins        clear : forgets everything        hold : no bytes are read; those on their way come out
    o : LoadBus        idle : nothing is left

    Timing
    ------
    A beat per cycle in, but one cycle after each line, until two lines are held. Each image line comes out in (bytes of a patch line) x
    (parts of the grid row) cycles without hold. DeiT at 224: 12,288 cycles with 66 rows, 13,056 with 50, and about 130 to begin and end.
    """

    item_bits = DATA_BITS

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        shape = config.shape
        self.line = shape.patch_size * shape.channels
        self.columns = shape.grid
        super().__init__(scatterer_members(DATA_BITS))

    def elaborate(self, platform):
        m = Module()
        beats, place_bits = self.line // LANES, _place_bits(self.config.shape)
        owned, readable = Signal(2), Signal(2)  # per line: written or being read; whole and in the banks
        release = Signal(2)
        banks = [Memory(shape=8, depth=2 << place_bits, init=[]) for _ in range(LANES)]
        for index, bank in enumerate(banks):
            m.submodules[f"bank_{index}"] = bank
        written = self._write(m, banks, beats, place_bits, owned, release)
        moving = self._read(m, banks, place_bits, readable, release)
        m.d.sync += [
            readable.eq((readable | written) & ~release),
            self.idle.eq(~(owned.any() | moving | self.i.valid)),
        ]
        return ResetInserter(self.clear | self.start)(m)

    def _write(self, m, banks, beats, place_bits, owned, release):
        """Beats to banks, turned by their patch column. Returns the lines whose last beat is written in this cycle."""
        part, column, line = Signal(place_bits - 4), Signal(4), Signal()
        part_last, column_last = Signal(init=beats == 1), Signal(init=self.columns == 1)  # they follow their counters
        take, mask = Signal(), Signal(2)  # mask: the line that ends with what is taken
        m.d.comb += [
            take.eq(self.i.valid & self.i.ready),
            mask.eq(Mux(take & part_last & column_last, Cat(~line, line), 0)),
        ]
        m.d.sync += [
            self.i.ready.eq(~Mux(line, owned[1], owned[0]) & ~(take & part_last & column_last)),
            owned.eq((owned & ~release) | mask),
        ]
        with m.If(take):
            m.d.sync += [part.eq(Mux(part_last, 0, part + 1)), part_last.eq(part == (beats - 2) % beats)]
            with m.If(part_last):
                m.d.sync += [column.eq(Mux(column_last, 0, column + 1)), column_last.eq(column == (self.columns - 2) % self.columns)]
                m.d.sync += line.eq(line ^ column_last)
        stages = data.StructLayout({"bytes": DATA_BITS, "valid": 1, "place": place_bits + 1, "lines": 2})
        one, two, three = (Signal(stages, name=f"write_{index}") for index in range(3))
        m.d.sync += [
            one.bytes.eq(self.i.payload),
            one.valid.eq(take),
            one.place.eq(Cat(column, part, line)),
            one.lines.eq(mask),
            two.eq(one),
            two.bytes.eq(rotate_left(one.bytes, one.place[:2], 1)),
            three.eq(two),
            three.bytes.eq(rotate_left(two.bytes, two.place[2:4], 4)),
        ]
        for index, bank in enumerate(banks):
            port = bank.write_port()
            m.d.comb += [port.addr.eq(three.place), port.data.eq(three.bytes.word_select(index, 8)), port.en.eq(three.valid)]
        return three.lines

    def _read(self, m, banks, place_bits, readable, release):
        """Banks to the load bus, turned so that every patch's byte finds its row's lane. Returns whether anything is on its way."""
        shape = self.config.shape
        rows = parts(self.config)
        x, line, patch_line, base = Signal(range(self.line)), Signal(), Signal(range(shape.patch_size)), Signal(range(len(rows)))
        channel, first_channel, next_channel = Signal(CHANNEL_BITS), Signal(CHANNEL_BITS), Signal(CHANNEL_BITS)
        at, next_at, next_base = Signal(range(len(rows))), Signal(range(len(rows))), Signal(range(len(rows)))
        read, ready, x_ends, finish, leaving = Signal(), Signal(), Signal(), Signal(), Signal(2)
        part, final, last_line = Signal(Part), Signal(), Signal()
        table = Array(Const(Part.const(row).as_bits(), Part.size) for row in rows)
        m.d.comb += [
            part.eq(table[at]),
            read.eq(ready & ~self.hold),
            finish.eq(read & x_ends & final),
            release.eq(leaving),
        ]
        # These change when a part or a line ends, and are needed when the next one does, at least 16 cycles later: `next` is after a part.
        m.d.sync += [
            final.eq(part.final),
            last_line.eq(patch_line == shape.patch_size - 1),
            next_base.eq(at + 1),
            next_at.eq(Mux(final & ~last_line, base, next_base)),
            next_channel.eq(Mux(final, Mux(last_line, 0, first_channel + self.line), first_channel)),
        ]
        m.d.sync += [
            ready.eq(Mux(line ^ finish, readable[1], readable[0])),
            leaving.eq(Mux(finish, Cat(~line, line), 0)),  # a line is free when its last bytes have left the banks
        ]
        with m.If(read):
            m.d.sync += [x.eq(Mux(x_ends, 0, x + 1)), x_ends.eq(x == self.line - 2), channel.eq(Mux(x_ends, next_channel, channel + 1))]
            with m.If(x_ends):
                m.d.sync += at.eq(next_at)
        with m.If(finish):
            m.d.sync += [line.eq(~line), first_channel.eq(next_channel), patch_line.eq(Mux(last_line, 0, patch_line + 1))]
            with m.If(last_line):
                m.d.sync += base.eq(next_base)
        return self._turn(m, banks, place_bits, read, Cat(x, Const(0, 4))[: place_bits + 8], line, channel, part)

    def _turn(self, m, banks, place_bits, read, x, line, channel, part):
        """The read pipeline: places, bytes, two quarters of the turn. What goes with a beat follows it."""
        beside = data.StructLayout({"valid": 1, "channel": CHANNEL_BITS, "part": Part, "amount": 4})
        one, two, three, four = (Signal(beside, name=f"read_{index}") for index in range(4))
        places = [Signal(4, name=f"place_{index}") for index in range(LANES)]
        high = Signal(place_bits - 4 + 1)
        bytes_2, bytes_3, bytes_4 = Signal(DATA_BITS), Signal(DATA_BITS), Signal(DATA_BITS)
        ports = [bank.read_port(domain="comb") for bank in banks]
        m.d.sync += [
            one.valid.eq(read),
            one.channel.eq(channel),
            one.part.eq(part),
            one.amount.eq(x[:4]),
            high.eq(Cat(x[4:place_bits], line)),
            *(place.eq(index - x[:4]) for index, place in enumerate(places)),
            two.eq(one),
            two.amount.eq(one.part.turn - one.amount),
            three.eq(two),
            four.eq(three),
            bytes_2.eq(Cat(port.data for port in ports)),
            bytes_3.eq(rotate_left(bytes_2, two.amount[:2], 1)),
            bytes_4.eq(rotate_left(bytes_3, three.amount[2:], 4)),
        ]
        for place, port in zip(places, ports, strict=True):
            m.d.comb += port.addr.eq(Cat(place, high))
        m.d.comb += [
            self.o.valid.eq(four.valid),
            self.o.kind.eq(LoadKind.PIXEL),
            self.o.group_0.eq(four.part.group_0),
            self.o.group_1.eq(four.part.group_1),
            self.o.lanes.eq(four.part.lanes),
            self.o.upper.eq(four.part.upper),
            self.o.token.image.eq(self.image),
            self.o.token.pass_index.eq(four.part.pass_index),
            self.o.token.address.eq(four.channel),
            self.o.data.eq(bytes_4),
        ]
        return one.valid | two.valid | three.valid | four.valid
