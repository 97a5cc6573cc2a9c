"""Where the items of a LOAD go: the feeder's memories, or the load bus to the rows."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import BEAT, DATA_BITS
from rtl.config import AcceleratorConfig
from rtl.program.isa import LoadTarget
from rtl.row_bus import CHANNEL_BITS, LANES, PASS_BITS, LoadBus, LoadKind
from rtl.row_feeder import NormPair, Parameter, memory_write

#: Bits of an item in memory; POSITION is a whole beat.
ITEM_BITS = {
    LoadTarget.PARAMETER: 64,
    LoadTarget.NORM: 32,
    LoadTarget.TABLE: 8,
    LoadTarget.POSITION: DATA_BITS,
}

#: ``pieces`` items, in as many beats as they need.
LoadJob = data.StructLayout({"target": 3, "image": 1, "address": 16, "pieces": 24})
WAITING_JOBS = 4


class Loader(wiring.Component):
    """Cuts beats into items and scatters them, one per cycle.

    Members
    -------
    i : stream of LoadJob; `WAITING_JOBS` may wait while another is at work        i_beats : their beats, in order
    clear : forgets everything
    hold_position : in cycle t: no POSITION beat enters the load bus in cycle t + 1
    pixels : beats of pixels, from `rtl.pixel_input`: each enters the load bus in the next cycle, and POSITION and TABLE wait
    wants_bus : POSITION or TABLE beats are there: pixels should not begin
    write_parameter, write_norm : memory writes        load : row 0's load bus
    done : the last piece of a job is on its way        idle : no job        progress : a piece moved

    Timing
    ------
    A beat taken in cycle t: its first item is written in t + 2, or on the load bus in t + 2. One item per cycle.
    Two cycles from the last item of a job to the first of the next. ``done`` is not before the last item is on the load bus.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(LoadJob)),
                "i_beats": In(stream.Signature(BEAT)),
                "clear": In(1),
                "hold_position": In(1),
                "pixels": In(LoadBus),
                "wants_bus": Out(1),
                "write_parameter": Out(memory_write(Parameter)),
                "write_norm": Out(memory_write(NormPair)),
                "load": Out(LoadBus),
                "done": Out(1),
                "idle": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        job, go, first = Signal(LoadJob), Signal(), Signal()
        targets = {target: Signal(name=f"is_{target.name.lower()}") for target in LoadTarget}
        final, active = self._jobs(m, job, go, first, targets)
        item = self._cut(m, go, final, active, targets)
        address = Signal(16)
        with m.If(go):
            m.d.sync += address.eq(address + 1)
        with m.If(first):
            m.d.sync += address.eq(job.address)
        for target, write in ((LoadTarget.PARAMETER, self.write_parameter), (LoadTarget.NORM, self.write_norm)):
            m.d.sync += [
                write.valid.eq(go & targets[target]),
                write.address.eq(address),
                write.data.eq(item[: write.data.shape().size]),
            ]
        m.d.sync += self.progress.eq(go)
        self._load_bus(m, job, go, first, item, address, targets)
        return m

    def _jobs(self, m, job, go, first, targets):
        """The job at work and those that wait."""
        m.submodules.waiting = memory = Memory(shape=LoadJob, depth=WAITING_JOBS, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        waiting, count = Signal(LoadJob), Signal(range(WAITING_JOBS + 1))
        active, consumed, have_next, push = Signal(), Signal(), Signal(), Signal()
        final, settle = Signal(), Signal(2)
        left = Signal(25)  # pieces after this one, less one: below zero at the last one
        move, open_ = Signal(), Signal()  # open_: more pieces are to come
        m.d.comb += [
            self.i.ready.eq(~count[-1]),
            push.eq(self.i.valid & self.i.ready),
            write.en.eq(push),
            write.data.eq(self.i.payload),
            waiting.eq(read.data),
            final.eq(left[-1]),
            move.eq(have_next & ~active & ~first),
        ]
        m.d.sync += [
            first.eq(move),
            self.done.eq(0),
            self.idle.eq(~(count.any() | active | first | self.i.valid)),
            settle.eq(Cat(consumed, settle[0] & consumed)),
        ]
        m.d.sync += [count.eq(count + push - move), have_next.eq((count != 0) & ~move)]
        with m.If(push):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(move):
            m.d.sync += [job.eq(waiting), left.eq(waiting.pieces - 2), read.addr.eq(read.addr + 1)]
            m.d.sync += [flag.eq(waiting.target == target) for target, flag in targets.items()]
        with m.If(first):
            m.d.sync += [active.eq(1), open_.eq(1)]
        with m.If(go):
            m.d.sync += left.eq(left - 1)
            with m.If(final):
                m.d.sync += [consumed.eq(1), open_.eq(0)]
        with m.If(consumed & settle[1]):
            m.d.sync += [active.eq(0), consumed.eq(0), settle.eq(0), self.done.eq(1)]
        with m.If(self.clear):
            m.d.sync += [
                signal.eq(0) for signal in (have_next, count, write.addr, read.addr, first, active, open_, consumed, settle, self.done)
            ]
        return final, open_

    def _cut(self, m, go, final, active, targets):
        """Holds a beat and shifts it down by an item in each cycle. Returns the item at its end."""
        held, have, rest, full = Signal(DATA_BITS), Signal(), Signal(LANES - 1), Signal(LANES - 1)  # rest: a one per item after this one
        allowed, last, load = Signal(), Signal(), Signal()
        is_position, is_table = targets[LoadTarget.POSITION], targets[LoadTarget.TABLE]
        m.d.comb += [
            allowed.eq(~(is_position & (self.hold_position | self.pixels.valid)) & ~(is_table & self.pixels.valid)),
            go.eq(have & allowed),
            last.eq(~rest[0]),
            self.i_beats.ready.eq(active & (~have | (go & last & ~final))),
            load.eq(self.i_beats.valid & self.i_beats.ready),
        ]
        m.d.sync += [have.eq(load | (have & ~(go & (last | final)))), self.wants_bus.eq(have & (is_position | is_table))]
        with m.If(go):
            m.d.sync += rest.eq(rest >> 1)
        with m.If(load):
            m.d.sync += rest.eq(full)
        # The code of the shift is 0 for a new beat. What is loaded when there is none does no harm.
        code, source = Signal(2), Signal(2)
        shifts = (8, 32, 64)
        m.d.comb += source.eq(Mux(~have | last, 0, code))
        for target, width in ITEM_BITS.items():
            with m.If(targets[target]):
                m.d.sync += [full.eq((1 << DATA_BITS // width - 1) - 1), code.eq(shifts.index(width) + 1 if width in shifts else 0)]
        with m.If(~have | go):
            with m.Switch(source):
                with m.Case(0):
                    m.d.sync += held.eq(self.i_beats.payload.data)
                for index, width in enumerate(shifts):
                    with m.Case(index + 1):
                        m.d.sync += held.eq(held >> width)
        with m.If(self.clear):
            m.d.sync += have.eq(0)
        return held

    def _load_bus(self, m, job, go, first, item, address, targets):
        """Positions, table entries and pixels join. Positions come channel by channel, then pass, group of rows, parity."""
        groups, load = -(-self.config.rows // LANES), self.load
        odd, group, pass_index, channel = Signal(), Signal(4), Signal(PASS_BITS), Signal(CHANNEL_BITS)
        is_position, is_table = targets[LoadTarget.POSITION], targets[LoadTarget.TABLE]
        group_ends, pass_ends = Signal(), Signal()
        m.d.comb += [group_ends.eq(odd & (group == groups - 1)), pass_ends.eq(pass_index == self.config.passes - 1)]
        with m.If(go):
            m.d.sync += odd.eq(~odd)
            with m.If(odd):
                m.d.sync += group.eq(group + 1)
            with m.If(group_ends):
                m.d.sync += [group.eq(0), pass_index.eq(pass_index + 1)]
                with m.If(pass_ends):
                    m.d.sync += [pass_index.eq(0), channel.eq(channel + 1)]
        with m.If(first):
            m.d.sync += [odd.eq(0), group.eq(0), pass_index.eq(0), channel.eq(job.address)]
        even_lanes = sum(1 << lane for lane in range(0, LANES, 2))
        m.d.sync += [
            load.eq(self.pixels),
            load.valid.eq((go & (is_position | is_table)) | self.pixels.valid),
        ]
        with m.If(is_position & ~self.pixels.valid):
            m.d.sync += [
                load.kind.eq(LoadKind.POSITION),
                load.group_0.eq(group),
                load.lanes.eq(Mux(odd, even_lanes << 1, even_lanes)),
                load.upper.eq(0),
                load.token.image.eq(job.image),
                load.token.pass_index.eq(pass_index),
                load.token.address.eq(channel),
                load.data.eq(item),
            ]
        with m.If(is_table & ~self.pixels.valid):
            m.d.sync += [
                load.kind.eq(LoadKind.TABLE),
                load.token.address.eq(address),
                load.data.eq(Cat(item[:8] for _ in range(LANES))),
            ]
        with m.If(self.clear):
            m.d.sync += load.valid.eq(0)
