"""Starts, stops and watches the machine: the control registers, the error priorities and the watchdog."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import AxiLite
from rtl.bus.register_map import ErrorCode
from rtl.bus.registers import ControlRegistersConfig
from rtl.dispatcher import Blocked
from rtl.dma_engine import DmaError, Window, Windows


def start_cycles(settle: int) -> int:
    """From the register write to ``start``, after a reset, an error or a clear. The cycle counter counts them."""
    return settle + 3


class Supervisor(wiring.Component):
    """Control registers plus the state behind them.

    Parameters
    ----------
    identity : what the registers tell about the machine        queues : of the dispatcher
    settle : cycles until nothing issued before is in flight any more

    Members
    -------
    bus : AXI-Lite        interrupt
    start : strobe; the engines were cleared in the cycles before it        clear : resets every engine while high
    program, windows : from the registers
    program_error, read_error, write_error : bus errors        dma_error, stream_error, input_error : DmaError
    conflict : two writers or readers have met in a memory bank: a program or a machine that breaks its own laws
    bad_instruction, overflow, done, fetched, transfer : from the engines        index : instructions fetched
    blocked_<queue> : what each queue waits for; queue 0 is the DMA's, 1 the array's
    array_busy, array_active, array_hazard, attention_busy : for the counters

    Timing
    ------
    `start` follows the register write by 3 cycles, or by `start_cycles` after a reset, an error or a clear: what was in flight in the rows
    then has come out. An error stops the machine three cycles after it is seen: `clear` stays high until the next
    start, so nothing is fetched, transferred or computed any more.
    The watchdog counts cycles in which nothing is fetched, moved, computed or posted. Events are counted one cycle late.
    """

    def __init__(self, identity: ControlRegistersConfig, queues: int, settle: int):
        self.identity, self.queues, self.settle = identity, queues, settle
        super().__init__(
            {
                "bus": In(AxiLite()),
                "interrupt": Out(1),
                "start": Out(1),
                "clear": Out(1),
                "program": Out(Window),
                "windows": Out(Windows),
                **{
                    name: In(1)
                    for name in (
                        "program_error",
                        "read_error",
                        "write_error",
                        "bad_instruction",
                        "overflow",
                        "conflict",
                        "done",
                        "fetched",
                        "transfer",
                    )
                },
                **{name: In(1) for name in ("array_busy", "array_active", "array_hazard", "attention_busy")},
                "dma_error": In(2),
                "stream_error": In(2),
                "input_error": In(2),
                "index": In(16),
                **{f"blocked_{number}": In(Blocked) for number in range(queues)},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = self.identity.build()
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        commands = registers.commands
        busy, running, halted = Signal(), Signal(), Signal(init=1)
        starting, dirty, holding, left = Signal(2), Signal(init=1), Signal(), Signal(range(-1, self.settle))  # left: below zero at the end
        stop = self._errors(m, registers, running, commands)
        m.d.sync += [starting.eq(Cat(holding & left[-1], starting[0])), left.eq(left - 1)]
        m.d.comb += [
            self.interrupt.eq(registers.irq),
            self.start.eq(starting[1]),
            self.clear.eq(halted),
            running.eq(busy & ~halted),
            registers.state.busy.eq(busy),
            registers.state.done.eq(self.done & running),
        ]
        for name in ("weights", "image", "result"):
            m.d.comb += self.windows[name].eq(commands.windows[name])
        m.d.comb += self.program.eq(commands.windows.program)
        with m.If(left[-1]):
            m.d.sync += holding.eq(0)
        with m.If(commands.start):
            m.d.sync += [busy.eq(1), halted.eq(1), dirty.eq(0), holding.eq(1), left.eq(Mux(dirty, self.settle - 2, -1))]
        with m.If(starting[0]):
            m.d.sync += halted.eq(0)
        with m.If((self.done & running) | stop | commands.clear):
            m.d.sync += [busy.eq(0), halted.eq(1), holding.eq(0)]
        with m.If(stop | commands.clear):
            m.d.sync += dirty.eq(1)
        self._events(m, registers.state.events)
        return m

    def _errors(self, m, registers, running, commands):
        """The error that stops the machine in this cycle, if any. Bus errors come before what they cause."""
        limit, idle = commands.watchdog_limit, Signal(32)
        moving, enabled, exceeded, late = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            moving.eq(self.fetched | self.transfer | self.array_active | self.attention_busy | ~running),
            idle.eq(Mux(moving, 0, idle + 1)),
            exceeded.eq((idle >= limit) & ~moving),
            enabled.eq(limit != 0),
            late.eq(exceeded & enabled),
        ]
        report, waits = registers.state.report, Signal(Blocked)
        order = [getattr(self, f"blocked_{queue}") for queue in range(1, self.queues)]
        chosen = self.blocked_0.as_value()
        for blocked in reversed(order):
            chosen = Mux(blocked.waiting, blocked.as_value(), chosen)
        m.d.sync += waits.eq(chosen)
        m.d.comb += [
            report.instruction.eq(self.index),
            report.op.eq(waits.opcode),
            report.counter.eq(waits.counter),
            report.have.eq(waits.have),
            report.want.eq(waits.want),
        ]
        errors = (self.dma_error, self.stream_error, self.input_error)
        causes = (
            (self.program_error, ErrorCode.PROGRAM_BUS),
            (self.read_error, ErrorCode.DATA_READ_BUS),
            (self.write_error, ErrorCode.DATA_WRITE_BUS),
            (self.bad_instruction | Cat(e == DmaError.BAD_INSTRUCTION for e in errors).any(), ErrorCode.BAD_INSTRUCTION),
            (Cat(e == DmaError.WINDOW_OVERRUN for e in errors).any(), ErrorCode.WINDOW_OVERRUN),
            (self.overflow, ErrorCode.COUNTER_OVERFLOW),
            (self.conflict, ErrorCode.MEMORY_CONFLICT),
            (late, ErrorCode.WATCHDOG),
        )
        found, code, any_cause, first = Signal(), Signal.like(report.code), Signal(), 0
        seen = Signal(len(causes))
        m.d.sync += [seen.eq(Cat(cause for cause, _ in causes)), found.eq(any_cause & running & ~found)]
        m.d.comb += any_cause.eq(seen.any())
        for place, (_, which) in reversed(list(enumerate(causes))):
            first = Mux(seen[place], which, first)
        m.d.sync += code.eq(first)
        m.d.comb += [registers.state.error.eq(found), report.code.eq(code)]
        return found

    def _events(self, m, events):
        """The counters' inputs, registers. An idle array is charged to the attention when that works, else to what it waits for."""
        waiting = self.blocked_1.waiting & ~self.array_active
        m.d.sync += [
            events.stall_weights.eq(waiting & ~self.attention_busy),
            events.stall_attention.eq(waiting & self.attention_busy),
            events.stall_hazard.eq(self.array_hazard),
            events.busy_array.eq(self.array_busy),
            events.busy_attention.eq(self.attention_busy),
            events.instructions.eq(self.fetched),
            events.data_beats.eq(self.transfer),
        ]
