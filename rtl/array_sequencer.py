"""Turns TILE instructions into one fill command and one compute command per cycle, for row 0.

Two stages run in lockstep: while step s computes, step s+1 fills the other table bank.
The stages change over (`advance`) when both are done.
"""

from __future__ import annotations

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import AcceleratorConfig
from rtl.program import isa
from rtl.row_bus import ComputeCommand, FillCommand, RowTiming, WriteKind
from rtl.units.protocol import delay
from rtl.units.requantize import Limits

TilePayload = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.TILE]))
Post = data.StructLayout({"enable": 1, "counter": 4})

#: One step: a tile on one pass, in one table bank.
Step = data.StructLayout({"tile": TilePayload, "post": Post, "pass_index": 4, "bank": 1, "last": 1})


class ArraySequencer(wiring.Component):
    """Issues the steps of every TILE, without a bubble where hazards allow.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : RowTiming, for the hazard countdowns
    drain : cycles after a tile's last word until its last result is in place everywhere; the post comes then

    Members
    -------
    i : stream of {tile, post}; ready in the cycle that starts the tile's last fill
    fill, compute : commands of this cycle
    post : one-cycle strobe with a counter, `drain` cycles after the tile's last word
    busy : a word is issued this cycle      stalled_hazard : a step waits for results in flight      active : a step is in either stage

    Timing
    ------
    A step lasts max(words, 16 * ceil(activations / 16), finish + 2 if it completes statistics) cycles, and steps follow without a gap
    unless the next one reads results that are still in flight: at least `timing.hazard` (+ `finish`) cycles after the end of the last
    step on the same pass.
    """

    def __init__(self, config: AcceleratorConfig, timing: RowTiming, drain: int):
        self.config, self.timing, self.drain = config, timing, drain
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"tile": TilePayload, "post": Post}))),
                "fill": Out(FillCommand),
                "compute": Out(ComputeCommand),
                "post": Out(Post),
                "busy": Out(1),
                "active": Out(1),
                "stalled_hazard": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        fill_step, compute_step = Signal(Step), Signal(Step)
        fill_valid, compute_valid = Signal(), Signal()
        fill_done, compute_done = Signal(), Signal()
        fill_last, compute_last = Signal(), Signal()
        advance, load = Signal(), Signal()
        pass_offset = Signal(4)
        pass_index = Signal(4)
        tile = self.i.payload.tile
        clear = self._hazards(m, compute_step, compute_valid, compute_last & ~compute_done, fill_step, fill_valid, pass_index)

        m.submodules.fill = fill = _FillCounter()
        m.submodules.compute = compute = _ComputeCounter(self.config)
        m.d.comb += [
            pass_index.eq(tile.first_pass + pass_offset),
            fill.step.eq(fill_step),
            fill.run.eq(fill_valid & ~fill_done),
            fill_last.eq(fill.last | fill_done | ~fill_valid),
            compute.step.eq(compute_step),
            compute.run.eq(compute_valid & ~compute_done),
            compute_last.eq(compute.last | compute_done | ~compute_valid),
            advance.eq(
                fill_last & compute_last & (fill_valid | compute_valid) & self._long_enough(m, compute_step, compute_valid, advance)
            ),
            load.eq(self.i.valid & clear & (~fill_valid | advance)),
            self.i.ready.eq(load & (pass_offset + 1 == tile.passes)),
            self.fill.eq(fill.command),
            self.compute.eq(compute.command),
            self.busy.eq(compute_valid & ~compute_done),
            self.active.eq(fill_valid | compute_valid),
            self.stalled_hazard.eq(self.i.valid & ~clear & ~fill_valid),
        ]
        with m.If(fill.last & fill_valid):
            m.d.sync += fill_done.eq(1)
        with m.If(compute.last & compute_valid):
            m.d.sync += compute_done.eq(1)
        with m.If(advance):
            m.d.sync += [
                compute_step.eq(fill_step),
                compute_valid.eq(fill_valid),
                compute_done.eq(0),
                fill_valid.eq(0),
                fill_done.eq(0),
            ]
        with m.If(load):
            m.d.sync += [
                fill_valid.eq(1),
                fill_done.eq(0),
                fill_step.tile.eq(tile),
                fill_step.post.eq(self.i.payload.post),
                fill_step.pass_index.eq(pass_index),
                fill_step.bank.eq(~fill_step.bank),
                fill_step.last.eq(self.i.ready),
                pass_offset.eq(Mux(self.i.ready, 0, pass_offset + 1)),
            ]
        self._posts(m, compute_step, compute.last & compute_valid & ~compute_done)
        return m

    def _long_enough(self, m, step, valid, advance):
        """A step that completes statistics lasts at least until the statistics unit is free again."""
        minimum = self.timing.finish + 2
        elapsed = Signal(range(minimum + 1))
        with m.If(advance):
            m.d.sync += elapsed.eq(0)
        with m.Elif(valid & (elapsed != minimum)):
            m.d.sync += elapsed.eq(elapsed + 1)
        return ~(valid & step.tile.statistics_last) | (elapsed >= minimum - 1)

    def _hazards(self, m, step, valid, ending, fill_step, fill_valid, pass_index):
        """1 when no result of `pass_index` is being computed, waits to be, or is in flight. One countdown per pass."""
        longest = self.timing.hazard + self.timing.finish
        free = []
        for index in range(self.config.passes):
            countdown = Signal(range(longest + 1), name=f"hazard_{index}")
            mine = Signal(name=f"hazard_mine_{index}")
            m.d.comb += mine.eq(valid & (step.pass_index == index))
            with m.If(mine):
                m.d.sync += countdown.eq(Mux(step.tile.statistics_last, longest, self.timing.hazard))
            with m.Elif(countdown != 0):
                m.d.sync += countdown.eq(countdown - 1)
            free.append((countdown == 0) & ~mine & ~(fill_valid & (fill_step.pass_index == index)))
        return Array(free)[pass_index]

    def _posts(self, m, step, finished):
        stage = Signal(Post)
        m.d.comb += [stage.enable.eq(finished & step.last & step.post.enable), stage.counter.eq(step.post.counter)]
        m.d.comb += self.post.eq(delay(m, stage.as_value(), self.drain, name="post", reset=True))


class _FillCounter(wiring.Component):
    """Counts a step's activations, padded with zeros to a multiple of 16."""

    def __init__(self):
        super().__init__({"step": In(Step), "run": In(1), "last": Out(1), "command": Out(FillCommand)})

    def elaborate(self, platform):
        m = Module()
        index = Signal(16)
        tile = self.step.tile
        padded = Signal(16)
        m.d.comb += [
            padded.eq((tile.activations + 15) & 0xFFF0),
            self.last.eq(self.run & (index + 1 == padded)),
            self.command.valid.eq(self.run),
            self.command.normalized.eq(tile.source == isa.Source.NORMALIZED),
            self.command.zero.eq(index >= tile.activations),
            self.command.bank.eq(self.step.bank),
            self.command.first.eq(index == 0),
            self.command.pass_index.eq(self.step.pass_index),
            self.command.address.eq(index),
            self.command.norm_address.eq(tile.norm_address + index),
        ]
        with m.If(self.run):
            m.d.sync += index.eq(Mux(self.last, 0, index + 1))
        return m


class _ComputeCounter(wiring.Component):
    """Counts a step's weight words, planes and output channels, and says what becomes of each result."""

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({"step": In(Step), "run": In(1), "last": Out(1), "command": Out(ComputeCommand)})

    def elaborate(self, platform):
        m = Module()
        word, plane, channel = Signal(16), Signal(4), Signal(16)
        tile, command = self.step.tile, self.command
        plane_last = Signal()
        emit = Signal()
        accumulate_only = Signal()
        qkv = self._qkv_counters(m, tile, self.run & plane_last)
        m.d.comb += [
            self.last.eq(self.run & (word + 1 == tile.words)),
            plane_last.eq(plane + 1 == tile.planes),
            accumulate_only.eq((tile.accumulate == isa.Accumulate.FIRST) | (tile.accumulate == isa.Accumulate.MIDDLE)),
            emit.eq(self.run & plane_last & ~accumulate_only),
            command.valid.eq(self.run),
            command.bank.eq(self.step.bank),
            command.weight_address.eq(tile.weight_address + word),
            command.plane_first.eq(plane == 0),
            command.plane_last.eq(plane_last),
            command.add.eq((tile.accumulate == isa.Accumulate.MIDDLE) | (tile.accumulate == isa.Accumulate.LAST)),
            command.store.eq(self.run & plane_last & accumulate_only),
            command.table_set.eq(tile.table_set),
            command.table_enable.eq(tile.table_enable),
            command.pass_index.eq(self.step.pass_index),
            command.accumulator_address.eq(channel),
            command.mask.eq(tile.mask_enable & (self.step.pass_index == 0)),
            command.statistics_first.eq(tile.statistics_first & (command.address == 0)),
            command.statistics_last.eq(tile.statistics_last & (word + 1 == tile.words)),
            command.head.eq(qkv.head),
            command.dim.eq(qkv.dim),
        ]
        self._destination(m, emit, channel, qkv)
        with m.If(self.run):
            m.d.sync += word.eq(Mux(self.last, 0, word + 1))
            m.d.sync += plane.eq(Mux(plane_last, 0, plane + 1))
            with m.If(plane_last):
                m.d.sync += channel.eq(channel + 1)
            with m.If(self.last):
                m.d.sync += channel.eq(0)
        return m

    def _destination(self, m, emit, channel, qkv):
        tile, command = self.step.tile, self.command
        m.d.comb += command.address.eq(tile.base_channel + channel)
        with m.Switch(tile.destination):
            with m.Case(isa.Destination.ACTIVATION):
                m.d.comb += command.kind.eq(Mux(emit, WriteKind.ACTIVATION.value, 0))
                m.d.comb += command.limits.eq(Mux(tile.table_enable, Limits.TABLE, Limits.ACTIVATION))
            with m.Case(isa.Destination.RESIDUAL):
                m.d.comb += command.kind.eq(Mux(emit, WriteKind.RESIDUAL.value, 0))
                m.d.comb += command.limits.eq(Limits.SIGNED16)
            with m.Case(isa.Destination.QKV):
                kinds = Array([WriteKind.ACTIVATION.value, WriteKind.KEY.value, WriteKind.VALUE.value, 0])
                m.d.comb += command.kind.eq(Mux(emit, kinds[qkv.section], 0))
                m.d.comb += command.limits.eq(Limits.SIGNED8)
                m.d.comb += command.address.eq(qkv.head * self.config.shape.head_dim + qkv.dim)
            with m.Case(isa.Destination.LOGITS):
                m.d.comb += command.kind.eq(Mux(emit, WriteKind.LOGIT.value, 0))
                m.d.comb += command.limits.eq(Limits.SIGNED16)

    def _qkv_counters(self, m, tile, count):
        """section 0 query, 1 key, 2 value; head from base_channel; dim within the head."""
        qkv = Signal(data.StructLayout({"section": 2, "offset": 8, "dim": 8, "head": 8}))
        dim_last, head_last = Signal(), Signal()
        counter = Signal(data.StructLayout({"section": 2, "offset": 8, "dim": 8}))
        m.d.comb += [
            dim_last.eq(counter.dim == self.config.shape.head_dim - 1),
            head_last.eq(counter.offset + 1 == tile.heads),
            qkv.section.eq(counter.section),
            qkv.dim.eq(counter.dim),
            qkv.head.eq(tile.base_channel + counter.offset),
        ]
        with m.If(count & (tile.destination == isa.Destination.QKV)):
            m.d.sync += counter.dim.eq(Mux(dim_last, 0, counter.dim + 1))
            with m.If(dim_last):
                m.d.sync += counter.offset.eq(Mux(head_last, 0, counter.offset + 1))
                with m.If(head_last):
                    m.d.sync += counter.section.eq(Mux(counter.section == 2, 0, counter.section + 1))
        return qkv
