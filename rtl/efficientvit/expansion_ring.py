"""The memory between a pointwise layer's results and the depthwise engine: 8 banks, so that a column of 7 lines is read in one cycle."""

from dataclasses import dataclass
from itertools import combinations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.cost import Cost
from rtl.efficientvit.depth_command import LINES, RING_ADDRESS
from rtl.tech.memory_cost import block_memory
from rtl.units.protocol import delay, require

BANKS = 8
#: Pixels of a group that is written at once.
PORTS = 4
WORD_CHANNELS = 32
HALF = WORD_CHANNELS // 2

#: Where a 32-channel word lies.
PLACE = data.StructLayout({"bank": 3, "address": RING_ADDRESS})
READ = data.StructLayout({"valid": 1, "place": PLACE})


def pitch(width: int) -> int:
    """Pixels from one line to the next: odd, so that pixels above each other lie in different banks."""
    return width | 1


def place(x: int, y: int, word: int, *, width: int, words: int, lines: int, base: int = 0) -> tuple[int, int]:
    """(bank, address) of a pixel's word, in a ring of ``lines`` lines (a multiple of 8, or all) of ``words`` words per pixel."""
    index = y % lines * pitch(width) + x
    return index % BANKS, base + index // BANKS * words + word


@dataclass(frozen=True, kw_only=True)
class ExpansionRingConfig:
    """
    Parameters
    ----------
    bits : of a code        depth : words per bank, at most 1024
    """

    bits: int = 8
    depth: int = 512

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")
        require(1 <= self.depth <= 1 << RING_ADDRESS, "depth must be 1..1024", self.depth, "use 512")

    def build(self) -> "ExpansionRing":
        return ExpansionRing(self)


class ExpansionRing(wiring.Component):
    """8 banks of one write and one read port, 4 writers and 7 readers on crossbars.

    Parameters
    ----------
    config : ExpansionRingConfig

    Members
    -------
    write : In(4 x {valid, place, data: 32 codes}): to distinct banks. 4 pixels that follow each other lie in distinct ones, see `place`
    read : In(7 x {valid, place}): from distinct banks        half : In(1): which 16 channels of all seven
    data : Out(7 x 16 codes); of a reader that was not valid, anything
    conflict : Out(1): two writers, or two readers, have met in a bank. Held until reset

    Timing
    ------
    Every port once per cycle. A write in cycle t is seen by reads in cycle t + 1 and later.
    Data follow a read by ``latency`` = 7 cycles.

    Resources, 8 bits, 512 deep, yosys, before place-and-route: 6,254 LUT, 8,569 FF, 32 BRAM36; at most 2 LUT levels.
    """

    #: decode, select, route, memory, its output register, half, route back
    latency = 7

    def __init__(self, config: ExpansionRingConfig):
        self.config = config
        self.word = data.ArrayLayout(config.bits, WORD_CHANNELS)
        write = data.StructLayout({"valid": 1, "place": PLACE, "data": self.word})
        super().__init__(
            {
                "write": In(data.ArrayLayout(write, PORTS)),
                "read": In(data.ArrayLayout(READ, LINES)),
                "half": In(1),
                "data": Out(data.ArrayLayout(data.ArrayLayout(config.bits, HALF), LINES)),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        writers, readers = list(self.write), list(self.read)
        to_write = _Choice(m, "write", [(port.valid, port.place.bank) for port in writers])
        to_read = _Choice(m, "read", [(port.valid, port.place.bank) for port in readers])
        with m.If(to_write.conflict | to_read.conflict):
            m.d.sync += self.conflict.eq(1)
        # in step with the choices, two cycles later
        words = [delay(m, port.data.as_value(), 2, name=f"data_{index}") for index, port in enumerate(writers)]
        targets = [delay(m, port.place.address, 2, name=f"target_{index}") for index, port in enumerate(writers)]
        sources = [delay(m, port.place.address, 2, name=f"source_{index}") for index, port in enumerate(readers)]
        half, halves = delay(m, self.half, 5, name="half"), []
        for bank in range(BANKS):
            m.submodules[f"bank_{bank}"] = memory = Memory(shape=self.word.size, depth=self.config.depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            chosen, wanted = to_write.chosen[bank], to_read.chosen[bank]
            m.d.sync += [
                write.en.eq(to_write.any[bank]),
                write.addr.eq(Array(targets)[chosen][: len(write.addr)]),
                write.data.eq(Array(words)[chosen]),
                read.addr.eq(Array(sources)[wanted][: len(read.addr)]),
            ]
            word = delay(m, read.data, 1, name=f"word_{bank}")
            kept = Signal(self.word.size // 2, name=f"half_{bank}", reset_less=True)
            m.d.sync += kept.eq(Mux(half, word[len(kept) :], word[: len(kept)]))
            halves.append(kept)
        for line, port in enumerate(readers):
            bank = delay(m, port.place.bank, self.latency - 1, name=f"bank_{line}")
            m.d.sync += self.data[line].eq(Array(halves)[bank])
        return m


def _two(bits: Value) -> Value:
    """Whether two bits or more are 1."""
    return Cat(first & second for first, second in combinations(bits, 2)).any()


class _Choice:
    """For every bank: whether a port wants it, and which, two cycles later. ``conflict``: some bank is wanted twice."""

    def __init__(self, m: Module, name: str, ports: list):
        self.any, self.chosen = Signal(BANKS, name=f"{name}_any"), []
        self.conflict = Signal(name=f"{name}_conflict")
        twice = Signal(BANKS, name=f"{name}_twice")
        for bank in range(BANKS):
            wants = Signal(len(ports), name=f"{name}_wants_{bank}")
            chosen = Signal(range(len(ports)), name=f"{name}_chosen_{bank}", reset_less=True)
            m.d.sync += [wants[index].eq(valid & (at == bank)) for index, (valid, at) in enumerate(ports)]
            # one port at most: a bit of its number is set if any port of such a number wants the bank
            bits = [[wants[index] for index in range(len(ports)) if index >> bit & 1] for bit in range(len(chosen))]
            m.d.sync += [
                self.any[bank].eq(wants.any()),
                chosen.eq(Cat(Cat(group).any() for group in bits)),
                twice[bank].eq(_two(wants[:4]) | _two(wants[4:]) | (wants[:4].any() & wants[4:].any())),
            ]
            self.chosen.append(chosen)
        m.d.sync += self.conflict.eq(twice.any())


def ring_cost(bits: int, depth: int) -> Cost:
    """Of an `ExpansionRing`: per bit of a word and bank, one LUT chooses among writers and half a one between halves; per bit that is
    read, three choose among banks."""
    word, read = WORD_CHANNELS * bits, LINES * HALF * bits
    own = Cost(
        lut=BANKS * word + BANKS * word // 2 + 3 * read,
        ff=PORTS * 2 * word + BANKS * (2 * word + word // 2) + read,
        priced_lut={"constant": 1, "address bits": bits_for(depth - 1)},
        priced_ff={"constant": 1, "address bits": bits_for(depth - 1)},
    )
    return own + BANKS * block_memory(word, depth)
