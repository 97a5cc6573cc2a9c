"""LINEAR: output pairs of a fully connected layer, a weight word per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from model import integer
from rtl.efficientvit.head_command import (
    HEAD_COMMAND,
    PAIR_BITS,
    PAIR_PARAMETERS,
    PARAMETER_BITS,
    WEIGHT_BITS,
    WORD_ADDRESS_BITS,
    WORD_CHANNELS,
)
from rtl.efficientvit.head_memories import PAIR_WRITE, SLICE_BITS, SLICES, VECTOR_BITS, HeadMemories
from rtl.tech.dsp48e2 import PairProduct, product_latency
from rtl.units.protocol import delay
from rtl.units.requantize import Limits, Requantize, RequantizeConfig

#: From the address of a pair's last word to its sums, and to its results.
_SUMMED = HeadMemories.latency + product_latency(WORD_CHANNELS) + 1
_WRITTEN = _SUMMED + Requantize.latency


class HeadLinear(wiring.Component):
    """For each pair, words 0 .. words - 1: sum += weights * (codes - code_offset(bits)); then both sums are requantized to s16.

    Parameters
    ----------
    technology : see `rtl.tech.dsp48e2`        bits : of a code

    Members
    -------
    i : In(stream of HEAD_COMMAND), of kind LINEAR
    weight_address, vector_address, parameter_address : Out        weights, vector, parameters : In, `HeadMemories.latency` cycles later
    write : Out(PAIR_WRITE)        done : Out(1): strobe per command: its last write can be read

    Timing
    ------
    words * pairs cycles per command, and none between commands that wait. A pair is written ``latency`` = 24 cycles after its last word's
    address, which comes words * pairs cycles after the command was taken; done ``done_latency`` = 26 cycles after the last pair's.

    Resources: 34 DSP48E2.

    Source: model/efficientvit/interpreter.py, convolve; requantize_code with limits WIDE.
    """

    latency = _WRITTEN
    done_latency = _WRITTEN + HeadMemories.written

    def __init__(self, technology, bits: int):
        self.technology, self.bits = technology, bits
        super().__init__(
            {
                "i": In(stream.Signature(HEAD_COMMAND)),
                "weight_address": Out(WEIGHT_BITS),
                "vector_address": Out(VECTOR_BITS),
                "parameter_address": Out(PARAMETER_BITS),
                "weights": In(SLICES * SLICE_BITS),
                "vector": In(WORD_CHANNELS * bits),
                "parameters": In(PAIR_PARAMETERS),
                "write": Out(PAIR_WRITE),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        first, last, ends, parameter, target = self._walk(m)
        sums = self._sums(m, delay(m, first, _SUMMED - 1, name="first"))
        m.d.comb += self.parameter_address.eq(delay(m, parameter, _SUMMED - HeadMemories.latency, name="parameter"))
        summed = delay(m, last, _SUMMED, name="last", reset=True)
        results = []
        for lane, total in enumerate(sums):
            m.submodules[f"requantize_{lane}"] = unit = RequantizeConfig(technology=self.technology).build()
            m.d.comb += [unit.i_accumulator.payload.eq(total), unit.i_accumulator.valid.eq(summed), unit.limits.eq(Limits.SIGNED16)]
            m.d.comb += [getattr(unit, name).eq(self.parameters[lane][name]) for name in ("bias", "multiplier", "shift")]
            results.append(unit.o.payload)
        # the last register has a reset, so that no address comes out of a shift-register LUT
        target = delay(m, delay(m, target, _WRITTEN - 1, name="target"), 1, name="write", reset=True)
        m.d.comb += [
            self.write.values.eq(Cat(results)),
            self.write.valid.eq(unit.o.valid),
            Cat(self.write.pair, self.write.logits, self.write.image).eq(target),
            self.done.eq(delay(m, ends, self.done_latency, name="ends", reset=True)),
        ]
        return m

    def _walk(self, m):
        """Addresses of a word; whether it is a pair's first, last, the command's last; the pair's parameters and target."""
        command, held = self.i.payload, Signal(HEAD_COMMAND, reset_less=True)
        running, first, take = Signal(), Signal(reset_less=True), Signal()
        word, weight = Signal(WORD_ADDRESS_BITS, reset_less=True), Signal(WEIGHT_BITS, reset_less=True)
        parameter, pair = Signal(PARAMETER_BITS, reset_less=True), Signal(PAIR_BITS, reset_less=True)
        # words and pairs after this one, less one: the sign tells the last
        words = Signal(len(command.words) + 1, reset_less=True)
        words_left, pairs_left = Signal.like(words, reset_less=True), Signal(PAIR_BITS + 1, reset_less=True)
        ends = words_left[-1] & pairs_left[-1]
        m.d.comb += [self.i.ready.eq(~running | ends), take.eq(self.i.valid & self.i.ready)]
        m.d.sync += [running.eq(take | (running & ~ends)), weight.eq(weight + 1), word.eq(word + 1), first.eq(0)]
        m.d.sync += words_left.eq(words_left - 1)
        with m.If(words_left[-1]):
            m.d.sync += [word.eq(0), words_left.eq(words), first.eq(1)]
            m.d.sync += [parameter.eq(parameter + 1), pair.eq(pair + 1), pairs_left.eq(pairs_left - 1)]
        with m.If(take):
            m.d.sync += [held.eq(command), weight.eq(command.weights), word.eq(0), first.eq(1), parameter.eq(command.parameters)]
            m.d.sync += [words.eq(command.words - 2), words_left.eq(command.words - 2), pair.eq(command.first)]
            m.d.sync += pairs_left.eq(command.pairs - 2)
        m.d.comb += [self.weight_address.eq(weight), self.vector_address.eq(Cat(word, held.norm_vector))]
        return first, running & words_left[-1], running & ends, parameter, Cat(pair, held.logits, held.image)

    def _sums(self, m, first):
        """Both sums. 4,096 products of 127 and 128 fit the accumulator."""
        m.submodules.product = product = PairProduct(WORD_CHANNELS, self.technology)
        for lane in range(WORD_CHANNELS):
            code = self.vector.word_select(lane, self.bits)
            weights = [self.weights.word_select(lane + WORD_CHANNELS * k, 8) for k in range(2)]
            m.d.comb += [
                product.x0[lane].eq(weights[0].as_signed()),
                product.x1[lane].eq(weights[1].as_signed()),
                product.y[lane].eq(Cat(code[:-1], ~code[-1]).as_signed()),
            ]
        sums = [Signal(signed(integer.ACCUMULATOR_BITS), name=f"sum_{lane}", reset_less=True) for lane in range(2)]
        for total, part in zip(sums, (product.sum0, product.sum1), strict=True):
            m.d.sync += total.eq(self.technology.add_gated(m, part, total, ~first, len(total)))
        return sums
