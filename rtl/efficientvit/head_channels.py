"""POOL and NORM: codes of a vector, a channel per cycle."""

from __future__ import annotations

import dataclasses

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.integer import REQUANTIZE_SHIFTS
from rtl.efficientvit.head_command import (
    CHANNEL_BITS,
    CHANNEL_PARAMETERS,
    HEAD_COMMAND,
    NORM_PARAMETERS,
    PAIR_BITS,
    PARAMETER_BITS,
    PARAMETER_WIDTH,
    VALUE_BITS,
    HeadKind,
)
from rtl.efficientvit.head_memories import HeadMemories, code_write
from rtl.efficientvit.head_norm import HeadNorm
from rtl.efficientvit.head_walk import FETCH, HeadWalk, Phase
from rtl.efficientvit.pool_sums import ADDRESS_BITS, LANES, sums_layout
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.protocol import delay

#: From a channel's address to its parameters, and to what is requantized. POOL's sums wait as long as NORM's values take.
_PARAMETERS = FETCH + HeadNorm.OFFSETS["gamma"]
_REQUANTIZED = FETCH + HeadNorm.latency
_REQUANTIZER = CodeRequantizeConfig(shortcut=False)  # its latency is that of all widths


class HeadChannels(wiring.Component):
    """::

        pool's sums ------------------+
        values -> HeadNorm -> p ------+-> CodeRequantize -> codes

    p passes the first stage of the requantizer as it is: multiplied by 2**12 and shifted back.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`        bits : of a code

    Members
    -------
    start : In(1)        command : In(HEAD_COMMAND), of kind POOL or NORM, stable from ``start`` to ``done``        done : Out(1): strobe
    sums_address : Out        sums : In(sums_layout(bits)), 2 cycles later
    value_address, parameter_address : Out        value, parameters : In, 2 cycles later
    write : Out(code_write(bits)), ``latency`` = 39 cycles after the channel's address

    Timing
    ------
    A channel per cycle, a NORM with statistics three; see `head_walk.cycles` with drain = ``drain`` = 40.

    Resources: 4 DSP48E2.

    Source: model/efficientvit/interpreter.py, pool and normalize.
    """

    latency = _REQUANTIZED + _REQUANTIZER.latency
    drain = latency + HeadMemories.written - 1

    def __init__(self, technology, bits: int):
        self.technology, self.bits = technology, bits
        super().__init__(
            {
                "start": In(1),
                "command": In(HEAD_COMMAND),
                "done": Out(1),
                "sums_address": Out(ADDRESS_BITS),
                "sums": In(sums_layout(bits)),
                "value_address": Out(PAIR_BITS),
                "value": In(2 * VALUE_BITS),
                "parameter_address": Out(PARAMETER_BITS),
                "parameters": In(PARAMETER_WIDTH),
                "write": Out(code_write(bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.walk, m.submodules.norm = walk, norm = HeadWalk(self.drain), HeadNorm(self.technology)
        command, phase = self.command, walk.phase
        is_pool = Signal(reset_less=True)
        m.d.sync += is_pool.eq(command.kind == HeadKind.POOL)
        m.d.comb += [
            walk.start.eq(self.start),
            walk.command.eq(command),
            self.done.eq(walk.done),
            self.sums_address.eq(walk.channel[LANES.bit_length() - 1 :]),
            self.value_address.eq(walk.channel[1:]),
        ]
        parameters = self._parameters(m, phase[Phase.CODES])
        x, total = self._operands(m, walk.channel)
        m.d.comb += [
            norm.x.eq(x),
            norm.clear.eq(phase == 0),
            norm.phase.sum.eq(delay(m, phase[Phase.SUM], FETCH, name="sum", reset=True)),
            norm.phase.square.eq(delay(m, phase[Phase.SQUARE], FETCH, name="square", reset=True)),
            norm.phase.mean.eq(phase[Phase.MEAN]),
            norm.phase.mean_last.eq(phase[Phase.MEAN] & walk.ends),
            norm.phase.root.eq(phase[Phase.ROOT]),
            *(getattr(norm, name).eq(getattr(command, name)) for name in ("inverse", "dividend", "fraction")),
            *(getattr(norm, name).eq(parameters[name]) for name in ("gamma", "beta")),
        ]
        unit = self._requantize(m, is_pool, parameters)
        m.d.comb += [
            unit.i_accumulator.payload.eq(Mux(is_pool, delay(m, total, HeadNorm.latency, name="pooled"), norm.p)),
            unit.i_accumulator.valid.eq(delay(m, phase[Phase.CODES], _REQUANTIZED, name="code", reset=True)),
        ]
        self._write(m, unit.o, is_pool)
        return m

    def _operands(self, m, channel):
        """Value and pool's sum of a channel."""
        x, total = Signal(VALUE_BITS, reset_less=True), Signal(self.sums.shape().elem_shape, reset_less=True)
        channel = delay(m, channel[: LANES.bit_length() - 1], HeadMemories.latency, name="channel")
        m.d.sync += [
            x.eq(Mux(channel[0], self.value[VALUE_BITS:], self.value[:VALUE_BITS])),
            total.eq(Array(self.sums)[channel]),
        ]
        return x.as_signed(), total

    def _parameters(self, m, valid):
        """A beat per channel, in the order of channels."""
        address = Signal(PARAMETER_BITS, reset_less=True)
        with m.If(delay(m, valid, _PARAMETERS - HeadMemories.latency, name="fetch", reset=True)):
            m.d.sync += address.eq(address + 1)
        with m.If(self.start):
            m.d.sync += address.eq(self.command.parameters)
        m.d.comb += self.parameter_address.eq(address)
        return data.View(NORM_PARAMETERS, self.parameters[: NORM_PARAMETERS.size])

    def _requantize(self, m, is_pool, norm):
        """The requantizer with its parameters, each in its cycle."""
        m.submodules.requantize = unit = dataclasses.replace(_REQUANTIZER, bits=self.bits, technology=self.technology).build()
        early = delay(m, self.parameters[: CHANNEL_PARAMETERS.size], _REQUANTIZED - 1 - _PARAMETERS, name="early")
        early = data.View(CHANNEL_PARAMETERS, early)
        first = Signal(CHANNEL_PARAMETERS, reset_less=True)
        m.d.sync += [
            first.bias.eq(Mux(is_pool, early.bias, 0)),
            first.multiplier.eq(Mux(is_pool, early.multiplier, 1 << REQUANTIZE_SHIFTS[0])),
            first.shift.eq(Mux(is_pool, early.shift, 0)),
        ]
        second = _REQUANTIZED + unit.OFFSETS["second_bias"] - _PARAMETERS
        m.d.comb += [
            *(getattr(unit, name).eq(first[name]) for name in CHANNEL_PARAMETERS.members),
            *(
                getattr(unit, name).eq(delay(m, norm[name], second, name=name))
                for name in ("second_bias", "second_multiplier", "second_shift")
            ),
            unit.hardswish.eq(~is_pool),
            unit.fraction.eq(self.command.hardswish_fraction),
            unit.zero.eq(self.command.zero),
            unit.low.eq(self.command.low),
        ]
        return unit

    def _write(self, m, code, is_pool):
        channel = Signal(CHANNEL_BITS, reset_less=True)
        with m.If(code.valid):
            m.d.sync += channel.eq(channel + 1)
        with m.If(self.start):
            m.d.sync += channel.eq(Cat(Const(0, 5), self.command.first)[:CHANNEL_BITS])
        m.d.comb += [
            self.write.valid.eq(code.valid),
            self.write.norm_vector.eq(~is_pool),
            self.write.channel.eq(channel),
            self.write.code.eq(code.payload),
        ]
