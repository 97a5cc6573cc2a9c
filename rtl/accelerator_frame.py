"""What every family's accelerator has around its array: flat ports, and the wiring of memory buses, program and supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from amaranth import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from rtl.bus.axi import AxiLite, AxiRead, AxiReadWrite
from rtl.bus.axi_reader import AxiReader
from rtl.bus.axi_writer import AxiWriter
from rtl.bus.ports import FlatPorts
from rtl.dispatcher import Dispatcher
from rtl.supervisor import Supervisor
from rtl.weight_stream import WeightStream

CONTROL = FlatPorts("s_axi_control", AxiLite(), slave=True)
PROGRAM = FlatPorts("m_axi_program", AxiRead())
DATA = FlatPorts("m_axi_data", AxiReadWrite())
PIXELS = FlatPorts("m_axi_pixels", AxiRead())


class Config(Protocol):
    @property
    def rows(self) -> int: ...
    @property
    def weight_ports(self) -> int: ...


def weight_buses(config: Config) -> tuple[FlatPorts, ...]:
    """One read master per slice of a weight word."""
    return tuple(FlatPorts(f"m_axi_weights_{number}", AxiRead()) for number in range(config.weight_ports))


def accelerator_members(config: Config) -> dict[str, Any]:
    """The ports of every family's accelerator.

    s_axi_control_*, m_axi_program_*, m_axi_data_*, m_axi_pixels_* : AXI-Lite slave, AXI4 read master, master, read master        interrupt
    m_axi_weights_<n>_* : AXI4 read masters, a slice of every weight word each
    trace_linear_valid, trace_linear_value, trace_attention_valid, trace_attention_value : one bit and 16 bits per row; what is written, for
        layer-by-layer comparison in simulation
    trace_state, trace_tile : what the array did in the cycle before, and in which of its instructions
        Traces are left open on the board, where synthesis removes them.
    """
    buses = (CONTROL, PROGRAM, DATA, PIXELS, *weight_buses(config))
    return {
        **{name: member for bus in buses for name, member in bus.members().items()},
        "interrupt": Out(1),
        "trace_linear_valid": Out(config.rows),
        "trace_linear_value": Out(16 * config.rows),
        "trace_attention_valid": Out(config.rows),
        "trace_attention_value": Out(16 * config.rows),
        "trace_state": Out(8),
        "trace_tile": Out(16),
    }


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Its parts, and their wiring.

    readers : "program", "data", "pixels" and "weights_<n>"        writer : of the data bus
    dma, images : the family's engines that load and store, and that take images in
    """

    readers: Mapping[str, AxiReader]
    writer: AxiWriter
    supervisor: Supervisor
    dispatcher: Dispatcher
    dma: Any
    streams: WeightStream
    images: Any

    def connect(self, m: Module, boundary: Any) -> None:
        """Flat ports to what is behind them, and every reader to the engine that it serves."""
        CONTROL.join(m, boundary, self.supervisor.bus)
        PROGRAM.join(m, boundary, self.readers["program"].axi)
        DATA.join(m, boundary, self.readers["data"].axi, self.writer.axi)
        PIXELS.join(m, boundary, self.readers["pixels"].axi)
        for number, bus in enumerate(weight_buses(boundary.config)):
            bus.join(m, boundary, self.readers[f"weights_{number}"].axi)
        self._connect_readers(m)
        wiring.connect(m, self.dma.o_write, self.writer.i_request)
        wiring.connect(m, self.dma.o_beats, self.writer.i)
        m.d.comb += [self.writer.clear.eq(self.supervisor.clear), self.dma.write_done.eq(self.writer.done)]

    def _connect_readers(self, m: Module) -> None:
        dispatcher, dma, streams, images = self.dispatcher, self.dma, self.streams, self.images
        clients = {"program": (dispatcher.o_read, dispatcher.i_beats), "data": (dma.o_read, dma.i_beats),
                   "pixels": (images.o_read, images.i_beats)}  # fmt: skip
        for number in range(streams.config.weight_ports):
            clients[f"weights_{number}"] = getattr(streams, f"o_read_{number}"), getattr(streams, f"i_beats_{number}")
        for name, (requests, beats) in clients.items():
            wiring.connect(m, requests, self.readers[name].i_request)
            wiring.connect(m, self.readers[name].o, beats)
            m.d.comb += self.readers[name].clear.eq(self.supervisor.clear)

    def supervise(self, m: Module, boundary: Any, *, conflict: Value, **array: Value) -> None:
        """Start, clear and windows from the supervisor; errors, progress and the end to it.

        conflict : in a memory of the family's        array : ``array_busy`` and the other inputs of `Supervisor` for its counters
        """
        supervisor = self.supervisor
        m.d.comb += [
            self.dispatcher.start.eq(supervisor.start),
            self.dispatcher.clear.eq(supervisor.clear),
            self.dispatcher.program.eq(supervisor.program),
            self.dma.windows.eq(supervisor.windows),
            self.streams.window.eq(supervisor.windows.weights),
            self.images.window.eq(supervisor.windows.image),
            *(engine.clear.eq(supervisor.clear) for engine in (self.dma, self.streams, self.images)),
        ]
        self._report(m, conflict, array)
        m.d.comb += boundary.interrupt.eq(supervisor.interrupt)
        for number in range(self.dispatcher.queues):
            m.d.comb += getattr(supervisor, f"blocked_{number}").eq(getattr(self.dispatcher, f"blocked_{number}"))

    def _report(self, m: Module, conflict: Value, array: Mapping[str, Value]) -> None:
        supervisor, dispatcher = self.supervisor, self.dispatcher
        read_errors = Cat(reader.error for name, reader in self.readers.items() if name != "program")
        m.d.comb += [
            supervisor.program_error.eq(self.readers["program"].error),
            supervisor.read_error.eq(read_errors.any()),
            supervisor.write_error.eq(self.writer.error),
            supervisor.dma_error.eq(self.dma.error),
            supervisor.stream_error.eq(self.streams.error),
            supervisor.input_error.eq(self.images.error),
            supervisor.bad_instruction.eq(dispatcher.bad_instruction),
            supervisor.overflow.eq(dispatcher.overflow),
            supervisor.conflict.eq(conflict),
            supervisor.done.eq(self.dma.done),
            supervisor.index.eq(dispatcher.index),
            supervisor.fetched.eq(dispatcher.fetched),
            *(getattr(supervisor, name).eq(value) for name, value in array.items()),
            supervisor.transfer.eq(self.dma.progress | self.streams.progress | self.images.progress),
        ]
