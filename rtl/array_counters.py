"""What the array's two stages count: the activations of a fill, and the words of a compute."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
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
    finished : a register; 1 in the cycle of the last activation and after it        ends : it will be 1 in the next cycle, but for `start`
    command : of this cycle
    """

    def __init__(self):
        super().__init__({"start": In(1), "i": In(Step), "finished": Out(1, init=1), "ends": Out(1), "command": Out(FillCommand)})

    def elaborate(self, platform):
        m = Module()
        run, command = Signal(), Signal(FillCommand)
        left, given = Signal(signed(17), init=-1), Signal(signed(17))  # less three, less one: the sign tells, nothing is compared
        m.d.comb += [self.ends.eq(left[-1]), self.command.eq(command), self.command.valid.eq(run), self.command.zero.eq(given[-1])]
        with m.If(run):
            m.d.sync += [
                left.eq(left - 1),
                given.eq(given - 1),
                run.eq(~self.finished),
                self.finished.eq(self.ends),
                command.first.eq(0),
                command.address.eq(command.address + 1),
                command.norm_address.eq(command.norm_address + 1),
            ]
        with m.If(self.start):
            tile = self.i.tile
            m.d.sync += [
                run.eq(1),
                self.finished.eq(0),
                left.eq(Cat(Const(16 - 3, 4), self.i.given[4:])),
                given.eq(self.i.given),
                command.normalized.eq(tile.source == isa.Source.NORMALIZED),
                command.bank.eq(self.i.bank),
                command.first.eq(1),
                command.image.eq(Mux(tile.source == isa.Source.NORMALIZED, self.i.image, self.i.image ^ tile.image ^ tile.source_image)),
                command.pass_index.eq(self.i.pass_index),
                command.address.eq(tile.source_channel),
                command.norm_address.eq(tile.norm_address),
            ]
        return m


def _only_accumulates(tile):
    return (tile.accumulate == isa.Accumulate.FIRST) | (tile.accumulate == isa.Accumulate.MIDDLE)


class ComputeCounter(wiring.Component):
    """Counts a step's weight words, planes and output channels, and says what becomes of each result.

    Members
    -------
    start, i : a step; its first word is issued in the next cycle        step : the same, from that cycle on
    finished : a register; 1 in the cycle of the last word and after it        ending : in that cycle alone
    ends : `finished` will be 1 in the next cycle, but for `start`
    command : of this cycle
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members = {"start": In(1), "i": In(Step), "step": In(Step), "ending": Out(1), "ends": Out(1)}
        super().__init__({**members, "finished": Out(1, init=1), "command": Out(ComputeCommand)})

    def elaborate(self, platform):
        m = Module()
        run, left = Signal(), Signal(signed(17), init=-1)  # words, less three: the sign tells, nothing is compared
        plane_left, plane_first, plane_last = Signal(4), Signal(), Signal()
        channel, channel_first, address = Signal(CHANNEL_BITS), Signal(), Signal(CHANNEL_BITS)
        weight, parameter, accumulate_only = Signal(16), Signal(16), Signal()
        tile, command = self.step.tile, self.command
        m.d.comb += [
            self.ends.eq(left[-1]),
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
            command.address.eq(address),
            command.accumulator_address.eq(channel),
            command.mask.eq(Mux((tile.mask == isa.Mask.ALL) | (self.step.pass_index == 0), tile.mask, isa.Mask.NONE)),
            command.statistics_first.eq(tile.statistics & channel_first),
            command.statistics_last.eq(tile.statistics & self.finished),
            command.logit_row.eq(tile.logit_row),
        ]
        with m.If(run):
            m.d.sync += [left.eq(left - 1), weight.eq(weight + 1), run.eq(~self.finished), self.finished.eq(self.ends)]
            m.d.sync += [plane_left.eq(Mux(plane_last, tile.planes, plane_left - 1)), plane_first.eq(plane_last)]
            m.d.sync += plane_last.eq(Mux(plane_last, self.step.single, plane_left == 2))
            with m.If(plane_last):
                m.d.sync += [channel.eq(channel + 1), channel_first.eq(0), address.eq(address + 1), parameter.eq(parameter + 1)]
        with m.If(self.start):
            following = self.i.tile
            m.d.sync += [
                run.eq(1),
                self.finished.eq(0),
                left.eq(self.i.words),
                weight.eq(following.weight_address),
                parameter.eq(following.weight_address),
                plane_left.eq(following.planes),
                plane_last.eq(self.i.single),
                plane_first.eq(1),
                channel.eq(0),
                channel_first.eq(1),
                address.eq(self.i.address),
                accumulate_only.eq(_only_accumulates(following)),
            ]
        self._destination(m, run, plane_last)
        return m

    def _destination(self, m, run, plane_last):
        """What becomes of a result; `kind` is a register, and so is what it changes to within QKV."""
        tile, command, kind = self.step.tile, self.command, Signal(WriteKind)
        kinds = {
            isa.Destination.ACTIVATION: (WriteKind.ACTIVATION, Limits.ACTIVATION),
            isa.Destination.RESIDUAL: (WriteKind.RESIDUAL, Limits.SIGNED16),
            isa.Destination.QKV: (WriteKind.ACTIVATION, Limits.SIGNED8),
            isa.Destination.LOGITS: (WriteKind.LOGIT, Limits.SIGNED16),
        }
        self._qkv_counters(m, plane_last, kind)
        m.d.comb += command.kind.eq(Mux(run & plane_last, kind, WriteKind.NONE))
        with m.Switch(tile.destination):
            for destination, (_, limits) in kinds.items():
                with m.Case(destination):
                    m.d.comb += command.limits.eq(limits)
                    if destination == isa.Destination.ACTIVATION:
                        m.d.comb += command.limits.eq(Mux(tile.table_enable, Limits.TABLE, Limits.ACTIVATION))
        with m.If(self.start):
            with m.Switch(self.i.tile.destination):
                for destination, (which, _) in kinds.items():
                    with m.Case(destination):
                        m.d.sync += kind.eq(which)
            with m.If(_only_accumulates(self.i.tile)):
                m.d.sync += kind.eq(WriteKind.NONE)

    def _qkv_counters(self, m, plane_last, kind):
        """Queries, keys, values, each of the tile's heads; `head` is a place of the key/value memory. What is counted after a step's end
        does no harm: the next one begins anew."""
        tile, is_qkv = self.step.tile, Signal()
        left, left_last, dim, dim_last, head = Signal(8), Signal(), Signal(8), Signal(), Signal(8)
        m.d.comb += [self.command.head.eq(head), self.command.dim.eq(dim)]
        m.d.sync += left_last.eq(left == 1)  # known one cycle late: a head has at least two channels
        with m.If(plane_last & is_qkv):
            m.d.sync += [dim.eq(Mux(dim_last, 0, dim + 1)), dim_last.eq(dim == self.config.shape.head_dim - 2)]
            with m.If(dim_last):
                m.d.sync += [left.eq(left - 1), head.eq(head + 1)]
                with m.If(left_last):
                    m.d.sync += [left.eq(tile.heads), head.eq(tile.key_value_head)]
                    m.d.sync += kind.eq(Mux(kind == WriteKind.ACTIVATION, WriteKind.KEY, WriteKind.VALUE))
        with m.If(self.start):
            m.d.sync += [
                is_qkv.eq(self.i.tile.destination == isa.Destination.QKV),
                dim.eq(0),
                dim_last.eq(0),
                left.eq(self.i.tile.heads),
                head.eq(self.i.tile.key_value_head),
            ]
