"""What the array's two stages count: the activations of a fill, and the words of a compute."""

from __future__ import annotations

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Step
from rtl.config import AcceleratorConfig
from rtl.program import isa
from rtl.row_bus import CHANNEL_BITS, ComputeCommand, FillCommand, WriteKind
from rtl.units.requantize import Limits


class FillCounter(wiring.Component):
    """Counts a step's activations, padded with zeros to a multiple of 16.

    Members
    -------
    start, i : a step; its first activation is filled in the next cycle
    finished : a register; 1 in the cycle of the last activation and after it
    command : of this cycle
    """

    def __init__(self):
        super().__init__({"start": In(1), "i": In(Step), "finished": Out(1, init=1), "command": Out(FillCommand)})

    def elaborate(self, platform):
        m = Module()
        run, left, given, command = Signal(), Signal(16), Signal(16), Signal(FillCommand)
        near_end, near_zero = Signal(), Signal()  # the comparisons, one cycle early
        m.d.comb += [self.command.eq(command), self.command.valid.eq(run)]
        with m.If(run):
            m.d.sync += [
                left.eq(left - 1),
                given.eq(given - 1),
                run.eq(~self.finished),
                command.first.eq(0),
                command.address.eq(command.address + 1),
                command.norm_address.eq(command.norm_address + 1),
            ]
            m.d.sync += [near_end.eq(left == 3), near_zero.eq(given == 2)]
            with m.If(near_end):
                m.d.sync += self.finished.eq(1)
            with m.If(near_zero):
                m.d.sync += command.zero.eq(1)
        with m.If(self.start):
            tile = self.i.tile
            m.d.sync += [
                run.eq(1),
                near_end.eq(0),
                near_zero.eq(0),
                self.finished.eq(0),
                left.eq(self.i.filled),
                given.eq(tile.activations),
                command.normalized.eq(tile.source == isa.Source.NORMALIZED),
                command.zero.eq(0),
                command.bank.eq(self.i.bank),
                command.first.eq(1),
                command.image.eq(Mux(tile.source == isa.Source.NORMALIZED, self.i.image, self.i.image ^ tile.image ^ tile.source_image)),
                command.pass_index.eq(self.i.pass_index),
                command.address.eq(tile.source_channel),
                command.norm_address.eq(tile.norm_address),
            ]
        return m


class ComputeCounter(wiring.Component):
    """Counts a step's weight words, planes and output channels, and says what becomes of each result.

    Members
    -------
    start, i : a step; its first word is issued in the next cycle        step : the same, from that cycle on
    finished : a register; 1 in the cycle of the last word and after it        ending : in that cycle alone
    command : of this cycle
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members = {"start": In(1), "i": In(Step), "step": In(Step), "ending": Out(1)}
        super().__init__({**members, "finished": Out(1, init=1), "command": Out(ComputeCommand)})

    def elaborate(self, platform):
        m = Module()
        run, left, near_end, plane_left, plane_first = Signal(), Signal(16), Signal(), Signal(4), Signal()
        channel, address, weight, parameter = Signal(CHANNEL_BITS), Signal(CHANNEL_BITS), Signal(16), Signal(16)
        plane_last, accumulate_only, is_qkv = Signal(), Signal(), Signal()
        tile, command = self.step.tile, self.command
        m.d.comb += [
            self.ending.eq(run & self.finished),
            command.valid.eq(run),
            command.bank.eq(self.step.bank),
            command.weight_address.eq(weight),
            command.parameter_address.eq(parameter),
            command.plane_first.eq(plane_first),
            command.plane_last.eq(plane_last),
            command.add.eq((tile.accumulate == isa.Accumulate.MIDDLE) | (tile.accumulate == isa.Accumulate.LAST)),
            command.store.eq(run & plane_last & accumulate_only),
            command.table_set.eq(tile.table_set),
            command.table_enable.eq(tile.table_enable),
            command.image.eq(self.step.image),
            command.pass_index.eq(self.step.pass_index),
            command.accumulator_address.eq(channel),
            command.mask.eq(Mux((tile.mask == isa.Mask.ALL) | (self.step.pass_index == 0), tile.mask, isa.Mask.NONE)),
            command.statistics_first.eq(tile.statistics & (channel == 0)),
            command.statistics_last.eq(tile.statistics & self.finished),
            command.logit_row.eq(tile.logit_row),
        ]
        with m.If(run):
            m.d.sync += [left.eq(left - 1), weight.eq(weight + 1), run.eq(~self.finished)]
            m.d.sync += [plane_left.eq(Mux(plane_last, tile.planes, plane_left - 1)), plane_first.eq(plane_last)]
            m.d.sync += plane_last.eq(Mux(plane_last, tile.planes == 1, plane_left == 2))
            with m.If(plane_last):
                m.d.sync += [channel.eq(channel + 1), address.eq(address + 1), parameter.eq(parameter + 1)]
            m.d.sync += near_end.eq(left == 3)
            with m.If(near_end):
                m.d.sync += self.finished.eq(1)
        with m.If(self.start):
            following = self.i.tile
            first = following.accumulate == isa.Accumulate.FIRST
            m.d.sync += [
                run.eq(1),
                near_end.eq(0),
                self.finished.eq(0),
                left.eq(following.words),
                weight.eq(following.weight_address),
                parameter.eq(following.weight_address),
                plane_left.eq(following.planes),
                plane_last.eq(following.planes == 1),
                is_qkv.eq(following.destination == isa.Destination.QKV),
                plane_first.eq(1),
                channel.eq(0),
                address.eq(following.base_channel),
                accumulate_only.eq(first | (following.accumulate == isa.Accumulate.MIDDLE)),
            ]
        self._destination(m, run & plane_last & ~accumulate_only, address, is_qkv)
        return m

    def _destination(self, m, emit, address, is_qkv):
        tile, command = self.step.tile, self.command
        qkv = self._qkv_counters(m, emit & is_qkv)
        kinds = {
            isa.Destination.ACTIVATION: (WriteKind.ACTIVATION, Limits.ACTIVATION),
            isa.Destination.RESIDUAL: (WriteKind.RESIDUAL, Limits.SIGNED16),
            isa.Destination.QKV: (WriteKind.NONE, Limits.SIGNED8),
            isa.Destination.LOGITS: (WriteKind.LOGIT, Limits.SIGNED16),
        }
        kind = Signal(WriteKind)
        m.d.comb += [command.head.eq(qkv.head), command.dim.eq(qkv.dim), command.address.eq(address), command.kind.eq(Mux(emit, kind, 0))]
        with m.Switch(tile.destination):
            for destination, (which, limits) in kinds.items():
                with m.Case(destination):
                    m.d.comb += [kind.eq(which), command.limits.eq(limits)]
                    if destination == isa.Destination.ACTIVATION:
                        m.d.comb += command.limits.eq(Mux(tile.table_enable, Limits.TABLE, Limits.ACTIVATION))
                    if destination == isa.Destination.QKV:
                        sections = Array([WriteKind.ACTIVATION.value, WriteKind.KEY.value, WriteKind.VALUE.value, 0])
                        m.d.comb += [kind.eq(sections[qkv.section]), command.address.eq(qkv.address)]

    def _qkv_counters(self, m, count):
        """section 0 query, 1 key, 2 value; ``head`` is a place of the key/value memory; ``address`` is where a query goes."""
        counter = Signal(data.StructLayout({"section": 2, "left": 8, "dim": 8, "head": 8, "address": CHANNEL_BITS, "dim_last": 1}))
        tile = self.step.tile
        with m.If(count):
            m.d.sync += [
                counter.address.eq(counter.address + 1),
                counter.dim.eq(Mux(counter.dim_last, 0, counter.dim + 1)),
                counter.dim_last.eq(counter.dim == self.config.shape.head_dim - 2),
            ]
            with m.If(counter.dim_last):
                m.d.sync += [counter.left.eq(counter.left - 1), counter.head.eq(counter.head + 1)]
                with m.If(counter.left == 1):
                    m.d.sync += [counter.left.eq(tile.heads), counter.head.eq(tile.key_value_head), counter.section.eq(counter.section + 1)]
        with m.If(self.start):
            m.d.sync += [
                counter.section.eq(0),
                counter.dim.eq(0),
                counter.dim_last.eq(0),
                counter.left.eq(self.i.tile.heads),
                counter.head.eq(self.i.tile.key_value_head),
                counter.address.eq(self.i.query_address),
            ]
        return counter
