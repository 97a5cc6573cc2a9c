"""The accelerator: composition only. Rows and key/value banks are instances of separately emitted modules."""

from __future__ import annotations

from amaranth import Array, Cat, Module, ResetInserter, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib import enum as amaranth_enum

from rtl.accelerator_frame import Frame, accelerator_members
from rtl.array_sequencer import ArraySequencer, TilePayload, drain_cycles
from rtl.attention_bus import AttendCommand
from rtl.attention_config import AttentionConfig
from rtl.attention_engine import AttentionEngine
from rtl.bus.axi_reader import AxiReader
from rtl.bus.axi_writer import AxiWriter
from rtl.bus.registers import ControlRegistersConfig
from rtl.config import AcceleratorConfig
from rtl.dispatcher import Dispatcher
from rtl.dma_engine import DmaEngine
from rtl.logit_memory import LogitMemory
from rtl.pixel_input import PixelInput
from rtl.program.instruction import COUNTERS
from rtl.program.isa import Counter, Instruction
from rtl.row import AttentionResult, Row, RowResult, finished, row_members
from rtl.row_bus import WriteKind
from rtl.row_feeder import ResultControl, RowFeeder, feeder_members
from rtl.row_units import RowUnits
from rtl.separate import SeparateModule, Shell
from rtl.supervisor import Supervisor
from rtl.units.key_value import KeyValueBank, KeyValueMemory, bank_members
from rtl.weight_stream import WeightStream

ROW_MODULE, BANK_MODULE, FEEDER_MODULE = "row", "key_value_bank", "row_feeder"
KEPT_MODULES = (ROW_MODULE, BANK_MODULE, FEEDER_MODULE)


class TraceState(amaranth_enum.Enum, shape=unsigned(3)):
    """What the array does in a cycle."""

    DRAIN = 0  # nothing left to issue
    COMPUTE = 1
    FILL = 2  # the next step's tables
    HAZARD = 3  # the next step's operands are in flight
    WEIGHTS = 4  # the next tile's weights
    ATTENTION = 5
    INPUT = 6  # everything else that is loaded
    KEY_VALUE = 7  # keys and values that are still read: traced as ATTENTION, told apart by the tile in rtl.flow.account


#: The counter that the next TILE waits for -> what that is charged to.
WAIT_STATES = {
    Counter.TILE_STREAMED: TraceState.WEIGHTS,
    Counter.TILE_LOADED: TraceState.INPUT,
    Counter.INPUT_LOADED: TraceState.INPUT,
    Counter.ATTENTIONS_DONE: TraceState.ATTENTION,
}


def separate_modules(config: AcceleratorConfig) -> dict[str, tuple[wiring.Component, int]]:
    """The modules that the accelerator instantiates by name, and how often."""
    attention = AttentionConfig.of(config)
    banks = {
        bank_module(attention, rows): (
            Shell(KeyValueBank(attention, rows), bank_members(attention, rows)),
            attention.group_rows.count(rows),
        )
        for rows in sorted(set(attention.group_rows), reverse=True)
    }
    return {
        ROW_MODULE: (Row(config), config.rows),
        **banks,
        FEEDER_MODULE: (Shell(RowFeeder(config, RowUnits(config).timing), feeder_members(config)), 1),
    }


def bank_module(config: AttentionConfig, rows: int) -> str:
    """A last group of fewer rows has a module of its own."""
    return BANK_MODULE if rows == config.lanes else f"{BANK_MODULE}_{rows}"


def _separate_bank(config: AttentionConfig, rows: int) -> SeparateModule:
    return SeparateModule(bank_module(config, rows), bank_members(config, rows))


class Accelerator(wiring.Component):
    """The whole machine behind flat AXI ports.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    see `rtl.accelerator_frame.accelerator_members`
    trace_linear_*, trace_attention_* : what the rows write
    trace_state, trace_tile : `TraceState` (bit 3: the attention worked), and for which TILE

    Timing
    ------
    The buses hop one register per row, so row r does everything r cycles after row 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(accelerator_members(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        timing = RowUnits(config).timing
        attention_config = AttentionConfig.of(config)
        m.submodules.program_reader = program_reader = AxiReader()
        m.submodules.data_reader = data_reader = AxiReader()
        m.submodules.pixel_reader = pixel_reader = AxiReader()
        m.submodules.data_writer = data_writer = AxiWriter()
        readers = {"program": program_reader, "data": data_reader, "pixels": pixel_reader}
        for number in range(config.weight_ports):
            m.submodules[f"weight_reader_{number}"] = readers[f"weights_{number}"] = AxiReader()
        m.submodules.collector = collector = KeyValueMemory(attention_config, _separate_bank)
        identity = ControlRegistersConfig(
            rows=config.rows, inputs=config.inputs, bits=config.bits, lanes=config.lanes, passes=config.passes
        )
        drain = drain_cycles(timing, config.rows, attention_config.settle_cycles)
        m.submodules.supervisor = supervisor = Supervisor(identity, Instruction.queue_count(), settle=drain)
        dispatcher, dma, streams, pixels = Dispatcher(Instruction), DmaEngine(config), WeightStream(config), PixelInput(config)
        sequencer, attention = ArraySequencer(config, timing, drain), AttentionEngine(attention_config)
        engines = {"dispatcher": dispatcher, "dma": dma, "weight_stream": streams, "pixel_input": pixels, "sequencer": sequencer,
                   "attention": attention}  # fmt: skip
        for name, engine in engines.items():
            m.submodules[name] = ResetInserter(supervisor.clear)(engine)
        m.submodules.feeder = feeder = SeparateModule(FEEDER_MODULE, feeder_members(config))

        frame = Frame(
            readers=readers, writer=data_writer, supervisor=supervisor, dispatcher=dispatcher, dma=dma, streams=streams, images=pixels
        )
        frame.connect(m, self)
        self._queues(m, dispatcher, dma, sequencer, attention, streams, pixels)
        frame.supervise(
            m, self, conflict=collector.conflict, array_busy=sequencer.busy, array_active=sequencer.active,
            array_hazard=sequencer.stalled_hazard, attention_busy=attention.busy,
        )  # fmt: skip
        m.d.comb += [
            *(getattr(feeder, f"write_weight_{n}").eq(getattr(streams, f"write_{n}")) for n in range(config.weight_ports)),
            feeder.fill.eq(sequencer.fill),
            feeder.compute.eq(sequencer.compute),
            feeder.write_parameter.eq(dma.write_parameter),
            feeder.write_norm.eq(dma.write_norm),
            feeder.attention_read.eq(attention.o_bus.act_read),
            feeder.attention_output.eq(attention.o_bus.output),
            feeder.load.eq(dma.load),
            dma.hold_position.eq(feeder.position_busy),
            pixels.hold.eq(dma.wants_bus),
            dma.pixels.eq(pixels.o),  # an image's activations are not used while its pixels arrive: rtl.program
        ]
        results = self._rows(m, feeder.bus, attention.o_bus, dma.load)
        self._collect(m, feeder, results, collector, attention, dma)
        self._trace(m, dispatcher, sequencer, attention)
        return m

    def _queues(self, m, dispatcher, dma, sequencer, attention, streams, pixels):
        """DMA, STREAM and INPUT take instructions as they are; ARRAY and ATTEND take their payloads."""
        wiring.connect(m, dispatcher.o_0, dma.i)
        wiring.connect(m, dispatcher.o_3, streams.i)
        wiring.connect(m, dispatcher.o_4, pixels.i)
        tiles, attends = dispatcher.o_1, dispatcher.o_2
        attend_post = Signal(5)
        m.d.comb += [
            sequencer.i.valid.eq(tiles.valid),
            tiles.ready.eq(sequencer.i.ready),
            sequencer.i.payload.tile.eq(tiles.payload.payload[: TilePayload.size]),
            sequencer.i.payload.post.eq(tiles.payload.post),
            attention.i.valid.eq(attends.valid),
            attends.ready.eq(attention.i.ready),
            attention.i.payload.eq(attends.payload.payload[: AttendCommand.size]),
            dispatcher.post_0.eq(dma.post),
            dispatcher.post_1.eq(sequencer.post),
            dispatcher.post_2.counter.eq(attend_post[1:]),
            dispatcher.post_2.enable.eq(attend_post[0] & attention.done),
            dispatcher.post_3.eq(streams.post),
            dispatcher.post_4.eq(pixels.post),
        ]
        with m.If(attends.valid & attends.ready):
            m.d.sync += attend_post.eq(Cat(attends.payload.post.enable, attends.payload.post.counter))

    def _rows(self, m, bus, attention, load):
        """Instantiates the row module R times; the buses hop through. Returns each row's result."""
        results = []
        for index in range(self.config.rows):
            m.submodules[f"row_{index}"] = row = SeparateModule(ROW_MODULE, row_members(self.config))
            result, attended = data.View(RowResult, row.result), data.View(AttentionResult, row.attended)
            m.d.comb += [
                row.index.eq(index),
                row.i_bus.eq(bus),
                row.i_attention.eq(attention),
                row.i_load.eq(load),
                self.trace_linear_valid[index].eq(result.valid),
                self.trace_linear_value.word_select(index, 16).eq(finished(result)),
                self.trace_attention_valid[index].eq(attended.valid),
                self.trace_attention_value.word_select(index, 16).eq(attended.value),
            ]
            bus, attention, load = row.o_bus, row.o_attention, row.o_load
            results.append(result)
        return results

    def _collect(self, m, feeder, results, collector, attention, dma):
        """Keys and values to their memory. Row 0 emits one cycle after the feeder: its input register."""
        control = Signal(ResultControl)
        m.d.sync += control.eq(feeder.result)
        is_key, is_value = control.kind == WriteKind.KEY, control.kind == WriteKind.VALUE
        collect = collector.i
        m.d.comb += [
            collect.valid.eq(is_key | is_value),
            collect.kind.eq(is_value),
            collect.pass_index.eq(control.pass_index[: len(collect.pass_index)]),
            collect.head.eq(control.head[: len(collect.head)]),
            collect.dim.eq(control.dim[: len(collect.dim)]),
        ]
        m.d.comb += [collector.values[index].eq(result.value[:8].as_signed()) for index, result in enumerate(results)]
        m.d.comb += [collector.read.eq(attention.read), attention.word.eq(collector.word)]
        m.submodules.logits = logits = LogitMemory(self.config.shape.classes)
        m.d.comb += [
            logits.i.valid.eq(control.kind == WriteKind.LOGIT),
            logits.i.add.eq(control.logit_row),
            logits.i.image.eq(control.image),
            logits.i.address.eq(control.address),
            logits.value_0.eq(results[0].value),
            logits.value_1.eq(results[min(1, self.config.rows - 1)].value),
            logits.read_address.eq(dma.logit_address),
            dma.logits.eq(logits.read_value),
        ]

    def _trace(self, m, dispatcher, sequencer, attention):
        waiting = dispatcher.blocked_1
        states = Array([WAIT_STATES.get(counter, TraceState.DRAIN).value for counter in range(COUNTERS)])
        state = Signal(TraceState)
        with m.If(sequencer.busy):
            m.d.comb += state.eq(TraceState.COMPUTE)
        with m.Elif(sequencer.filling):
            m.d.comb += state.eq(TraceState.FILL)
        with m.Elif(sequencer.stalled_hazard):
            m.d.comb += state.eq(TraceState.HAZARD)
        with m.Elif(waiting.waiting):
            m.d.comb += state.as_value().eq(states[waiting.counter])
        m.d.sync += [self.trace_state.eq(Cat(state, attention.busy)), self.trace_tile.eq(sequencer.tile)]
