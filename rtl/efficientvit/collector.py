"""`Collector`: words of results from the ends of the collection buses to the expansion ring, the key/value memory and the pool."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.array_sequencer import Emission
from rtl.efficientvit.config import BUSES, EfficientVitMachine
from rtl.efficientvit.row import WORD_BITS
from rtl.row_feeder import delayed

#: Words on their way at the same time: a group every 3 cycles of up to 16 groups, a word every 16 cycles.
CONTEXTS = 3
GROUP_INTERVAL = 3
RingWrite = data.StructLayout({"valid": 1, "bank": 3, "address": 10, "data": WORD_BITS})
GroupWrite = data.StructLayout({"valid": BUSES, "address": 9, "data": data.ArrayLayout(WORD_BITS, BUSES)})
#: ``word`` of the sums; ``begin``: of the image's first pass. ``last``: a strobe of its own, for a last group may have no pixels.
PoolGroup = data.StructLayout(
    {
        "valid": BUSES,
        "first": 1,
        "last": 1,
        "context": range(CONTEXTS),
        "word": 7,
        "begin": 1,
        "data": data.ArrayLayout(WORD_BITS, BUSES),
    }
)
#: A `lines_left` that no pass of 64 pixels uses up.
ENDLESS = 31

_Context = data.StructLayout({"groups": range(17), "phase": range(GROUP_INTERVAL), "first": 1, **dict(Emission.members)})


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
    Group i of a word whose emission comes in cycle t is written in t + (rows - 1) // 4 + 3 i + 8.
    """

    def __init__(self, config: EfficientVitMachine):
        self.config = config
        super().__init__(
            {
                "emission": In(Emission),
                **{f"i_{bus}": In(WORD_BITS) for bus in range(BUSES)},
                **{f"ring_{place}": Out(RingWrite) for place in range(BUSES)},
                "key_value": Out(GroupWrite),
                "pool": Out(PoolGroup),
                "collected": Out(1),
            }
        )

    @property
    def _farthest(self) -> int:
        return (self.config.rows - 1) // BUSES

    def elaborate(self, platform):
        m = Module()
        words = self._align(m)
        # A row passes on a register after its bus, and its word another one after that; contexts are loaded one cycle ahead.
        emission = Signal(Emission)
        m.d.comb += emission.eq(delayed(m, self.emission.as_value(), self._farthest + 4, "emission"))
        contexts = [Signal(_Context, name=f"context_{index}") for index in range(CONTEXTS)]
        turn, fires = Signal(range(CONTEXTS)), Signal(CONTEXTS)
        with m.If(emission.valid):
            m.d.sync += turn.eq(Mux(turn == CONTEXTS - 1, 0, turn + 1))
        for index, context in enumerate(contexts):
            m.d.comb += fires[index].eq((context.groups != 0) & (context.phase == 0))
            self._advance(m, context, fires[index])
            with m.If(emission.valid & (turn == index)):
                m.d.sync += [context.groups.eq(self.config.groups), context.phase.eq(0), context.first.eq(1)]
                m.d.sync += [context[name].eq(emission[name]) for name in Emission.members]
        self._write(m, contexts, fires, words)
        return m

    def _align(self, m):
        words = []
        for bus in range(BUSES):
            last = (self.config.rows - 1 - bus) // BUSES
            words.append(delayed(m, getattr(self, f"i_{bus}"), self._farthest + 3 - bus - last, f"aligned_{bus}"))
        return words

    def _advance(self, m, context, fire):
        """To the next group, four pixels on: perhaps on the next line, perhaps over the ring's end."""
        with m.If(context.groups != 0):
            m.d.sync += context.phase.eq(Mux(context.phase == GROUP_INTERVAL - 1, 0, context.phase + 1))
        place = _places(context)[BUSES]
        wraps = place["wraps"]
        with m.If(fire):
            m.d.sync += [
                context.groups.eq(context.groups - 1),
                context.first.eq(0),
                context.bank.eq(place["bank"]),
                context.address.eq(place["address"]),
                context.column.eq(context.column + BUSES - Mux(wraps, context.width, 0)),
                context.pixels.eq(Mux(context.pixels > BUSES, context.pixels - BUSES, 0)),
                context.key_value.eq(context.key_value + 2),
            ]
            with m.If(wraps):
                m.d.sync += context.lines_left.eq(Mux(context.lines_left == 1, ENDLESS, context.lines_left - 1))

    def _write(self, m, contexts, fires, words):
        """The group that fires, in registers."""
        chosen, fired = Signal(_Context, reset_less=True), Signal()
        which = Mux(fires[0], 0, Mux(fires[1], 1, 2))
        place = Signal(range(CONTEXTS))
        group = [Signal(WORD_BITS, name=f"group_{bus}", reset_less=True) for bus in range(BUSES)]
        m.d.sync += [chosen.eq(Array([context.as_value() for context in contexts])[which]), fired.eq(fires.any()), place.eq(which)]
        m.d.sync += [signal.eq(word) for signal, word in zip(group, words, strict=True)]
        valid = Signal(BUSES)
        m.d.comb += valid.eq(Cat(fired & (chosen.pixels > bus) for bus in range(BUSES)))
        for bus, where in enumerate(_places(chosen)[:BUSES]):
            write = getattr(self, f"ring_{bus}")
            m.d.sync += [
                write.valid.eq(valid[bus] & chosen.ring),
                write.bank.eq(where["bank"]),
                write.address.eq(where["address"]),
                write.data.eq(group[bus]),
            ]
        for target, enable in ((self.key_value, chosen.attention), (self.pool, chosen.pool)):
            m.d.sync += [target.valid.eq(Mux(enable, valid, 0)), *(target.data[bus].eq(word) for bus, word in enumerate(group))]
        m.d.sync += [
            self.key_value.address.eq(chosen.key_value),
            self.pool.first.eq(chosen.first),
            self.pool.last.eq(fired & chosen.pool & (chosen.groups == 1)),
            self.pool.context.eq(place),
            self.pool.word.eq(chosen.pool_word),
            self.pool.begin.eq(chosen.pool_begin),
            self.collected.eq(fired & chosen.last & (chosen.groups == 1)),
        ]


def _places(context) -> list[dict]:
    """Bank and address of the pixels 0..4 on from the context's: one more place after a line of even width, and back at the ring's end."""
    places = []
    for ahead in range(BUSES + 1):
        wraps = context.column + ahead >= context.width
        flat = context.bank + ahead + (wraps & ~context.width[0])
        address = context.address + Mux(flat[3], context.pitch, 0) - Mux(wraps & (context.lines_left == 1), context.ring_words, 0)
        places.append({"wraps": wraps, "bank": flat[:3], "address": address[:10]})
    return places
