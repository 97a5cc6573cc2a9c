"""The AXI-Lite slave with the control registers of ``register_map``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import ADDRESS_BITS, OKAY, SLAVE_ERROR, AxiLite
from rtl.bus.register_map import ADDRESS_BITS as OFFSET_BITS
from rtl.bus.register_map import CONFIG, COUNTERS, ID_WORD, REGISTERS, VERSION_WORD, WINDOWS, WORD_BITS, Access, Register
from rtl.errors import InputError

WINDOW = data.StructLayout({"base": ADDRESS_BITS, "bytes": WORD_BITS})

COMMANDS = data.StructLayout(
    {
        "start": 1,
        "clear": 1,
        "interrupt_enable": 1,
        "watchdog_limit": WORD_BITS,
        "windows": data.StructLayout(dict.fromkeys(WINDOWS, WINDOW)),
    }
)
"""What the driver tells the machine: ``start`` and ``clear`` are pulses, the rest levels. Windows do not change while busy."""

ERROR_REPORT = data.StructLayout({"code": 8, "instruction": 16, "op": 8, "counter": 8, "have": 16, "want": 16})
"""Why the machine stopped: an ``ErrorCode``, the instruction's index, and for the watchdog what it waited for."""

EVENTS = data.StructLayout({name: 2 if name == "data_beats" else 1 for name in COUNTERS if name != "cycles"})
"""What happened in this cycle, for the counters; ``cycles`` is counted from ``busy``."""

STATE = data.StructLayout({"busy": 1, "done": 1, "error": 1, "report": ERROR_REPORT, "events": EVENTS})
"""What the machine tells the driver: ``done`` and ``error`` are pulses, ``report`` is read together with ``error``."""


#: Of a register's word address: one more than the last register's, so that all ones name none.
_INDEX_BITS = (max(register.offset for register in REGISTERS) // 4 + 1).bit_length()


def _index(address: Value) -> Value:
    """The word address; all ones beyond the registers. So each register is told by one LUT."""
    return address[2 : 2 + _INDEX_BITS] | address[2 + _INDEX_BITS :].any().replicate(_INDEX_BITS)


@dataclass(frozen=True, kw_only=True)
class ControlRegistersConfig:
    """The machine's parameters, as the driver reads them in the CONFIG words."""

    rows: int
    inputs: int
    bits: int
    lanes: int
    passes: int

    def __post_init__(self) -> None:
        for name in CONFIG:
            if not 0 <= getattr(self, name) < 1 << WORD_BITS:
                raise InputError(f"{name} must fit {WORD_BITS} bits: {getattr(self, name)} does not; check the configuration")

    def build(self) -> ControlRegisters:
        return ControlRegisters(self)


class ControlRegisters(wiring.Component):
    """Control, status, errors, windows and counters behind AXI-Lite.

    Unmapped addresses, writes to read-only registers and writes to locked registers while busy are answered with SLVERR and change nothing.
    The low two bits of addresses are ignored. The first error is kept; more are ignored until it is cleared.

    Members
    -------
    bus : In(AxiLite(12))
    commands : Out(COMMANDS)
    state : In(STATE); ``busy`` must be set in the cycle after ``start`` and until ``done`` or ``error``
    irq : Out(1), interrupt, level: interrupt_enable and (done or error)

    Timing
    ------
    Address taken in cycle t: read data offered in t + 4. Address and data of a write taken by cycle t: the register changes, ``start`` and
    ``clear`` pulse, and the response is offered, all in t + 4. Reads and writes are independent; one of each at a time.
    Events of cycle t are in the counters from t + 1; a ``start`` or ``clear`` in cycle t sets them to zero in t + 1.
    """

    def __init__(self, config: ControlRegistersConfig) -> None:
        self.config = config
        super().__init__({"bus": In(AxiLite(OFFSET_BITS)), "commands": Out(COMMANDS), "state": In(STATE), "irq": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        words: dict[str, Value] = {
            "id": Const(ID_WORD, WORD_BITS),
            "version": Const(VERSION_WORD, WORD_BITS),
            **{f"config_{name}": Const(getattr(self.config, name), WORD_BITS) for name in CONFIG},
        }
        words |= self._elaborate_status(m)
        for name in COUNTERS:
            words[f"count_{name}"] = self._elaborate_counter(m, name)
        for register in REGISTERS:
            if register.access in (Access.RW, Access.RW_LOCKED):
                words[register.name] = Signal(register.width, name=register.name, init=register.init)
        m.d.comb += self.commands.watchdog_limit.eq(words["watchdog_limit"])
        for name in WINDOWS:
            window = self.commands.windows[name]
            m.d.comb += [window.base.eq(Cat(words[f"{name}_base_lo"], words[f"{name}_base_hi"])), window.bytes.eq(words[f"{name}_bytes"])]
        self._elaborate_read(m, words)
        self._elaborate_write(m, words)
        return m

    def _elaborate_status(self, m: Module) -> dict[str, Value]:
        """Done, error and its report. Writes clear them through the strobes ``_forget_done`` and ``_forget_error``."""
        state = self.state
        done, error, report = Signal(), Signal(), Signal(ERROR_REPORT)
        self._forget_done, self._forget_error = Signal(), Signal()
        restart = self.commands.start | self.commands.clear
        with m.If(self._forget_done | restart):
            m.d.sync += done.eq(0)
        with m.If(state.done):
            m.d.sync += done.eq(1)
        with m.If(self._forget_error | restart):
            m.d.sync += [error.eq(0), report.eq(0)]
        with m.If(state.error & (~error | self._forget_error | restart)):
            m.d.sync += [error.eq(1), report.eq(state.report)]
        m.d.comb += self.irq.eq(self.commands.interrupt_enable & (done | error))
        return {
            "control": Cat(Const(0, 2), self.commands.interrupt_enable),
            "status": Cat(state.busy, done, error),
            "error": Cat(report.code, Const(0, 8), report.instruction),
            "watchdog_wait": Cat(report.op, report.counter),
            "watchdog_values": Cat(report.have, report.want),
        }

    def _elaborate_counter(self, m: Module, name: str) -> Signal:
        count = Signal(WORD_BITS, name=f"count_{name}")
        event = self.state.busy if name == "cycles" else self.state.events[name]
        following = Signal(WORD_BITS + 1, name=f"following_{name}")
        m.d.comb += following.eq(count + event)
        m.d.sync += count.eq(Mux(following[WORD_BITS], Const((1 << WORD_BITS) - 1, WORD_BITS), following[:WORD_BITS]))
        with m.If(self.commands.start | self.commands.clear):
            m.d.sync += count.eq(0)
        return count

    def _elaborate_read(self, m: Module, words: dict[str, Value]) -> None:
        """Address, one flip-flop per register that it names, the words in threes, all of them: a stage each."""
        ar, r = self.bus.ar, self.bus.r
        busy, stage = Signal(), Signal(3)
        address = Signal(_INDEX_BITS)
        m.d.comb += ar.ready.eq(~busy)
        taken = ar.valid & ar.ready
        m.d.sync += stage.eq(Cat(taken, stage))
        self.observed = {"busy": busy, "stage": stage}  # for proofs
        with m.If(taken):
            m.d.sync += [busy.eq(1), address.eq(_index(ar.p.addr))]
        with m.If(r.ready & r.valid):
            m.d.sync += [r.valid.eq(0), busy.eq(0)]
        hits = self._decode(m, address, "read_hit")
        found, partial = Signal(len(REGISTERS[::3])), []
        for first in range(0, len(REGISTERS), 3):
            chosen = Signal(WORD_BITS, name=f"read_{first}")
            terms = [Mux(hits[first + k], words[register.name], 0) for k, register in enumerate(REGISTERS[first : first + 3])]
            m.d.sync += [chosen.eq(reduce(or_, terms)), found[first // 3].eq(Cat(hits[first : first + 3]).any())]
            partial.append(chosen)
        with m.If(stage[2]):
            m.d.sync += [r.valid.eq(1), r.p.data.eq(reduce(or_, partial)), r.p.resp.eq(Mux(found.any(), OKAY, SLAVE_ERROR))]

    def _decode(self, m: Module, address: Signal, name: str) -> list[Signal]:
        hits = [Signal(name=f"{name}_{register.name}") for register in REGISTERS]
        m.d.sync += [hit.eq(address == register.offset >> 2) for hit, register in zip(hits, REGISTERS, strict=True)]
        return hits

    def _elaborate_write(self, m: Module, words: dict[str, Value]) -> None:
        aw, w, b = self.bus.aw, self.bus.w, self.bus.b
        held_address, held_data, decoded, act, acting = Signal(), Signal(), Signal(), Signal(), Signal()
        address = Signal(_INDEX_BITS)
        value, enable = Signal(WORD_BITS), Signal(WORD_BITS)
        m.d.comb += [aw.ready.eq(~held_address), w.ready.eq(~held_data)]
        with m.If(aw.valid & aw.ready):
            m.d.sync += [held_address.eq(1), address.eq(_index(aw.p.addr))]
        with m.If(w.valid & w.ready):
            m.d.sync += [held_data.eq(1), value.eq(w.p.data), enable.eq(Cat(bit.replicate(8) for bit in w.p.strb))]
        with m.If(b.ready):
            m.d.sync += b.valid.eq(0)
        m.d.sync += [self.commands.start.eq(0), self.commands.clear.eq(0)]
        hits = self._decode(m, address, "write_hit")
        m.d.comb += acting.eq(decoded & held_data & (~b.valid | b.ready) & ~act)
        m.d.sync += [decoded.eq(held_address & ~act), act.eq(acting)]
        # Whether a write is allowed is settled one cycle before it acts, for answer and register alike: a strobe for each register.
        fine, allowed = Signal(), []
        for hit, register in zip(hits, REGISTERS, strict=True):
            if register.access is not Access.RO:
                allowed.append(hit & ~self.state.busy if register.access is Access.RW_LOCKED else hit)
                self._elaborate_write_of(m, register, words[register.name], value, enable, acting & allowed[-1])
        m.d.sync += fine.eq(Cat(allowed).any())
        with m.If(act):
            m.d.sync += [held_address.eq(0), held_data.eq(0), decoded.eq(0), b.valid.eq(1), b.p.resp.eq(Mux(fine, OKAY, SLAVE_ERROR))]

    def _elaborate_write_of(self, m: Module, register: Register, word: Value, value: Signal, enable: Signal, next_strobe: Value) -> None:
        strobe, ones = Signal(name=f"write_{register.name}"), value & enable
        m.d.sync += strobe.eq(next_strobe)
        if register.access in (Access.RW, Access.RW_LOCKED):
            with m.If(strobe):
                mixed = (value & enable) | (word & ~enable)
                m.d.sync += word.eq(mixed[: register.width])
        elif register.name == "control":
            with m.If(strobe):
                m.d.sync += [self.commands.clear.eq(ones[1]), self.commands.start.eq(ones[0] & ~ones[1] & ~self.state.busy)]
            with m.If(strobe & enable[2]):
                m.d.sync += self.commands.interrupt_enable.eq(value[2])
        elif register.name == "status":
            m.d.sync += [self._forget_done.eq(next_strobe & ones[1]), self._forget_error.eq(next_strobe & ones[2])]
