"""Where the items of a LOAD go: the feeder's memories, or the load bus to the rows."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
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
#: From a beat to its first item's write, or its place on the load bus; from a job's last item to the next one's first: cycles.
ITEM_LATENCY, JOB_CYCLES = 2, 5
#: From a job's last item to ``done``, at most.
TAIL_CYCLES = 4


class Loader(wiring.Component):
    """Cuts beats into items and scatters them, one per cycle.

    Members
    -------
    i : stream of LoadJob; `WAITING_JOBS` may wait while another is at work        i_beats : their beats, in order; ready from one LUT
    hold_position : in cycle t: no POSITION beat enters the load bus in cycle t + 1
    pixels : beats of pixels, from `rtl.pixel_input`: each enters the load bus in the next cycle, and POSITION and TABLE wait
    wants_bus : POSITION or TABLE beats are there: pixels should not begin
    write_parameter, write_norm : memory writes        load : row 0's load bus
    done : the last piece of a job is on its way        idle : no job        progress : a piece moved

    Timing
    ------
    A beat taken in cycle t: its first item is written in t + 2, or on the load bus in t + 2. One item per cycle.
    Five cycles from the last item of a job to the first of the next. ``done`` is not before the last item is on the load bus.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(LoadJob)),
                "i_beats": In(stream.Signature(BEAT)),
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
        final, near = self._jobs(m, job, go, first, targets)
        item = self._cut(m, go, first, final, near, targets)
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
        """The job at work and those that wait. Returns whether a piece is the last of its job, and whether the next one is."""
        m.submodules.waiting = memory = Memory(shape=LoadJob, depth=WAITING_JOBS, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        count, push, move, moved = Signal(range(WAITING_JOBS + 1)), Signal(), Signal(), Signal()
        waiting, single = Signal(LoadJob, reset_less=True), Signal(reset_less=True)  # the next job, and what its pieces start with
        beyond, left = Signal(25, reset_less=True), Signal(25)  # pieces after the next one, less one: below zero if the next is the last
        coming = {target: Signal(name=f"next_is_{target.name.lower()}", reset_less=True) for target in targets}
        settled, free = Signal(2), Signal(init=1)  # what the next job starts with is known; no job is at work
        final, tail = Signal(), Signal(3)
        following = Array(max(0, old + more - less) & 7 for less in range(2) for more in range(2) for old in range(8))  # no carry chain
        m.d.comb += [
            self.i.ready.eq(~count[-1]),
            push.eq(self.i.valid & ~count[-1]),
            write.en.eq(push),
            write.data.eq(self.i.payload),
            move.eq(settled[1] & free),
        ]
        m.d.sync += [
            moved.eq(move),
            first.eq(move),
            count.eq(following[Cat(count, push, moved)]),
            settled.eq(Cat((count != 0) & ~move & ~moved, settled[0] & ~move & ~moved)),
            waiting.eq(read.data),
            beyond.eq(waiting.pieces - 3),
            single.eq(waiting.pieces == 1),
            *(flag.eq(waiting.target == target) for target, flag in coming.items()),
            tail.eq(Cat(go & final, tail)),
            free.eq((free & ~move) | tail[0]),
            self.done.eq(tail[2]),
            self.idle.eq(free & ~(count.any() | tail.any() | self.i.valid)),
        ]
        with m.If(push):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(go):
            m.d.sync += [left.eq(left - 1), final.eq(left[-1])]
        with m.If(move):
            m.d.sync += [job.eq(waiting), left.eq(beyond), final.eq(single), read.addr.eq(read.addr + 1)]
            m.d.sync += [flag.eq(coming[target]) for target, flag in targets.items()]
        return final, left[-1]

    def _cut(self, m, go, first, final, near, targets):
        """Holds a beat and shifts it down by an item in each cycle. Returns the item at its end.

        What a new beat needs is loaded when there may be one: what is loaded when there is none does no harm.
        """
        held, have, rest, full = Signal(DATA_BITS), Signal(), Signal(LANES - 1), Signal(LANES - 1)  # rest: a one per item after this one
        allowed, last, step = Signal(), Signal(), Signal()
        vacant, passing = Signal(), Signal()  # there is no beat and one is to come; its last item is there and another beat is to come
        is_position, is_table = targets[LoadTarget.POSITION], targets[LoadTarget.TABLE]
        valid = self.i_beats.valid
        m.d.comb += [
            allowed.eq(~(is_position & (self.hold_position | self.pixels.valid)) & ~(is_table & self.pixels.valid)),
            go.eq(have & allowed),
            step.eq(~have | allowed),
            last.eq(~rest[0]),
            self.i_beats.ready.eq(vacant | (passing & allowed)),
        ]
        alone = ~full[0]  # an item is a beat
        following = (passing & valid & alone & ~near) | (have & ~last & ~rest[1] & ~near)
        m.d.sync += [
            have.eq((vacant & valid) | (have & ~(allowed & (last | final))) | (passing & valid)),
            vacant.eq(first | ((vacant | (passing & allowed)) & ~valid)),
            passing.eq((vacant & valid & alone & ~final) | Mux(allowed, following, passing)),
            self.wants_bus.eq(have & (is_position | is_table)),
        ]
        code, source = Signal(2), Signal(2)  # of the shift: 0 for a new beat
        shifts = (8, 32, 64)
        m.d.comb += source.eq(Mux(~have | last, 0, code))
        for target, width in ITEM_BITS.items():
            with m.If(targets[target]):
                m.d.sync += [full.eq((1 << DATA_BITS // width - 1) - 1), code.eq(shifts.index(width) + 1 if width in shifts else 0)]
        with m.If(step):
            m.d.sync += rest.eq(Mux(~have | last, full, rest >> 1))
            with m.Switch(source):
                with m.Case(0):
                    m.d.sync += held.eq(self.i_beats.payload.data)
                for index, width in enumerate(shifts):
                    with m.Case(index + 1):
                        m.d.sync += held.eq(held >> width)
        return held

    def _load_bus(self, m, job, go, first, item, address, targets):
        """Positions, table entries and pixels join. Positions come channel by channel, then pass, group of rows, parity."""
        groups, load = -(-self.config.rows // LANES), self.load
        odd, group, pass_index, channel = Signal(), Signal(4), Signal(PASS_BITS), Signal(CHANNEL_BITS)
        is_position, is_table = targets[LoadTarget.POSITION], targets[LoadTarget.TABLE]
        group_last, pass_last = Signal(), Signal()  # a cycle late: neither counter moves in two cycles that follow each other
        m.d.sync += [group_last.eq(group == groups - 1), pass_last.eq(pass_index == self.config.passes - 1)]
        with m.If(go):
            m.d.sync += odd.eq(~odd)
        with m.If(go & odd):
            m.d.sync += group.eq((group + 1) & ~group_last.replicate(len(group)))
        with m.If(go & odd & group_last):
            m.d.sync += pass_index.eq((pass_index + 1) & ~pass_last.replicate(PASS_BITS))
        with m.If(go & odd & group_last & pass_last):
            m.d.sync += channel.eq(channel + 1)
        with m.If(first):
            m.d.sync += [odd.eq(0), group.eq(0), pass_index.eq(0), channel.eq(job.address)]
        even_lanes = sum(1 << lane for lane in range(0, LANES, 2))
        m.d.sync += [
            load.eq(self.pixels),
            load.valid.eq((go & (is_position | is_table)) | self.pixels.valid),
        ]
        with m.If(~self.pixels.valid):
            m.d.sync += [
                load.kind.eq(Mux(is_table, LoadKind.TABLE, LoadKind.POSITION)),
                load.group_0.eq(group),
                load.lanes.eq(Mux(odd, even_lanes << 1, even_lanes)),
                load.upper.eq(0),
                load.token.image.eq(job.image),
                load.token.pass_index.eq(pass_index),
                load.token.address.eq(Mux(is_table, address, channel)),
                load.data.eq(Mux(is_table, Cat(item[:8] for _ in range(LANES)), item)),
            ]
