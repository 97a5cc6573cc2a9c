"""`Collector`: words of results from the ends of the collection buses to the expansion ring, the key/value memory and the pool."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.efficientvit.array_sequencer import Emission
from rtl.efficientvit.config import BUSES, EfficientVitMachine
from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.row_feeder import delayed
from rtl.tech.memory_cost import shift_register_luts
from rtl.units.protocol import delay

#: Words on their way at the same time: a group every 3 cycles of up to 16 groups, a word every 16 cycles.
CONTEXTS = 3
GROUP_INTERVAL = 3
#: A `lines_left` that no pass of 64 pixels uses up.
ENDLESS = 31

_GROUP = {
    "last": 1,
    "first": 1,
    **{name: shape for name, shape in Emission.members.items() if name not in ("valid", "last")},
    "last_step": 1,
}
#: A group of a word: ``last`` of its word, ``last_step`` if the word is its step's last one.
_Group = data.StructLayout(_GROUP)


def ring_write(bits: int) -> data.StructLayout:
    return data.StructLayout({"valid": 1, "bank": 3, "address": 10, "data": bits * WORD_CHANNELS})


def group_write(bits: int) -> data.StructLayout:
    return data.StructLayout({"valid": BUSES, "address": 9, "data": data.ArrayLayout(bits * WORD_CHANNELS, BUSES)})


def pool_group(bits: int) -> data.StructLayout:
    """``word`` of the sums; ``begin``: of the image's first pass. ``last``: a strobe of its own, for a last group may have no pixels."""
    words = data.ArrayLayout(bits * WORD_CHANNELS, BUSES)
    return data.StructLayout({"valid": BUSES, "first": 1, "last": 1, "context": range(CONTEXTS), "word": 7, "begin": 1, "data": words})


class GroupWalk(wiring.Component):
    """A word's groups, one every `GROUP_INTERVAL` cycles: the first pixel's place in the ring, and what it takes to find the others'.

    Parameters
    ----------
    config : EfficientVitMachine

    Members
    -------
    load, emission : a word, not before the last one's groups have all come
    fires : a group is on ``o``

    Timing
    ------
    A word of cycle t: group i in t + 1 + 3 i. The interval gives the next group's place three cycles: whether the line ends; places that
    follow; their sum.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__({"load": In(1), "emission": In(Emission), "fires": Out(1), "o": Out(_Group)})

    def elaborate(self, platform):
        m = Module()
        phases, running, left = Signal(GROUP_INTERVAL), Signal(), Signal(range(self.config.groups + 1))
        m.d.comb += self.fires.eq(running & phases[0])
        m.d.sync += [phases.eq(Cat(phases[-1], phases[:-1])), self.o.last.eq(left == 1)]
        self._advance(m, phases[-1])
        with m.If(self.fires):
            m.d.sync += [left.eq(left - 1), running.eq(~self.o.last)]
        with m.If(self.load):
            m.d.sync += [phases.eq(1), running.eq(1), left.eq(self.config.groups), self.o.last.eq(self.config.groups == 1)]
            m.d.sync += [self.o.first.eq(1), self.o.last_step.eq(self.emission.last)]
            m.d.sync += [self.o[name].eq(self.emission[name]) for name in _GROUP if name not in ("first", "last", "last_step")]
        return m

    def _advance(self, m, now):
        """To the next group, four pixels on: perhaps on the next line, perhaps over the ring's end."""
        o = self.o
        # cycle 0 of a group
        wraps, last_line = Signal(reset_less=True), Signal(reset_less=True)
        near, far = (Signal(4, name=name, reset_less=True) for name in ("near", "far"))
        m.d.sync += [wraps.eq(o.line_left <= BUSES), last_line.eq(o.lines_left == 1), near.eq(o.bank + BUSES), far.eq(o.bank + BUSES + 1)]
        # cycle 1
        place = Mux(wraps & ~o.width[0], far, near)
        bank, skip, base = (Signal(shape, reset_less=True) for shape in (3, o.pitch.shape(), o.address.shape()))
        line_left, pixels = Signal(10, reset_less=True), Signal(signed(8), reset_less=True)
        m.d.sync += [
            bank.eq(place[:3]),
            skip.eq(Mux(place[3], o.pitch, 0)),
            base.eq(o.address - Mux(wraps & last_line, o.ring_words, 0)),
            line_left.eq(o.line_left + Mux(wraps, o.width, 0)),
            pixels.eq(o.pixels - BUSES),
        ]
        # cycle 2
        with m.If(now):
            m.d.sync += [
                o.first.eq(0),
                o.bank.eq(bank),
                o.address.eq(base + skip),
                o.line_left.eq(line_left - BUSES),
                o.pixels.eq(Mux(pixels[-1], 0, pixels[:7])),
                o.key_value.eq(o.key_value + 2),
            ]
            with m.If(wraps):
                m.d.sync += o.lines_left.eq(Mux(last_line, ENDLESS, o.lines_left - 1))


def places_behind(rows: int, bus: int) -> int:
    """From a bus's first row to its end."""
    return (rows - 1 - bus) // BUSES


def arrival(rows: int) -> int:
    """Cycles until the first group's last word is at the end of its bus, less two: a row's hop and register."""
    return max(bus + places_behind(rows, bus) for bus in range(BUSES))


def waits(rows: int) -> list[int]:
    """How long each bus's word is held back for the last one of its group."""
    return [arrival(rows) - bus - places_behind(rows, bus) for bus in range(BUSES)]


def latency(rows: int) -> int:
    """From a word's emission to its first group on the outputs."""
    return arrival(rows) + 3


class Collector(wiring.Component):
    """Rows 4i + b come over bus b. Delayed by as much as makes up for b, four consecutive pixels arrive as one group.

    Row 4i's word reaches the end of its bus 3i cycles after row 0's: it is 4i cycles younger and has i places less to go. So the groups
    of one word are 3 cycles apart, and since words come at distances of 16 cycles and its multiples, groups of two words never meet.

    Members
    -------
    emission : the word that row 0 completes, with `RowFeeder.emission`'s timing        i_<b> : the ends of the collection buses
    ring_<k> : writes of the k-th pixel of a group        key_value, pool : groups        collected : strobe per step

    Timing
    ------
    Group i of a word whose emission comes in cycle t is on the outputs in t + `latency` + 3 i.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config, bits = config, config.bits
        super().__init__(
            {
                "emission": In(Emission),
                **{f"i_{bus}": In(config.word_bits) for bus in range(BUSES)},
                **{f"ring_{place}": Out(ring_write(bits)) for place in range(BUSES)},
                "key_value": Out(group_write(bits)),
                "pool": Out(pool_group(bits)),
                "collected": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = self._align(m)
        # An emission's walk begins a cycle after it, and a group's places take four.
        emission = Signal(Emission)
        m.d.comb += emission.eq(delayed(m, self.emission.as_value(), arrival(self.config.rows) - 2, "emission"))
        walks = [GroupWalk(self.config) for _ in range(CONTEXTS)]
        turn = Signal(CONTEXTS, init=1)
        with m.If(emission.valid):
            m.d.sync += turn.eq(Cat(turn[-1], turn[:-1]))
        for index, walk in enumerate(walks):
            m.submodules[f"walk_{index}"] = walk
            m.d.comb += [walk.emission.eq(emission), walk.load.eq(emission.valid & turn[index])]
        self._write(m, walks, words)
        return m

    def _align(self, m):
        late = waits(self.config.rows)
        return [delayed(m, getattr(self, f"i_{bus}"), cycles, f"aligned_{bus}") for bus, cycles in enumerate(late)]

    def _write(self, m, walks, words):
        """The group that fires, in three steps: the one of its word; whose pixels lie on the next line; banks, and the addresses without
        their steps from bank to bank."""
        fires = Cat(walk.fires for walk in walks)
        group, fired, context = Signal(_Group, reset_less=True), Signal(), Signal(range(CONTEXTS))
        firing = [walk.o.as_value() & walk.fires.replicate(_Group.size) for walk in walks]  # one at most
        m.d.sync += [group.eq(firing[0] | firing[1] | firing[2]), fired.eq(fires.any()), context.eq(fires[1:])]
        valid = delay(m, Cat(fired & (group.pixels > bus) for bus in range(BUSES)), 1, name="valid", reset=True)
        ring, key_value, pool = (
            delay(m, valid & delay(m, enable, 1, name=f"{name}_enable").replicate(BUSES), 1, name=name, reset=True)
            for name, enable in (("ring_valid", group.ring), ("attended", group.attention), ("pooled", group.pool))
        )
        self._ring(m, group, ring, words)
        later = data.View(_Group, delay(m, group.as_value(), 2, name="group"))
        ends = delay(m, fired & group.last, 2, name="ends", reset=True)
        m.d.sync += [
            *(target.data[bus].eq(word) for target in (self.key_value, self.pool) for bus, word in enumerate(words)),
            self.key_value.valid.eq(key_value),
            self.pool.valid.eq(pool),
            self.key_value.address.eq(later.key_value),
            self.pool.first.eq(later.first),
            self.pool.last.eq(ends & later.pool),
            self.pool.context.eq(delay(m, context, 2, name="context")),
            self.pool.word.eq(later.pool_word),
            self.pool.begin.eq(later.pool_begin),
            self.collected.eq(ends & later.last_step),
        ]

    def _ring(self, m, group, valid, words):
        """Bank and address of the group's pixels: one more place after a line of even width, and back at the ring's end. ``valid`` two
        cycles after the group."""
        late = data.View(_Group, delay(m, group.as_value(), 1, name="ring_group"))
        last_line = Signal(reset_less=True)
        m.d.sync += last_line.eq(group.lines_left == 1)
        for bus, word in enumerate(words):
            write = getattr(self, f"ring_{bus}")
            wraps, near, far = (
                Signal(bits, name=f"{name}_{bus}", reset_less=True) for name, bits in (("wraps", 1), ("near", 4), ("far", 4))
            )
            bank, skip, base = (
                Signal(shape, name=f"{name}_{bus}", reset_less=True)
                for name, shape in (("bank", 3), ("skip", late.pitch.shape()), ("base", late.address.shape()))
            )
            place = Mux(wraps & ~late.width[0], far, near)
            m.d.sync += [
                wraps.eq(group.line_left <= bus),
                near.eq(group.bank + bus),
                far.eq(group.bank + bus + 1),
                bank.eq(place[:3]),
                skip.eq(Mux(place[3], late.pitch, 0)),
                base.eq(late.address - Mux(wraps & last_line, late.ring_words, 0)),
                write.valid.eq(valid[bus]),
                write.bank.eq(bank),
                write.address.eq(base + skip),
                write.data.eq(word),
            ]


def collector_cost(config: EfficientVitMachine) -> Cost:
    """Of a `Collector`: words of four buses in registers, and what waits for the last row: up to 2 cycles in registers, more in LUTs."""
    late = waits(config.rows)
    words = BUSES + sum(cycles for cycles in late if not shift_register_luts(cycles))
    return Cost(
        lut=config.word_bits * sum(map(shift_register_luts, late)),
        ff=config.word_bits * words,
        priced_lut={"constant": 1},
        priced_ff={"constant": 1},
    )
