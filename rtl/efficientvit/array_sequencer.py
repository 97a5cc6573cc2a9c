"""`ArraySequencer`: a STEP, cycle by cycle: which word is read, which weights meet it, and what becomes of the sum."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import Cat, Module, Mux, Signal, signed
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
        "line_left": 9,  # pixels of the line from the first one on
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
        "pair": 4,
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

#: Less two: products per pair, which are also times 16 cycles per word; words per step.
_Counts = data.StructLayout({"words": signed(8), "outputs": signed(7)})
_Control = data.StructLayout(
    {
        **{name: Product[name].shape for name in ("valid", "read", "first", "last", "divisor", "pair", "word", "ends")},
        "shortcut": 1,
        "shortcut_address": ADDRESS_BITS,
        "operand": ADDRESS_BITS,
        "weight": 13,
        "parameter": 11,
        "parameter_next": 1,
        "output": 6,
    }
)


#: Between the offer of a step and its first cycle, at least; from a cycle of a step to its product: cycles.
OFFER_CYCLES, COMMAND_CYCLES = 2, 2


def step_cycles(step: Mapping[str, int]) -> int:
    """Of a STEP with these fields: 16 per product of a pair and output word; a score has 16 divisors more."""
    words = 1 if step["grouped"] or step["score"] else step["words"]
    return PAIRS * (step["outputs"] * words + step["score"])


class ArraySequencer(wiring.Component):
    """
    Members
    -------
    i : stream of STEP payloads
    o : what every row does in this cycle; a register
    busy : a step is under way        starts, index : strobe, and number of the step that starts

    Timing
    ------
    A step takes `step_cycles`. Steps start at multiples of 16
    cycles: then results of different steps never meet on a collection bus. Steps that are there two cycles before follow without a gap.
    The product of a cycle in which the step is ``busy`` comes out two cycles later.

    The words of an operand are read forth and back: the word at each turn stays in the row's register, and the read port is free
    for the shortcut. A pair's weights are stored in that order (`rtl.efficientvit.program.pack`).

    How it keeps to two levels: what ends a pair, a word's last 16 cycles or a step is the sign of a counter that starts at its count less
    two; ends of words and steps lie on the grid, so they are told a cycle ahead.
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(Step)), "o": Out(Product), "busy": Out(1), "starts": Out(1), "index": Out(16)})

    def elaborate(self, platform):
        m = Module()
        step, active, phase = Signal(Step), Signal(), Signal(range(PAIRS))
        first, following = Signal(_Counts), Signal(_Counts)  # of the step, of the one that waits
        shapes = _Counts.members
        pairs, blocks, outputs = Signal(shapes["words"]), Signal(shapes["words"]), Signal(shapes["outputs"])  # left of each
        pair, output, divisors = Signal(range(PAIRS)), Signal(6), Signal()
        ends_pair, ends_block, ends, take = Signal(), Signal(), Signal(), Signal()
        last_block, last_word, early = blocks[-1], outputs[-1] & ~divisors, phase == PAIRS - 2
        m.d.comb += [ends_pair.eq(pairs[-1]), self.i.ready.eq(take), self.busy.eq(active), self.starts.eq(take)]
        m.d.sync += [
            phase.eq(phase + 1),
            following.words.eq(Mux(self.i.payload.grouped | self.i.payload.score, -1, self.i.payload.words - 2)),
            following.outputs.eq(self.i.payload.outputs - 2),
            ends_block.eq(early & active & last_block),  # a word's last product
            ends.eq(early & active & last_block & last_word),
            take.eq(early & self.i.valid & (~active | (last_block & last_word))),
            pairs.eq(Mux(take, following.words, Mux(ends_pair, first.words, pairs - 1))),
            pair.eq(pair + (active & ends_pair)),  # 0 again after a step
        ]
        with m.If(phase == PAIRS - 1):
            m.d.sync += blocks.eq(Mux(take, following.words, Mux(last_block, first.words, blocks - 1)))
        with m.If(ends_block):
            m.d.sync += divisors.eq(0)
            with m.If(~divisors):
                m.d.sync += [output.eq(output + 1), outputs.eq(outputs - 1)]
        with m.If(ends):
            m.d.sync += active.eq(0)
        with m.If(take):
            m.d.sync += [
                step.eq(self.i.payload),
                first.eq(following),
                active.eq(1),
                divisors.eq(self.i.payload.score),
                output.eq(0),
                outputs.eq(following.outputs),
                self.index.eq(self.index + 1),
            ]
        control = self._control(m, step, active, take, divisors, pair, output, ends_pair, ends_block, ends)
        self._product(m, *control)
        return m

    def _control(self, m, step, active, take, divisors, pair, output, ends_pair, ends_block, ends):
        """The product's flags and addresses, a cycle later, and the step with them."""
        late, control = Signal(Step, reset_less=True), Signal(_Control)
        begins, fresh, single = Signal(), Signal(), step.grouped | step.score
        back = Signal()  # the direction of reading turns with every pair
        m.d.sync += [begins.eq(take | (active & ends_pair)), fresh.eq(take), back.eq(~take & (back ^ ends_pair))]
        # from this product's operand to the next one's
        stride = Mux(divisors | ends_block, step.source_stride, 0)
        onward = Mux(ends_pair, 0, Cat(1, back, back))
        load, move = Signal(), Signal(signed(3))
        m.d.sync += [load.eq(take | (divisors & ends_block)), move.eq(Mux(single, stride, onward).as_signed())]
        m.d.sync += [
            late.eq(step),
            control.valid.eq(active),
            control.read.eq(active & Mux(single, divisors | (pair == 0), fresh | ~begins)),
            control.shortcut.eq(active & step.shortcut_enable & begins & (pair == 1)),
            control.shortcut_address.eq(step.shortcut + output),
            control.operand.eq(Mux(load, step.source, control.operand + move)),
            control.weight.eq(Mux(fresh, step.weight_address, control.weight + 1)),
            control.parameter.eq(Mux(fresh, step.parameter_address, control.parameter + control.parameter_next)),
            control.parameter_next.eq(ends_pair & ~step.score),
            control.first.eq(begins),
            control.last.eq(active & ends_pair),
            control.word.eq(ends_block & ~divisors),
            control.ends.eq(ends),
            control.divisor.eq(divisors),
            control.pair.eq(pair),
            control.output.eq(output),
        ]
        return late, control

    def _product(self, m, step, control):
        o, emission = self.o, self.o.emission
        output = control.output
        m.d.sync += [
            *(o[name].eq(control[name]) for name in ("valid", "read", "first", "last", "divisor", "pair", "word", "ends")),
            o.shortcut_read.eq(control.shortcut),
            o.address.eq(Mux(control.shortcut, control.shortcut_address, control.operand)),
            o.state.eq(step.score),
            o.weight_address.eq(control.weight),
            o.parameter_address.eq(control.parameter),
            o.slot.eq(Mux(control.divisor, control.pair, output[:4])),
            o.target.eq(step.target + output),
            o.quotient.eq(step.score),
            *(
                o[name].eq(step[name])
                for name in ("hardswish", "fraction", "shortcut_enable", "shortcut_zero", "zero", "low", "exponent_low", "write")
            ),
            emission.valid.eq(control.word),
            emission.last.eq(control.ends),
            emission.attention.eq(step.attention & (output != 0)),
            emission.key_value.eq(step.key_value + (output == 2)),
            emission.address.eq(step.address + output),
            emission.pool_word.eq(step.key_value + output),
            emission.pool_begin.eq(step.bank[0]),
            emission.line_left.eq(step.width - step.column),
            *(emission[name].eq(step[name]) for name in ("ring", "pool", "pixels", "bank", "width", "pitch", "lines_left", "ring_words")),
        ]
