"""`AttentionEngine`: the shared part of the attention, in front of row 0."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import AttendCommand, attention_bus, read_layout, word_layout
from rtl.attention_config import READ_LATENCY
from rtl.attention_phases import PhaseSequence
from rtl.attention_sequence import QueryLoad, ScanSequence, delayed
from rtl.attention_words import START, WordSequence

__all__ = ["AttentionEngine"]


class AttentionEngine(wiring.Component):
    """Runs ATTEND: jobs (head outer, pass inner) through the phases that `AttentionConfig` defines, and times every field of the bus.

        command -> phases (QK, AV of which job, cycle by cycle) -+-> words: read addresses, operand, score and output writes
                                                                 +-> QueryLoad, at the end of each QK
                                                                 +-> ScanSequence, after each QK

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    i : In(stream.Signature(AttendCommand)): q of heads first_head, ... is in ``image``, o goes to ``output_image``; keys and values are at
        places key_value_head, ...; 1 <= heads, passes, keys; all within the config's; slots from ``keys`` on are masked; tokens of
        passes first_pass, ... attend to all keys
    read : Out(read_layout(config)); word : In(word_layout(config)), READ_LATENCY cycles later. To `KeyValueMemory`
    o_bus : Out(attention_bus(config)), to row 0
    busy : Out(1), a command runs
    done : Out(1), one pulse, once the last row has written its last o; its memory may be read in the same cycle

    Timing
    ------
    `done` comes ``cycles(heads, passes)`` after the command was taken; the next command may be taken one cycle after `done`.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(AttendCommand)),
                "read": Out(read_layout(config)),
                "word": In(word_layout(config)),
                "o_bus": Out(attention_bus(config)),
                "busy": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        command = Signal(AttendCommand)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += command.eq(self.i.payload)
        m.submodules.phases = phases = PhaseSequence(self.config)
        m.submodules.words = words = WordSequence(self.config)
        m.submodules.load = load = QueryLoad(self.config)
        m.submodules.scan = scan = ScanSequence(self.config)
        m.d.comb += [
            self.i.ready.eq(~phases.busy),
            phases.start.eq(self.i.valid),
            phases.command.eq(command),
            self.busy.eq(phases.busy),
            self.done.eq(phases.done),
            words.score_start.eq(phases.score_start),
            words.output_start.eq(phases.output_start),
            words.job.eq(Mux(phases.score_start, phases.score_job, phases.output_job)),
            words.keys.eq(command.keys),
            self.read.eq(words.read),
            words.word.eq(self.word),
            scan.keys.eq(command.keys),
            scan.dividend.eq(command.dividend),
            load.start.eq(delayed(m, phases.load_start, START)),
            load.pass_index.eq(phases.load_job.pass_index),
            load.address.eq(phases.load_job.channel),
            load.bank.eq(phases.load_job.bank),
        ]
        lead = START + READ_LATENCY  # from a phase's first cycle to its first word
        latency = self.config.product_latency
        # The scan follows the phase's end (its last cycle) by the path of a score, L + 8, and starts one cycle after its pulse.
        m.d.comb += [
            scan.start.eq(delayed(m, phases.score_end, lead + latency + 8)),
            scan.bank.eq(delayed(m, phases.score_job.bank, lead + latency + 8)),
        ]
        bus = self.o_bus
        m.d.comb += [
            bus.eq(words.bus),
            bus.multiplier.eq(command.score_multiplier),
            bus.shift.eq(command.score_shift),
            bus.scan.eq(scan.scan),
            bus.numerator_valid.eq(scan.numerator_valid),
            bus.total_first.eq(scan.total_first),
            bus.divide.eq(scan.divide),
            bus.reciprocal_load.eq(delayed(m, phases.output_start, lead + latency + 1)),
            bus.act_read.eq(load.act_read),
            bus.pack_query.eq(load.pack_query),
            bus.pack.eq(load.pack.as_value() | scan.pack.as_value()),  # never both: AttentionConfig
            bus.act_read.image.eq(command.image),
            bus.output.image.eq(command.output_image),
        ]
        return m
