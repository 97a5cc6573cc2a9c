"""`WordSequence`: the words of one phase of the attention, their read addresses and the bus fields that follow them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import KeyValueKind, attention_bus, read_layout, word_layout
from rtl.attention_config import READ_LATENCY
from rtl.attention_phases import job_layout
from rtl.attention_sequence import delayed

__all__ = ["WordSequence"]


class WordSequence(wiring.Component):
    """A word per cycle from the start of a phase until its words are out.

    QK: chunks inside key pairs inside groups inside passes. AV: groups inside passes inside dim pairs.
    A *sum* is the words between two finished pairs: the chunks of a key pair, the blocks of a dim pair.

    Members
    -------
    score_start, output_start : In(1), first cycle of a phase; with it `job`
    keys : In(16)
    read : Out, the request; the first one cycle after the start
    word : In, READ_LATENCY cycles later
    bus : Out(attention_bus(config)), of which it drives word, operand, first, rounded, odd, score and output
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "score_start": In(1),
                "output_start": In(1),
                "job": In(job_layout(config)),
                "keys": In(16),
                "read": Out(read_layout(config)),
                "word": In(word_layout(config)),
                "bus": Out(attention_bus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        start, output = Signal(), Signal()  # output: this is an AV phase
        left = Signal(range(max(config.score_words, config.output_words) + 1))
        active, last = Signal(), Signal()
        place = Signal(range(max(len(config.chunks), config.blocks)))  # of the word in its sum
        m.d.comb += [
            start.eq(self.score_start | self.output_start),
            active.eq(left != 0),
            last.eq(place == Mux(output, config.blocks - 1, len(config.chunks) - 1)),
        ]
        m.d.sync += place.eq(Mux(last, 0, place + 1))
        with m.If(active):
            m.d.sync += left.eq(left - 1)
        with m.If(start):
            m.d.sync += [output.eq(self.output_start), place.eq(0)]
            m.d.sync += left.eq(Mux(self.output_start, config.output_words, config.score_words))
        self._read(m, start, output, last)
        self._operands(m, start, output, last)
        later = READ_LATENCY + config.product_latency
        m.d.comb += [
            self.bus.first.eq(delayed(m, place == 0, later)),
            self.bus.rounded.eq(delayed(m, output, later)),
            self.bus.odd.eq(delayed(m, last, later + 2)),
        ]
        self._results(m, output, active & last, later + 7)
        for lane, stagger in enumerate(config.stagger):
            m.d.comb += [self.bus.word[x][lane].eq(delayed(m, self.word[x][lane], stagger)) for x in range(2)]
        return m

    def _read(self, m, start, output, last):
        config = self.config
        group, address = Signal(self.read.group.shape()), Signal(self.read.address.shape())
        last_words = config.group_rows[-1] // 2 * len(config.chunks)  # score words of the last group
        left = Signal(range(config.group_words))  # QK: after this one in the group
        group_end, pass_step = Signal(), config.head_dim // 2
        last_group, next_last = Signal(), Signal()
        m.d.comb += [
            self.read.kind.eq(Mux(output, KeyValueKind.VALUE, KeyValueKind.KEY)),
            self.read.group.eq(group),
            self.read.address.eq(address),
            group_end.eq(output | (left == 0)),
            last_group.eq(group == config.groups - 1),
            next_last.eq(1 if config.groups == 1 else group == config.groups - 2),
        ]
        m.d.sync += left.eq(Mux(group_end, Mux(next_last, last_words - 1, config.group_words - 1), left - 1))
        with m.If(group_end):
            m.d.sync += group.eq(Mux(last_group, 0, group + 1))
        with m.If(start):
            m.d.sync += [group.eq(0), left.eq(config.group_words - 1)]
            m.d.sync += address.eq(Mux(self.output_start, self.job.value, self.job.key))
        with m.Elif(output & last):
            m.d.sync += address.eq(address - (config.passes - 1) * pass_step + 1)
        with m.Elif(output & last_group):
            m.d.sync += address.eq(address + pass_step)
        with m.Elif(~output):  # the passes of a head follow one another in every bank
            to_pass = config.group_words - last_words + 1
            m.d.sync += address.eq(address + Mux(group_end, Mux(last_group, to_pass, 1 - config.group_words), 1))

    def _operands(self, m, start, output, last):
        config = self.config
        chunks, blocks = len(config.chunks), config.blocks
        operand, base = Signal(config.operand_bits), Signal(config.operand_bits)
        first = Signal(config.operand_bits)
        m.d.comb += first.eq(Mux(self.output_start, Mux(self.job.bank, 2 * chunks + blocks, 2 * chunks), Mux(self.job.bank, chunks, 0)))
        m.d.sync += operand.eq(Mux(last, base, operand + 1))
        with m.If(start):
            m.d.sync += [operand.eq(first), base.eq(first)]
        value = delayed(m, operand, READ_LATENCY)
        for stagger in range(len(self.bus.operand)):
            m.d.comb += self.bus.operand[stagger].eq(value)
            value = delayed(m, value, 1)

    def _results(self, m, output, finished, wait):
        """Where both sums of a pair go, the second a cycle after the first: score slots, or channels of o."""
        config = self.config
        slot, channel = Signal(config.slot_bits), Signal(config.channel_bits)
        pass_index = Signal(config.pass_bits)
        with m.If(finished):
            m.d.sync += [slot.eq(slot + 2), channel.eq(channel + 2)]
        with m.If(self.score_start | self.output_start):
            m.d.sync += [slot.eq(0), channel.eq(self.job.channel), pass_index.eq(self.job.pass_index)]
        score, wrote = Signal.like(self.bus.score), Signal.like(self.bus.output)
        even, odd = finished, delayed(m, finished, 1)
        slot = Mux(even, slot, delayed(m, slot | 1, 1))
        channel = Mux(even, channel, delayed(m, channel | 1, 1))
        output = Mux(even, output, delayed(m, output, 1))
        m.d.comb += [
            score.valid.eq((even | odd) & ~output & (slot < self.keys)),
            score.first.eq(slot == 0),
            score.slot.eq(slot),
            wrote.valid.eq((even | odd) & output),
            wrote.pass_index.eq(Mux(even, pass_index, delayed(m, pass_index, 1))),
            wrote.address.eq(channel),
            self.bus.score.eq(delayed(m, score, wait)),
            self.bus.output.eq(delayed(m, wrote, wait)),
        ]
