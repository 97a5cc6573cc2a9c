"""`WordSequence`: the words of one phase of the attention, their read addresses and the bus fields that follow them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import KeyValueKind, attention_bus, read_layout, word_layout
from rtl.attention_config import READ_LATENCY
from rtl.attention_phases import job_layout
from rtl.attention_sequence import delayed

__all__ = ["START", "WordSequence"]

#: Cycles from a phase's first one to its first request; from a word's flags to its request.
START, _REQUEST = 3, 1


class WordSequence(wiring.Component):
    """A word per cycle from the start of a phase until its words are out.

    QK: chunks inside key pairs inside groups inside passes. AV: groups inside passes inside dim pairs.
    A *sum* is the words between two finished pairs: the chunks of a key pair, the blocks of a dim pair.

    Members
    -------
    score_start, output_start : In(1), first cycle of a phase; with it `job`
    keys : In(16)
    read : Out, the request; the first `START` = 3 cycles after the start
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
        config, job = self.config, self.job
        start, output, next_output = (Signal(name=name) for name in ("start", "output", "next_output"))  # output: this is an AV phase
        base = Signal.like(self.job)
        operand_base, read_base = Signal(config.operand_bits), Signal(self.read.address.shape())
        m.d.sync += start.eq(self.score_start | self.output_start)
        with m.If(self.score_start | self.output_start):
            chunks, numerators = len(config.chunks), 2 * len(config.chunks)
            scores, outputs = Mux(job.bank, chunks, 0), Mux(job.bank, numerators + config.blocks, numerators)
            m.d.sync += [
                base.eq(job),
                next_output.eq(self.output_start),
                read_base.eq(Mux(self.output_start, job.value, job.key)),
                operand_base.eq(Mux(self.output_start, outputs, scores)),
            ]
        with m.If(start):
            m.d.sync += output.eq(next_output)
        active, first, last = self._places(m, start, output, next_output)
        self._read(m, start, output, last, read_base)
        self._operands(m, start, last, operand_base)
        later = _REQUEST + READ_LATENCY + config.product_latency
        m.d.comb += [
            self.bus.first.eq(delayed(m, first, later)),
            self.bus.rounded.eq(delayed(m, output, later)),
            self.bus.odd.eq(delayed(m, last, later + 2)),
        ]
        self._results(m, start, base, output, active & last, later + 7)
        for lane, stagger in enumerate(config.stagger):
            m.d.comb += [self.bus.word[x][lane].eq(delayed(m, self.word[x][lane], stagger)) for x in range(2)]
        return m

    def _places(self, m, start, output, next_output):
        """Of this cycle's word: it exists, it is the first, the last of its sum. All registers, found a cycle before."""
        config = self.config
        chunks, blocks = len(config.chunks), config.blocks
        active, first, last, last_word = (Signal(name=name) for name in ("active", "first", "last", "last_word"))
        words_left = Signal(range(max(config.score_words, config.output_words)))
        left = Signal(range(max(chunks, blocks)))  # words of the sum after this one
        m.d.sync += [
            first.eq(last),
            last.eq(left == 1),
            left.eq(left - 1),
            words_left.eq(words_left - 1),
            last_word.eq(words_left == 1),
            active.eq(active & ~last_word),
        ]
        with m.If(last):
            m.d.sync += left.eq(Mux(output, blocks - 1, chunks - 1))
        with m.If(start):
            m.d.sync += [
                active.eq(1),
                last_word.eq(0),
                first.eq(1),
                last.eq(0),
                left.eq(Mux(next_output, blocks - 1, chunks - 1)),
                words_left.eq(Mux(next_output, config.output_words - 1, config.score_words - 1)),
            ]
        return active, first, last

    def _read(self, m, start, output, last, read_base):
        """Requests, one cycle behind the flags: the increment is a register too."""
        config = self.config
        last_words = config.group_rows[-1] // 2 * len(config.chunks)  # score words of the last group
        pass_step, to_pass = config.head_dim // 2, config.group_words - last_words + 1
        left, group_done = Signal(range(config.group_words)), Signal()  # QK: words of the group after this one
        group, which = Signal(self.read.group.shape()), Signal(config.groups)  # the same number, as it is and one-hot
        increment = Signal(self.read.address.shape())
        last_group, next_last = which[-1], which[-2] if config.groups > 1 else 1
        m.d.sync += [
            left.eq(left - 1),
            group_done.eq(left == 1),
            self.read.kind.eq(Mux(output, KeyValueKind.VALUE, KeyValueKind.KEY)),
            self.read.group.eq(group),
            self.read.address.eq(self.read.address + increment),
        ]
        with m.If(group_done):
            m.d.sync += left.eq(Mux(next_last, last_words - 1, config.group_words - 1))
        with m.If(output | group_done):
            m.d.sync += [group.eq(Mux(last_group, 0, group + 1)), which.eq(which.rotate_left(1))]
        with m.If(start):
            m.d.sync += [left.eq(config.group_words - 1), group_done.eq(0), group.eq(0), which.eq(1)]
        with m.If(delayed(m, start, 1)):
            m.d.sync += self.read.address.eq(read_base)
        with m.If(output):  # a dim pair's last word leads to the next pair's first
            m.d.sync += increment.eq(Mux(last, 1 - (config.passes - 1) * pass_step, Mux(last_group, pass_step, 0)))
        with m.Else():  # the passes of a head follow one another in every bank
            m.d.sync += increment.eq(Mux(group_done, Mux(last_group, to_pass, 1 - config.group_words), 1))

    def _operands(self, m, start, last, base):
        operand = Signal(self.config.operand_bits)
        m.d.sync += operand.eq(Mux(start | last, base, operand + 1))
        value = delayed(m, operand, _REQUEST + READ_LATENCY)
        for stagger in range(len(self.bus.operand)):
            m.d.comb += self.bus.operand[stagger].eq(value)
            value = delayed(m, value, 1)

    def _results(self, m, start, base, output, finished, wait):
        """Where both sums of a pair go, the second a cycle after the first: score slots, or channels of o."""
        config = self.config
        slot, channel = Signal(config.slot_bits), Signal(config.channel_bits)
        pass_index = Signal(config.pass_bits)
        with m.If(finished):
            m.d.sync += [slot.eq(slot + 2), channel.eq(channel + 2)]
        with m.If(start):
            m.d.sync += [slot.eq(0), channel.eq(base.channel), pass_index.eq(base.pass_index)]
        even, odd = finished, delayed(m, finished, 1)
        odd_slot, odd_channel, odd_pass = (delayed(m, value, 1) for value in (slot | 1, channel | 1, pass_index))
        score, wrote = Signal.like(self.bus.score), Signal.like(self.bus.output)
        m.d.sync += [
            score.valid.eq(Mux(even, ~output, odd & ~delayed(m, output, 1))),
            score.slot.eq(Mux(even, slot, odd_slot)),
            wrote.valid.eq(Mux(even, output, odd & delayed(m, output, 1))),
            wrote.pass_index.eq(Mux(even, pass_index, odd_pass)),
            wrote.address.eq(Mux(even, channel, odd_channel)),
        ]
        known, checked = Signal.like(score), Signal.like(score)
        within = Signal()
        m.d.sync += [
            known.eq(score),
            known.first.eq(score.slot == 0),
            within.eq(score.slot < self.keys[: len(score.slot) + 1]),
            checked.eq(known),
            checked.valid.eq(known.valid & within),
        ]
        m.d.comb += [self.bus.score.eq(delayed(m, checked, wait - 3)), self.bus.output.eq(delayed(m, wrote, wait - 1))]
