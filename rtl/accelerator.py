"""The accelerator: composition only. Rows and key/value banks are instances of separately emitted modules."""

from __future__ import annotations

from amaranth import Cat, Module, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from rtl.array_sequencer import ArraySequencer, TilePayload
from rtl.attention_bus import AttendCommand
from rtl.attention_config import AttentionConfig
from rtl.attention_engine import AttentionEngine
from rtl.bus.axi import AxiLite, AxiRead, AxiReadWrite
from rtl.bus.axi_reader import AxiReader
from rtl.bus.axi_writer import AxiWriter
from rtl.bus.ports import FlatPorts
from rtl.config import AcceleratorConfig
from rtl.dispatcher import Dispatcher
from rtl.dma_engine import DmaEngine
from rtl.row import Row, RowResult, row_members
from rtl.row_bus import WriteKind
from rtl.row_feeder import ResultControl, RowFeeder, feeder_members
from rtl.row_units import RowUnits
from rtl.separate import SeparateModule, Shell
from rtl.supervisor import Supervisor
from rtl.units.key_value import KeyValueBank, KeyValueMemory, bank_members

PORTS = (
    FlatPorts("s_axi_control", AxiLite(), slave=True),
    FlatPorts("m_axi_program", AxiRead()),
    FlatPorts("m_axi_data", AxiReadWrite()),
)
ROW_MODULE, BANK_MODULE, FEEDER_MODULE = "row", "key_value_bank", "row_feeder"


def separate_modules(config: AcceleratorConfig) -> dict[str, tuple[wiring.Component, int]]:
    """The modules that the accelerator instantiates by name, and how often."""
    attention = AttentionConfig.of(config)
    return {
        ROW_MODULE: (Row(config), config.rows),
        BANK_MODULE: (Shell(KeyValueBank(attention), bank_members(attention)), attention.groups),
        FEEDER_MODULE: (Shell(RowFeeder(config, RowUnits(config).timing), feeder_members(config)), 1),
    }


def _separate_bank(config: AttentionConfig) -> SeparateModule:
    return SeparateModule(BANK_MODULE, bank_members(config))


class Accelerator(wiring.Component):
    """The whole machine behind flat AXI ports.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    s_axi_control_*, m_axi_program_*, m_axi_data_* : AXI-Lite slave, AXI4 read master, AXI4 master        interrupt
    trace_linear_valid, trace_linear_value, trace_attention_valid, trace_attention_value : one bit and 16 bits per row; what the rows write,
        for layer-by-layer comparison in simulation. Left open on the board, where synthesis removes them.

    Timing
    ------
    The buses hop one register per row, so row r does everything r cycles after row 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        rows = config.rows
        members = {name: member for ports in PORTS for name, member in ports.members().items()}
        super().__init__(
            {
                **members,
                "interrupt": Out(1),
                "trace_linear_valid": Out(rows),
                "trace_linear_value": Out(16 * rows),
                "trace_attention_valid": Out(rows),
                "trace_attention_value": Out(16 * rows),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        timing = RowUnits(config).timing
        attention_config = AttentionConfig.of(config)
        m.submodules.program_reader = program_reader = AxiReader()
        m.submodules.data_reader = data_reader = AxiReader()
        m.submodules.data_writer = data_writer = AxiWriter()
        m.submodules.collector = collector = KeyValueMemory(attention_config, _separate_bank)
        drain = timing.compute_delay + timing.write + config.rows + collector.settle
        m.submodules.supervisor = supervisor = Supervisor(config, settle=drain)
        dispatcher, dma = Dispatcher(), DmaEngine(config)
        sequencer, attention = ArraySequencer(config, timing, drain), AttentionEngine(attention_config)
        for name, engine in (("dispatcher", dispatcher), ("dma", dma), ("sequencer", sequencer), ("attention", attention)):
            m.submodules[name] = ResetInserter(supervisor.clear)(engine)
        m.submodules.feeder = feeder = SeparateModule(FEEDER_MODULE, feeder_members(config))

        self._bus(m, supervisor, program_reader, data_reader, data_writer, dispatcher, dma)
        self._queues(m, dispatcher, dma, sequencer, attention)
        self._supervise(m, supervisor, dispatcher, dma, sequencer, attention, program_reader, data_reader, data_writer)
        m.d.comb += [
            feeder.fill.eq(sequencer.fill),
            feeder.compute.eq(sequencer.compute),
            feeder.write_weight.eq(dma.write_weight),
            feeder.write_parameter.eq(dma.write_parameter),
            feeder.write_norm.eq(dma.write_norm),
        ]
        results = self._rows(m, feeder.bus, attention.o_bus, dma.load)
        self._collect(m, feeder, results, collector, attention, dma)
        return m

    def _bus(self, m, supervisor, program_reader, data_reader, data_writer, dispatcher, dma):
        control, program, data_port = PORTS
        control.join(m, self, supervisor.bus)
        program.join(m, self, program_reader.axi)
        data_port.join(m, self, data_reader.axi, data_writer.axi)
        wiring.connect(m, dispatcher.o_read, program_reader.i_request)
        wiring.connect(m, program_reader.o, dispatcher.i_beats)
        wiring.connect(m, dma.o_read, data_reader.i_request)
        wiring.connect(m, data_reader.o, dma.i_beats)
        wiring.connect(m, dma.o_write, data_writer.i_request)
        wiring.connect(m, dma.o_beats, data_writer.i)
        m.d.comb += dma.write_done.eq(data_writer.done)
        for unit in (program_reader, data_reader, data_writer):
            m.d.comb += unit.clear.eq(supervisor.clear)

    def _queues(self, m, dispatcher, dma, sequencer, attention):
        """DMA takes instructions as they are; ARRAY and ATTEND take their payloads."""
        wiring.connect(m, dispatcher.o_0, dma.i)
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
        ]
        with m.If(attends.valid & attends.ready):
            m.d.sync += attend_post.eq(Cat(attends.payload.post.enable, attends.payload.post.counter))

    def _supervise(self, m, supervisor, dispatcher, dma, sequencer, attention, program_reader, data_reader, data_writer):
        m.d.comb += [
            dispatcher.start.eq(supervisor.start),
            dispatcher.program.eq(supervisor.program),
            dma.windows.eq(supervisor.windows),
            supervisor.program_error.eq(program_reader.error),
            supervisor.read_error.eq(data_reader.error),
            supervisor.write_error.eq(data_writer.error),
            supervisor.dma_error.eq(dma.error),
            supervisor.bad_instruction.eq(dispatcher.bad_instruction),
            supervisor.overflow.eq(dispatcher.overflow),
            supervisor.done.eq(dma.done),
            supervisor.index.eq(dispatcher.index),
            supervisor.fetched.eq(dispatcher.fetched),
            supervisor.blocked_0.eq(dispatcher.blocked_0),
            supervisor.blocked_1.eq(dispatcher.blocked_1),
            supervisor.blocked_2.eq(dispatcher.blocked_2),
            supervisor.array_busy.eq(sequencer.busy),
            supervisor.array_active.eq(sequencer.active),
            supervisor.array_hazard.eq(sequencer.stalled_hazard),
            supervisor.attention_busy.eq(attention.busy),
            supervisor.transfer.eq(dma.progress),
            self.interrupt.eq(supervisor.interrupt),
        ]

    def _rows(self, m, bus, attention, load):
        """Instantiates the row module R times; the buses hop through. Returns each row's result."""
        results = []
        for index in range(self.config.rows):
            m.submodules[f"row_{index}"] = row = SeparateModule(ROW_MODULE, row_members(self.config))
            result, attended = data.View(RowResult, row.result), data.View(RowResult, row.attended)
            m.d.comb += [
                row.index.eq(index),
                row.i_bus.eq(bus),
                row.i_attention.eq(attention),
                row.i_load.eq(load),
                self.trace_linear_valid[index].eq(result.valid),
                self.trace_linear_value.word_select(index, 16).eq(result.value),
                self.trace_attention_valid[index].eq(attended.valid),
                self.trace_attention_value.word_select(index, 16).eq(attended.value),
            ]
            bus, attention, load = row.o_bus, row.o_attention, row.o_load
            results.append(result)
        return results

    def _collect(self, m, feeder, results, collector, attention, dma):
        """Keys and values to their memory, row 0's logits to theirs. Row 0 emits one cycle after the feeder: its input register."""
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
        m.submodules.logits = logits = Memory(shape=16, depth=max(2, self.config.shape.classes), init=[])
        write, read = logits.write_port(), logits.read_port(domain="sync")
        m.d.comb += [
            write.addr.eq(control.address),
            write.data.eq(results[0].value),
            write.en.eq(control.kind == WriteKind.LOGIT),
            read.addr.eq(dma.logit_address),
            read.en.eq(1),
            dma.logit.eq(read.data),
        ]
