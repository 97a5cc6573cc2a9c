"""`PhaseSequence`: which job is in which phase of the attention, and when."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib import enum as amaranth_enum
from amaranth.lib.wiring import In, Out

from rtl.arith.constant_table import constant_table
from rtl.attention_bus import AttendCommand, read_layout

__all__ = ["PhaseSequence", "job_layout"]


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
        phase, following = Signal(_Phase), Signal(_Phase)  # valids are stable during a phase, so the next one is known early
        longest = max(config.load_cycles, config.score_cycles, config.output_cycles, config.drain_cycles)
        left, length = Signal(range(longest)), Signal(range(longest))  # cycles after this one
        start, began, end, hold, reload = (Signal(name=name) for name in ("taken", "began", "end", "hold", "reload"))
        scoring = phase == _Phase.SCORE
        m.d.comb += [
            start.eq(~self.busy & self.start),
            self.done.eq((phase == _Phase.DRAIN) & end),
            self.load_start.eq(began | reload),
            self.score_end.eq(scoring & end),
        ]
        m.d.sync += [
            left.eq(left - 1),
            end.eq(self.busy & (left == 1)),
            began.eq(start),
            hold.eq(scoring & (self.output_job.valid | ~self.load_job.valid)),
            reload.eq(scoring & (left == config.load_cycles) & self.load_job.valid),
            self.score_start.eq(end & (following == _Phase.SCORE)),
            self.output_start.eq(end & (following == _Phase.OUTPUT)),
        ]
        with m.If(end):
            m.d.sync += [phase.eq(following), left.eq(length)]
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        with m.If(start):
            m.d.sync += [self.busy.eq(1), phase.eq(_Phase.LOAD)]
        with m.If(began):
            m.d.sync += [left.eq(config.load_cycles - 2), end.eq(0)]
        self._following(m, phase, following, length)
        self._jobs(m, began, end & ~hold)
        return m

    def _following(self, m, phase, following, length):
        """The phase after this one, 1 cycle after this one began, and one less than its cycles, 2 cycles after."""
        config = self.config
        with m.Switch(phase):
            with m.Case(_Phase.LOAD):
                m.d.sync += following.eq(_Phase.SCORE)
            with m.Case(_Phase.SCORE):
                follow = Mux(self.load_job.valid, _Phase.SCORE, _Phase.PAUSE)
                m.d.sync += following.eq(Mux(self.output_job.valid, _Phase.OUTPUT, follow))
            with m.Case(_Phase.PAUSE):
                m.d.sync += following.eq(_Phase.OUTPUT)
            with m.Case(_Phase.OUTPUT):
                follow = Mux(self.score_job.valid, _Phase.OUTPUT, _Phase.DRAIN)
                m.d.sync += following.eq(Mux(self.load_job.valid, _Phase.SCORE, follow))
            with m.Default():
                m.d.sync += following.eq(_Phase.IDLE)
        with m.Switch(following):
            with m.Case(_Phase.SCORE):
                m.d.sync += length.eq(config.score_cycles - 1)
            with m.Case(_Phase.DRAIN):
                m.d.sync += length.eq(config.drain_cycles - 1)
            with m.Default():  # OUTPUT, PAUSE
                m.d.sync += length.eq(config.output_cycles - 1)

    def _jobs(self, m, begin, advance):
        """The first job is ready a cycle after ``begin``, its addresses looked up instead of multiplied."""
        config, job, command = self.config, self.load_job, self.command
        heads_left = Signal(8)
        end_pass, last_pass, last_head = Signal(config.pass_bits + 1), Signal(), Signal()
        m.d.sync += [
            end_pass.eq(command.first_pass + command.passes),
            last_pass.eq(job.pass_index + 1 == end_pass),
            last_head.eq(heads_left == 1),
        ]
        channels = [head * config.head_dim for head in range(config.heads)]
        places = range(config.key_value_heads)
        keys, values = [config.key_address(place) for place in places], [config.value_address(place) for place in places]
        with m.If(begin):
            m.d.sync += [
                job.eq(0),
                job.valid.eq(1),
                job.pass_index.eq(command.first_pass[: config.pass_bits]),
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
                    job.pass_index.eq(command.first_pass[: config.pass_bits]),
                    job.channel.eq(job.channel + config.head_dim),
                    job.key.eq(job.key + config.passes * config.group_words),
                    job.value.eq(job.value + config.passes * config.head_dim // 2),
                    heads_left.eq(heads_left - 1),
                ]
                with m.If(last_head):
                    m.d.sync += job.valid.eq(0)
