"""`ArraySequencer`: a STEP, cycle by cycle: which word is read, which weights meet it, and what becomes of the sum."""

from __future__ import annotations

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.isa import PAIRS, PAYLOAD, Opcode
from rtl.efficientvit.row_bus import ADDRESS_BITS

Step = data.StructLayout(dict(PAYLOAD[Opcode.STEP]))
#: A word of results and where it goes, for the collector: the step's fields, the word's number, and whether it is the step's last.
Emission = data.StructLayout(
    {
        "valid": 1,
        "last": 1,
        "ring": 1,
        "attention": 1,
        "pool": 1,
        "pool_word": 7,
        "pool_begin": 1,
        "pixels": 7,
        "key_value": 9,
        "bank": 3,
        "address": 10,
        "column": 9,
        "width": 9,
        "pitch": 7,
        "lines_left": 5,
        "ring_words": 11,
    }
)
#: One product of every row.
Product = data.StructLayout(
    {
        "valid": 1,
        "read": 1,  # the operand's word; else the register keeps its own
        "shortcut_read": 1,
        "address": ADDRESS_BITS,
        "state": 1,  # weights from the state memory
        "weight_address": 13,
        "parameter_address": 11,
        "first": 1,
        "last": 1,
        "divisor": 1,
        "slot": 4,
        "word_begins": 1,  # the pair is the first of its word
        "word": 1,  # this product completes a word
        "write": 1,
        "target": ADDRESS_BITS,
        "hardswish": 1,
        "fraction": 3,
        "shortcut_enable": 1,
        "shortcut_zero": 8,
        "quotient": 1,
        "zero": 8,
        "low": 1,
        "exponent_low": 5,
        "emission": Emission,
        "ends": 1,  # the step's last product
    }
)


class ArraySequencer(wiring.Component):
    """
    Members
    -------
    i : stream of STEP payloads
    o : what every row does in this cycle; a register
    busy : a step is under way        starts, index : strobe, and number of the step that starts

    Timing
    ------
    A step takes 16 * words * outputs cycles, or with one word each (grouped) 16 * outputs, a score 16 more. Steps start at multiples of 16
    cycles: then results of different steps never meet on a collection bus. Steps that are there in time follow without a gap.

    The words of an operand are read forth and back: the word at each turn stays in the row's register, and the read port is free
    for the shortcut. A pair's weights are stored in that order (`rtl.efficientvit.program.pack`).
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(Step)), "o": Out(Product), "busy": Out(1), "starts": Out(1), "index": Out(16)})

    def elaborate(self, platform):
        m = Module()
        step, active, phase = Signal(Step), Signal(), Signal(range(PAIRS))
        pair, word, output = Signal(range(PAIRS)), Signal(7), Signal(6)
        divisors, fresh = Signal(), Signal()  # the divisors of a score; nothing has been read yet
        ends_pair, ends_word, ends, take = Signal(), Signal(), Signal(), Signal()
        single = step.grouped | step.score
        m.d.sync += phase.eq(phase + 1)
        m.d.comb += [
            ends_pair.eq(single | (word == step.words - 1)),
            ends_word.eq(ends_pair & (pair == PAIRS - 1)),
            ends.eq(active & ends_word & ~divisors & (output == step.outputs - 1)),
            take.eq((~active | ends) & (phase == PAIRS - 1) & self.i.valid),
            self.i.ready.eq(take),
            self.busy.eq(active),
            self.starts.eq(take),
        ]
        with m.If(active):
            m.d.sync += [fresh.eq(0), word.eq(Mux(ends_pair, 0, word + 1))]
            with m.If(ends_pair):
                m.d.sync += pair.eq(pair + 1)
            with m.If(ends_word):
                m.d.sync += divisors.eq(0)
                with m.If(~divisors):
                    m.d.sync += output.eq(output + 1)
        with m.If(ends):
            m.d.sync += active.eq(0)
        with m.If(take):
            m.d.sync += [
                step.eq(self.i.payload),
                active.eq(1),
                fresh.eq(1),
                divisors.eq(self.i.payload.score),
                word.eq(0),
                output.eq(0),
                self.index.eq(self.index + 1),
            ]
        address = self._addresses(m, step, active, take, divisors, single, ends_pair, ends_word)
        self._product(m, step, active, divisors, fresh, single, pair, word, output, ends_pair, ends_word, ends, address)
        return m

    def _addresses(self, m, step, active, take, divisors, single, ends_pair, ends_word):
        """Addresses of operand, weights and parameters, each a register that steps. Forth and back: the direction turns with every pair."""
        operand, back = Signal(ADDRESS_BITS), Signal()
        weight, parameter = Signal(13), Signal(11)
        with m.If(active):
            m.d.sync += weight.eq(weight + 1)
            with m.If(ends_pair & ~step.score):
                m.d.sync += parameter.eq(parameter + 1)
            with m.If(single):
                with m.If(divisors):
                    m.d.sync += operand.eq(Mux(ends_word, step.source, operand + step.source_stride))
                with m.Elif(ends_word):
                    m.d.sync += operand.eq(operand + step.source_stride)
            with m.Elif(ends_pair):
                m.d.sync += back.eq(~back)
            with m.Else():
                m.d.sync += operand.eq(Mux(back, operand - 1, operand + 1))
        with m.If(take):
            m.d.sync += [
                operand.eq(self.i.payload.source),
                back.eq(0),
                weight.eq(self.i.payload.weight_address),
                parameter.eq(self.i.payload.parameter_address),
            ]
        return operand, weight, parameter

    def _product(self, m, step, active, divisors, fresh, single, pair, word, output, ends_pair, ends_word, ends, address):
        operand, weight, parameter = address
        o, emission = self.o, self.o.emission
        begins, shortcut = Signal(), Signal()
        m.d.comb += [begins.eq(word == 0), shortcut.eq(active & step.shortcut_enable & begins & (pair == 1))]
        attended = step.attention & (output != 0)
        m.d.sync += [
            o.valid.eq(active),
            o.read.eq(active & Mux(single, divisors | (pair == 0), fresh | ~begins)),
            o.shortcut_read.eq(shortcut),
            o.address.eq(Mux(shortcut, (step.shortcut + output)[:ADDRESS_BITS], operand)),
            o.state.eq(step.score),
            o.weight_address.eq(weight),
            o.parameter_address.eq(parameter),
            o.first.eq(begins),
            o.last.eq(active & ends_pair),
            o.divisor.eq(divisors),
            o.slot.eq(Mux(divisors, pair, output[:4])),
            o.word_begins.eq(pair == 0),
            o.word.eq(active & ends_word & ~divisors),
            o.write.eq(step.write),
            o.target.eq(step.target + output),
            o.quotient.eq(step.score),
            *(
                o[name].eq(step[name])
                for name in ("hardswish", "fraction", "shortcut_enable", "shortcut_zero", "zero", "low", "exponent_low")
            ),
            o.ends.eq(ends),
            emission.valid.eq(active & ends_word & ~divisors),
            emission.last.eq(ends),
            emission.attention.eq(attended),
            emission.key_value.eq(step.key_value + Mux(output == 2, Const(1), 0)),
            emission.address.eq(step.address + output),
            emission.pool_word.eq(step.key_value + output),
            emission.pool_begin.eq(step.bank[0]),
            *(
                emission[name].eq(step[name])
                for name in ("ring", "pool", "pixels", "bank", "column", "width", "pitch", "lines_left", "ring_words")
            ),
        ]
