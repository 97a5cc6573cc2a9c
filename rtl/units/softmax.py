"""`Softmax`: scores in, numerators and their sum out, one row, one job after another."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from model.integer import EXP_TABLE, PROBABILITY_BITS, SCORE_BITS
from rtl.tech.dsp48e2 import generic

__all__ = ["Softmax", "softmax_control"]

#: Of an address of EXP_TABLE, and inputs of a LUT.
_DISTANCE_BITS, _TABLE_BITS = 8, 6


def softmax_control(slot_bits):
    """Fields of the attention bus that the softmax uses (`rtl.attention_bus`)."""
    return data.StructLayout(
        {
            "score": data.StructLayout({"valid": 1, "first": 1, "slot": slot_bits}),
            "scan": data.StructLayout({"start": 1, "slot": slot_bits}),
            "numerator_valid": 1,
            "total_first": 1,
        }
    )


class Softmax(wiring.Component):
    """`model.integer.softmax_numerators` and their sum. The division by the sum is left to the output of the attention.

    Scores are written as they come and their maximum kept. Then the scan reads one slot per cycle:

        e: scan.slot   e+1: top - score, numerator_valid   e+2: EXP_TABLE   e+3: numerator, total_first   e+4: total

    Parameters
    ----------
    slots : int, depth of the score memory
    tokens : int, most valid slots; sizes the sum
    technology : of the exponential's tables, see `rtl.tech.dsp48e2`

    Members
    -------
    i : In(softmax_control(bits_for(slots - 1)))
    i_value : In(signed(SCORE_BITS)), the score that ``i.score`` writes
    numerator : Out(8), for the slot that was scanned 3 cycles ago; 0 where ``numerator_valid`` was 0
    total : Out(total_bits), sum of the numerators since ``total_first``

    Timing
    ------
    ``scan.start`` may come one cycle after the last score of its job. The scores of the next job may be written as soon as their
    slots are scanned (in the same cycle or later): a score memory of one job is enough.
    """

    def __init__(self, *, slots, tokens, technology=generic):
        assert 1 <= tokens <= slots  # AttentionConfig
        self.slots, self.tokens, self.technology = slots, tokens, technology
        self.total_bits = (tokens * int(EXP_TABLE[0])).bit_length()
        super().__init__(
            {
                "i": In(softmax_control(bits_for(slots - 1))),
                "i_value": In(signed(SCORE_BITS)),
                "numerator": Out(PROBABILITY_BITS),
                "total": Out(self.total_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        score, scan = self.i.score, self.i.scan
        m.submodules.scores = scores = Memory(shape=signed(SCORE_BITS), depth=self.slots, init=[], attrs={"ram_style": "block"})
        write, read = scores.write_port(), scores.read_port()
        m.d.comb += [write.en.eq(score.valid), write.addr.eq(score.slot), write.data.eq(self.i_value), read.addr.eq(scan.slot)]

        maximum, top = (Signal(signed(SCORE_BITS), name=name, reset_less=True) for name in ("maximum", "top"))
        with m.If(score.valid & (score.first | (self.i_value > maximum))):
            m.d.sync += maximum.eq(self.i_value)
        with m.If(scan.start):
            m.d.sync += top.eq(maximum)

        difference = (top - read.data)[:SCORE_BITS]  # >= 0 for valid slots, 1023 at most
        distance, zero = Signal(_DISTANCE_BITS, reset_less=True), Signal(reset_less=True)
        numerator = Signal(PROBABILITY_BITS, reset_less=True)
        m.d.sync += [
            distance.eq(difference),
            zero.eq(~self.i.numerator_valid | difference[_DISTANCE_BITS:].any()),  # as a reset pin wants it
            numerator.eq(Mux(zero, 0, self._exponential(m, distance))),
        ]
        m.d.comb += self.numerator.eq(numerator)

        total = (Mux(self.i.total_first, 0, self.total) + self.numerator)[: self.total_bits]  # fits: tokens valid numerators
        m.d.sync += self.total.eq(total)
        return m

    def _exponential(self, m, distance):
        """EXP_TABLE: four tables of one LUT per bit, then a choice. Later tables have fewer bits."""
        assert EXP_TABLE[-1] == 0 and len(EXP_TABLE) == 1 << _DISTANCE_BITS  # so limiting the distance to 255 is forcing 0
        entries = []
        for first in range(0, len(EXP_TABLE), 1 << _TABLE_BITS):
            values = [int(value) for value in EXP_TABLE[first : first + (1 << _TABLE_BITS)]]
            entries.append(self.technology.table(m, values, distance[:_TABLE_BITS]))
        chosen = (entry & (distance[_TABLE_BITS:] == index).replicate(len(entry)) for index, entry in enumerate(entries))
        return reduce(or_, chosen)  # gates: multiplexers would move into the register's reset
