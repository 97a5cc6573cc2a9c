"""EfficientViT's accelerator: composition only. Rows are instances of a separately emitted module."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib import enum as amaranth_enum
from amaranth.lib.wiring import In

from rtl.accelerator_frame import Frame, accelerator_members
from rtl.bus.axi_reader import AxiReader
from rtl.bus.axi_writer import AxiWriter
from rtl.bus.registers import ControlRegistersConfig
from rtl.dispatcher import Dispatcher
from rtl.efficientvit.array_sequencer import ArraySequencer
from rtl.efficientvit.attend_engine import AttendConfig, AttendEngine
from rtl.efficientvit.collector import Collector
from rtl.efficientvit.config import BUSES, EfficientVitMachine
from rtl.efficientvit.depth_engine import DepthEngineConfig
from rtl.efficientvit.dma_engine import DmaEngine
from rtl.efficientvit.expansion_ring import ExpansionRingConfig
from rtl.efficientvit.head_engine import HeadEngineConfig
from rtl.efficientvit.isa import HEAD_BUFFER, PAYLOAD, Counter, Instruction, LoadTarget, Opcode
from rtl.efficientvit.row import Row, RowUnits, row_members
from rtl.efficientvit.row_feeder import BANK_MODULE, RowFeeder
from rtl.efficientvit.row_timing import RowTiming
from rtl.efficientvit.weight_bank import WeightBank
from rtl.efficientvit.window_input import WindowInput
from rtl.separate import SeparateEngine, SeparateModule
from rtl.supervisor import Supervisor
from rtl.tech.clocking import FAST_CLOCK
from rtl.units.depthwise_channel import DepthwiseChannelConfig, channel_members
from rtl.weight_stream import WeightStream

_OUTER = data.StructLayout(dict(PAYLOAD[Opcode.OUTER]))
ROW_MODULE, CHANNEL_MODULE = "efficientvit_row", "depthwise_channel"
ENGINE_MODULE = "efficientvit_{}"
KEPT_MODULES = (ROW_MODULE, BANK_MODULE, CHANNEL_MODULE)
#: Channels that the depthwise engine's results are traced over.
DEPTH_TRACE = 16
#: From an engine's `done` until its results are where instructions that wait for them look: lanes to a row's memory.
DEPTH_SETTLE = 8


class TraceState(amaranth_enum.Enum, shape=unsigned(3)):
    """What the array does in a cycle."""

    DRAIN = 0
    COMPUTE = 1
    ALIGN = 2  # the next step is there, and waits for its place in the grid of 16 cycles
    HAZARD = 3  # results of earlier steps
    WEIGHTS = 4
    ATTENTION = 5
    INPUT = 6
    DEPTH = 7


WAIT_STATES = {
    Counter.LOADED: TraceState.WEIGHTS,
    Counter.STREAMED: TraceState.WEIGHTS,
    Counter.STEPS_WRITTEN: TraceState.HAZARD,
    Counter.STEPS_COLLECTED: TraceState.HAZARD,
    Counter.DEPTHS_DONE: TraceState.DEPTH,
    Counter.OUTERS_DONE: TraceState.ATTENTION,
    Counter.WINDOWS_DONE: TraceState.INPUT,
}


def settle_cycles(timing: RowTiming, rows: int) -> int:
    """Until nothing that was issued before is in flight any more."""
    return timing.word + 2 * rows + 64


def engines(config: EfficientVitMachine) -> dict[str, wiring.Component]:
    """The large parts that there is one of: modules of their own, which are synthesised side by side."""
    return {
        "attend": AttendEngine(attend_config(config)),
        "depth": depth_config(config).build(),
        "head": HeadEngineConfig(classes=config.classes, bits=config.bits, technology=config.technology).build(),
        "ring": ExpansionRingConfig(bits=config.bits, depth=config.ring_depth).build(),
        "collector": Collector(config),
    }


def attend_config(config: EfficientVitMachine) -> AttendConfig:
    return AttendConfig(
        rows=config.rows,
        bits=config.bits,
        key_value_depth=config.key_value_depth,
        state_depth=config.state_depth,
        multipliers="lut",  # 64 slices that the rows need
        technology=config.technology,
    )


def depth_config(config: EfficientVitMachine) -> DepthEngineConfig:
    def channel(part: DepthwiseChannelConfig) -> SeparateModule:
        return SeparateModule(CHANNEL_MODULE, channel_members(part))

    return DepthEngineConfig(rows=config.rows, bits=config.bits, technology=config.technology, build_channel=channel)


class EfficientVitAccelerator(wiring.Component):
    """The whole machine behind flat AXI ports.

    Parameters
    ----------
    config : EfficientVitMachine

    Members
    -------
    see `rtl.accelerator_frame.accelerator_members`
    clk_2x : only where ``dsp_clock`` is 2: the rows' slices', twice as fast as ``clk`` and in phase with it
    trace_linear_valid, trace_linear_value : per row, a pair of codes as it is made
    trace_attention_valid, trace_attention_value : over the first 16 rows, a channel each: what the depthwise engine makes, line y in the
        lower byte and y + 1 in the upper one
    trace_state, trace_tile : what the array did in the cycle before (`TraceState`), and in which STEP
    """

    def __init__(self, config: EfficientVitMachine):
        self.config, self.engines = config, engines(config)
        clocks = {FAST_CLOCK: In(1)} if config.dsp_clock == 2 else {}
        super().__init__({**clocks, **accelerator_members(config)})

    def separate_modules(self) -> dict[str, tuple[wiring.Component, int]]:
        """The modules that this one instantiates by name, and how often: to be emitted beside it."""
        config, channels = self.config, depth_config(self.config).convolution
        return {
            ROW_MODULE: (Row(config), config.rows),
            BANK_MODULE: (WeightBank(config), config.weight_ports),
            CHANNEL_MODULE: (channels.channel.build(), channels.channels),
            **{ENGINE_MODULE.format(name): (engine, 1) for name, engine in self.engines.items()},
        }

    def elaborate(self, platform):
        m = Module()
        config = self.config
        timing = RowUnits(config).timing
        readers = {name: AxiReader() for name in ("program", "data", "pixels", *(f"weights_{n}" for n in range(config.weight_ports)))}
        for name, reader in readers.items():
            m.submodules[f"reader_{name}"] = reader
        m.submodules.writer = writer = AxiWriter()
        identity = ControlRegistersConfig(rows=config.rows, inputs=32, bits=config.bits, lanes=1, passes=1)
        settle = settle_cycles(timing, config.rows)
        m.submodules.supervisor = supervisor = Supervisor(identity, Instruction.queue_count(), settle=settle)
        dispatcher, dma, streams = Dispatcher(Instruction, extra_posts=1), DmaEngine(), WeightStream(config)
        windows, sequencer = WindowInput(config), ArraySequencer()
        feeder = RowFeeder(config, timing)
        queues = {"dispatcher": dispatcher, "dma": dma, "weight_stream": streams, "windows": windows, "sequencer": sequencer}
        for name, part in queues.items():
            m.submodules[name] = ResetInserter(supervisor.clear)(part)
        m.submodules.feeder = feeder
        separate = {
            name: SeparateEngine(ENGINE_MODULE.format(name), engine.signature, supervisor.clear) for name, engine in self.engines.items()
        }
        for name, engine in separate.items():
            m.submodules[name] = engine
        attend, depth, head, ring, collector = separate.values()
        frame = Frame(
            readers=readers, writer=writer, supervisor=supervisor, dispatcher=dispatcher, dma=dma, streams=streams, images=windows
        )
        frame.connect(m, self)
        self._queues(m, dispatcher, dma, sequencer, attend, streams, windows, depth, head)
        self._posts(m, dispatcher, dma, streams, windows, feeder, collector, attend, depth, head)
        frame.supervise(m, self, conflict=ring.conflict, array_busy=sequencer.busy, array_active=sequencer.busy)
        self._memories(m, dma, streams, feeder, depth, head, attend, sequencer)
        self._rows(m, feeder, collector, depth, windows)
        self._collect(m, feeder, collector, ring, depth, attend, head)
        self._trace(m, dispatcher, sequencer, depth)
        return m

    def _queues(self, m, dispatcher, dma, sequencer, attend, streams, windows, depth, head):
        """DMA, STREAM and WINDOW take instructions as they are; the others their payloads."""
        self._head_transfers(m, dispatcher, dma, streams)
        wiring.connect(m, dispatcher.o_4, windows.i)
        sinks = {1: sequencer.i, 6: head.i}
        for queue, sink in sinks.items():
            source, payload = getattr(dispatcher, f"o_{queue}"), sink.payload
            m.d.comb += [
                sink.valid.eq(source.valid),
                source.ready.eq(sink.ready),
                payload.eq(source.payload.payload[: len(payload.as_value())]),
            ]
        source, command = dispatcher.o_2, attend.i.payload
        fields = data.View(_OUTER, source.payload.payload[: _OUTER.size])
        m.d.comb += [
            attend.i.valid.eq(source.valid),
            source.ready.eq(attend.i.ready),
            *(command[name].eq(fields[name]) for name in command.shape().members),
        ]
        source = dispatcher.o_5
        m.d.comb += [
            depth.i.valid.eq(source.valid),
            source.ready.eq(depth.i.ready),
            depth.i.payload.layer.eq(source.payload.opcode == Opcode.DEPTH_LAYER),
            depth.i.payload.payload.eq(source.payload.payload),
        ]

    def _head_transfers(self, m, dispatcher, dma, streams):
        """The head's transfers, when there are none for the others. An instruction is offered until it is taken."""
        last = dispatcher.o_7
        taken = []
        for first, engine, own, meant in (
            (dispatcher.o_0, dma, Opcode.HEAD_LOAD, Opcode.LOAD),
            (dispatcher.o_3, streams, Opcode.HEAD_STREAM, Opcode.STREAM),
        ):
            mine = last.valid & (last.payload.opcode == own)
            m.d.comb += [
                engine.i.valid.eq(first.valid | mine),
                engine.i.payload.eq(Mux(first.valid, first.payload.as_value(), last.payload.as_value())),
                first.ready.eq(engine.i.ready),
            ]
            with m.If(~first.valid):
                m.d.comb += engine.i.payload.opcode.eq(meant)
            taken.append(mine & engine.i.ready & ~first.valid)
        m.d.comb += last.ready.eq(Cat(taken).any())

    def _posts(self, m, dispatcher, dma, streams, windows, feeder, collector, attend, depth, head):
        m.d.comb += [dispatcher.post_0.eq(dma.post), dispatcher.post_3.eq(streams.post), dispatcher.post_4.eq(windows.post)]
        depth_done = depth.done
        for cycle in range(DEPTH_SETTLE):
            later = Signal(name=f"depth_done_{cycle}")
            m.d.sync += later.eq(depth_done)
            depth_done = later
        fixed = {
            1: (feeder.written, Counter.STEPS_WRITTEN), 2: (attend.done, Counter.OUTERS_DONE), 5: (depth_done, Counter.DEPTHS_DONE),
            6: (head.done, Counter.HEADS_DONE), 8: (collector.collected, Counter.STEPS_COLLECTED),
        }  # fmt: skip
        for port, (strobe, counter) in fixed.items():
            post = getattr(dispatcher, f"post_{port}")
            m.d.comb += [post.enable.eq(strobe), post.counter.eq(counter)]

    def _memories(self, m, dma, streams, feeder, depth, head, attend, sequencer):
        """Beats of LOADs and words of STREAMs to the memories that they are for."""
        load = dma.load
        targets = {
            LoadTarget.PARAMETER: feeder.write_parameter, LoadTarget.DEPTH_WEIGHT: depth.load_weights,
            LoadTarget.DEPTH_PARAMETER: depth.load_parameters, LoadTarget.HEAD_PARAMETER: head.load,
        }  # fmt: skip
        for target, port in targets.items():
            m.d.comb += [port.valid.eq(load.valid & (load.target == target)), port.address.eq(load.address), port.data.eq(load.data)]
        for number in range(self.config.weight_ports):
            write = getattr(streams, f"write_{number}")
            for port, chosen in ((feeder, ~write.address[HEAD_BUFFER]), (head, write.address[HEAD_BUFFER])):
                sink = getattr(port, f"write_weight_{number}")
                m.d.comb += [sink.valid.eq(write.valid & chosen), sink.address.eq(write.address[:HEAD_BUFFER]), sink.data.eq(write.data)]
        m.d.comb += [
            feeder.i.eq(sequencer.o),
            attend.address.eq(feeder.state_address),
            feeder.state.eq(attend.word),
            head.logit_address.eq(dma.logit_address),
            dma.logits.eq(head.logits),
        ]

    def _rows(self, m, feeder, collector, depth, windows):
        """Instantiates the row module R times. The buses hop from row to row, the collection buses past every fourth one."""
        lanes = {"bus": feeder.bus, "depth_a": depth.lane_0, "depth_b": depth.lane_1, "window": windows.o}
        collected = [0] * BUSES
        for index in range(self.config.rows):
            m.submodules[f"row_{index}"] = row = SeparateModule(ROW_MODULE, row_members(self.config))
            if self.config.dsp_clock == 2:
                m.d.comb += row.clk_2x.eq(self.clk_2x)
            m.d.comb += [row.index.eq(index), row.i_collect.eq(collected[index % BUSES])]
            for name, value in lanes.items():
                m.d.comb += getattr(row, f"i_{name}").eq(value)
            lanes = {name: getattr(row, f"o_{name}") for name in lanes}
            collected[index % BUSES] = row.o_collect
            m.d.comb += [
                self.trace_linear_valid[index].eq(row.result[0]),
                self.trace_linear_value.word_select(index, 16).eq(row.result[1:]),
            ]
        for bus, word in enumerate(collected):
            m.d.comb += getattr(collector, f"i_{bus}").eq(word)

    def _collect(self, m, feeder, collector, ring, depth, attend, head):
        m.d.comb += [collector.emission.eq(feeder.emission), attend.write.eq(collector.key_value), head.pool.eq(collector.pool)]
        for place in range(BUSES):
            write, port = getattr(collector, f"ring_{place}"), ring.write[place]
            m.d.comb += [
                port.valid.eq(write.valid),
                port.place.bank.eq(write.bank),
                port.place.address.eq(write.address),
                port.data.as_value().eq(write.data),
            ]
        m.d.comb += [ring.read.eq(depth.read), ring.half.eq(depth.half), depth.data.eq(ring.data)]

    def _trace(self, m, dispatcher, sequencer, depth):
        lanes = (depth.lane_0, depth.lane_1)
        for channel in range(DEPTH_TRACE):
            m.d.comb += [
                self.trace_attention_valid[channel].eq(lanes[0].valid),
                *(self.trace_attention_value.word_select(2 * channel + line, 8).eq(lane.data[channel]) for line, lane in enumerate(lanes)),
            ]
        blocked = dispatcher.blocked_1
        state = Signal(TraceState)
        with m.If(sequencer.busy):
            m.d.comb += state.eq(TraceState.COMPUTE)
        with m.Elif(sequencer.i.valid):
            m.d.comb += state.eq(TraceState.ALIGN)
        with m.Elif(blocked.waiting):
            with m.Switch(blocked.counter):
                for counter, meaning in WAIT_STATES.items():
                    with m.Case(counter):
                        m.d.comb += state.eq(meaning)
        m.d.sync += [self.trace_state.eq(state.as_value()), self.trace_tile.eq(sequencer.index - sequencer.busy)]
