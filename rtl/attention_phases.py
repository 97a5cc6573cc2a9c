"""`PhaseSequence`: which job is in which phase of the attention, and when."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib import enum as amaranth_enum
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.attention_bus import AttendCommand, read_layout

__all__ = ["PhaseSequence", "constant_table", "job_layout"]


class _Phase(amaranth_enum.Enum):
    IDLE = 0
    LOAD = 1  # q of job 0
    SCORE = 2  # QK
    OUTPUT = 3  # AV
    PAUSE = 4  # a single job waits for its reciprocal
    DRAIN = 5  # the last outputs reach the last row


def job_layout(config):
    """``channel`` = head * head_dim; ``key``, ``value``: the head's first address in the banks; ``bank`` alternates from job to job."""
    address = read_layout(config)["address"].shape
    return data.StructLayout(
        {
            "valid": 1,
            "bank": 1,
            "pass_index": config.pass_bits,
            "channel": config.channel_bits,
            "key": address,
            "value": address,
        }
    )


class PhaseSequence(wiring.Component):
    """Steps through LOAD, QK0 QK1 AV0 QK2 AV1 ... AV(J-1), DRAIN, and passes the jobs on: load -> score -> output.

    Members
    -------
    start : In(1), taken when not `busy`; command : In, from the next cycle on, held while `busy`
    busy : Out(1); done : Out(1), in the last cycle of DRAIN
    load_start : Out(1), load_cycles before the end of LOAD and of each QK that another job follows; `load_job` is that job
    score_start, output_start : Out(1), in a phase's first cycle; `score_job` and `output_job` hold during the phase
    score_end : Out(1), in a QK's last cycle
    """

    def __init__(self, config):
        self.config = config
        job = Out(job_layout(config))
        pulses = {name: Out(1) for name in ("busy", "done", "load_start", "score_start", "output_start", "score_end")}
        super().__init__({"start": In(1), "command": In(AttendCommand), **pulses, "load_job": job, "score_job": job, "output_job": job})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        phase = Signal(_Phase)
        lengths = {
            _Phase.LOAD: config.load_cycles,
            _Phase.SCORE: config.score_cycles,
            _Phase.OUTPUT: config.output_cycles,
            _Phase.PAUSE: config.output_cycles,
            _Phase.DRAIN: config.drain_cycles,
        }
        step = Signal(range(max(lengths.values())))
        end, advance = Signal(), Signal()
        for which, length in lengths.items():
            with m.If((phase == which) & (step == length - 1)):
                m.d.comb += end.eq(1)
        m.d.sync += step.eq(Mux(end | ~self.busy, 0, step + 1))
        loading = (phase == _Phase.LOAD) & (step == 0)
        reloading = (phase == _Phase.SCORE) & (step == config.score_cycles - config.load_cycles) & self.load_job.valid
        m.d.comb += [
            self.busy.eq(phase != _Phase.IDLE),
            self.done.eq((phase == _Phase.DRAIN) & end),
            self.load_start.eq(loading | reloading),
            self.score_start.eq((phase == _Phase.SCORE) & (step == 0)),
            self.score_end.eq((phase == _Phase.SCORE) & end),
            self.output_start.eq((phase == _Phase.OUTPUT) & (step == 0)),
            advance.eq(end & ~(self.score_end & (self.output_job.valid | ~self.load_job.valid))),
        ]
        self._next_phase(m, phase, end)
        self._jobs(m, (phase == _Phase.LOAD) & (step == 0), advance)
        return m

    def _next_phase(self, m, phase, end):
        with m.If(~self.busy & self.start):
            m.d.sync += phase.eq(_Phase.LOAD)
        with m.If(end):
            with m.Switch(phase):
                with m.Case(_Phase.LOAD):
                    m.d.sync += phase.eq(_Phase.SCORE)
                with m.Case(_Phase.SCORE):
                    follow = Mux(self.load_job.valid, _Phase.SCORE, _Phase.PAUSE)
                    m.d.sync += phase.eq(Mux(self.output_job.valid, _Phase.OUTPUT, follow))
                with m.Case(_Phase.PAUSE):
                    m.d.sync += phase.eq(_Phase.OUTPUT)
                with m.Case(_Phase.OUTPUT):
                    follow = Mux(self.score_job.valid, _Phase.OUTPUT, _Phase.DRAIN)
                    m.d.sync += phase.eq(Mux(self.load_job.valid, _Phase.SCORE, follow))
                with m.Default():
                    m.d.sync += phase.eq(_Phase.IDLE)

    def _jobs(self, m, begin, advance):
        """The first job is ready a cycle after ``begin``, its addresses looked up instead of multiplied."""
        config, job, command = self.config, self.load_job, self.command
        heads_left = Signal(8)
        last_pass = Signal()
        m.d.comb += last_pass.eq(job.pass_index + 1 == command.passes)
        channels = [head * config.head_dim for head in range(config.heads)]
        places = range(config.key_value_heads)
        keys, values = [config.key_address(place) for place in places], [config.value_address(place) for place in places]
        with m.If(begin):
            m.d.sync += [
                job.eq(0),
                job.valid.eq(1),
                job.channel.eq(constant_table(m, channels, command.first_head, "first_channel")),
                job.key.eq(constant_table(m, keys, command.key_value_head, "first_key")),
                job.value.eq(constant_table(m, values, command.key_value_head, "first_value")),
                heads_left.eq(command.heads),
                self.score_job.eq(0),
                self.output_job.eq(0),
            ]
        with m.Elif(advance):
            m.d.sync += [
                self.output_job.eq(self.score_job),
                self.score_job.eq(job),
                job.bank.eq(~job.bank),
                job.pass_index.eq(job.pass_index + 1),
            ]
            with m.If(last_pass):
                m.d.sync += [
                    job.pass_index.eq(0),
                    job.channel.eq(job.channel + config.head_dim),
                    job.key.eq(job.key + config.passes * config.group_words),
                    job.value.eq(job.value + config.passes * config.head_dim // 2),
                    heads_left.eq(heads_left - 1),
                ]
                with m.If(heads_left == 1):
                    m.d.sync += job.valid.eq(0)


def constant_table(m, values, index, name):
    """``values[index]`` as LUTs; an index beyond the list, which a legal command does not have, gives any of them."""
    bits = bits_for(len(values) - 1)
    padded = [*values, *[values[-1]] * ((1 << bits) - len(values))]
    width = bits_for(max(values))
    entry = Signal(width, name=name)
    m.d.comb += entry.eq(Array(Const(value, width) for value in padded)[index[:bits]])
    return entry
