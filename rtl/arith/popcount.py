"""Dot products by XNOR and popcount, one activation bit plane at a time in space: all planes in parallel, then shift and add.

The encodings. A weight bit w stands for W = 2w - 1, and so does a plane bit a for A = 2a - 1: {0,1} <-> {-1,+1}. Over n inputs

    sum(W * A) = 2 * matches - n         matches = popcount(xnor(w, a))
    sum(W)     = 2 * ones - n            ones = popcount(w)

but the activation's bit counts as a, not as A: a = (A + 1) / 2, so plane k contributes

    sum(W * a) = (sum(W * A) + sum(W)) / 2 = matches + ones - n

and y = sum(2**k * (matches_k + ones - n)). Pad correction: an unfilled input has w = 0 and a = 0, hence one match that the n cancels;
so n is always `inputs`, and the first chunk of a vector must clear the bits behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.chunk_collector import ChunkCollector
from rtl.arith.dot_ports import delayed, dot_members, subtract
from rtl.arith.ternary_tree import registered_sum, tree_cost, tree_cost_of, tree_levels
from rtl.cost import Cost
from rtl.shapes import CHUNK, activation_maximum, ceil_div, total_shape, unsigned_for, wrap
from rtl.tech.generic import Generic
from rtl.tech.technology import Technology

#: Inputs of the first counting level: each result bit is one LUT6.
LEAF = 6


class PlaneBanks(wiring.Component):
    """Two banks of `bits` bit planes of `inputs` bits, written a chunk at a time.

    Members
    -------
    full, chunk, opening, bank : from the `ChunkCollector`; an opening chunk clears the rest of its bank
    planes : per bank, the planes, least significant first; a chunk with `full` in cycle c is in them from cycle c + 1
    """

    def __init__(self, *, inputs: int, bits: int):
        self.inputs, self.bits = inputs, bits
        super().__init__(
            {
                "full": In(1),
                "chunk": In(data.ArrayLayout(bits, CHUNK)),
                "opening": In(1),
                "bank": In(1),
                "planes": Out(data.ArrayLayout(data.ArrayLayout(inputs, bits), 2)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chunks = ceil_div(self.inputs, CHUNK)
        behind, position = Signal(chunks), Signal(chunks)  # one-hot: the last chunk, and this one
        m.d.comb += position.eq(Mux(self.opening, 1, (behind << 1)[:chunks]))
        with m.If(self.full):
            m.d.sync += behind.eq(position)
        for bank in range(2):
            for chunk in range(chunks):
                size = min(CHUNK, self.inputs - chunk * CHUNK)
                bits = slice(chunk * CHUNK, chunk * CHUNK + size)
                with m.If(self.full & (self.bank == bank) & (position[chunk] | self.opening)):
                    m.d.sync += [
                        self.planes[bank][plane][bits].eq(Cat(self.chunk[k][plane] for k in range(size)) & position[chunk].replicate(size))
                        for plane in range(self.bits)
                    ]
        return m


class Popcounter(wiring.Component):
    """``o = number of ones in i``, ``latency = 1 + tree_levels(ceil(width / LEAF))`` cycles later.

    Leaf j counts bits j, j + leaves, j + 2*leaves, ...: whole slices are added in carry-save form, bit by bit, which costs one LUT6 per
    result bit and is quick in simulation. A register, then a ternary tree.

    Parameters
    ----------
    width : bits to count
    technology : builds the adders
    """

    def __init__(self, *, width: int, technology: Technology):
        self.width, self.technology = width, technology
        self.leaves = ceil_div(width, LEAF)
        self.latency = 1 + tree_levels(self.leaves)
        super().__init__({"i": In(width), "o": Out(unsigned_for(width))})

    def elaborate(self, platform):
        m = Module()
        padded = Cat(self.i, Const(0, self.leaves * LEAF - self.width))
        slices = [padded[k * self.leaves : (k + 1) * self.leaves] for k in range(LEAF)]
        one, two, four = (Signal(self.leaves, name=name, reset_less=True) for name in ("one", "two", "four"))
        left, right = _add_bits(*slices[:3]), _add_bits(*slices[3:])
        twos = _add_bits(left[1], right[1], left[0] & right[0])
        m.d.sync += [one.eq(left[0] ^ right[0]), two.eq(twos[0]), four.eq(twos[1])]
        terms = [(Cat(one[j], two[j], four[j]), LEAF) for j in range(self.leaves)]
        m.d.comb += self.o.eq(wrap(registered_sum(m, terms, self.technology), self.o.shape()))
        return m


def _add_bits(a: Value, b: Value, c: Value) -> tuple[Value, Value]:
    """Full adders, bit by bit: (sums, carries)."""
    return a ^ b ^ c, (a & b) | (a & c) | (b & c)


class PopcountDatapath(wiring.Component):
    """Collector -> planes -> XNOR -> counts -> shift and add. See `Popcount` for the formulas, `XnorMatmul` for the ports."""

    def __init__(self, *, inputs: int, bits: int, technology: Technology):
        self.inputs, self.bits, self.technology = inputs, bits, technology
        super().__init__(dot_members(inputs, bits))

    def elaborate(self, platform):
        m = Module()
        m.submodules.collector = collector = ChunkCollector(inputs=self.inputs, bits=self.bits)
        m.submodules.banks = banks = PlaneBanks(inputs=self.inputs, bits=self.bits)
        wiring.connect(m, wiring.flipped(self.i_activations), collector.i)
        m.d.comb += [getattr(banks, name).eq(getattr(collector, name)) for name in ("full", "chunk", "opening", "bank")]
        weights = self.i_weights.p
        ones = self._count(m, "ones", weights.weights)
        matches = []
        for plane in range(self.bits):
            activations = Mux(weights.bank, banks.planes[1][plane], banks.planes[0][plane])
            matches.append(self._count(m, f"matches_{plane}", ~(weights.weights ^ activations)))
        terms = []
        for plane, count in enumerate(matches):
            both = Signal(unsigned_for(2 * self.inputs), name=f"both_{plane}", reset_less=True)
            m.d.sync += both.eq(self.technology.add(m, [count, ones], both.shape()))
            terms.append((Cat(Const(0, plane), both), 2 * self.inputs << plane))
        total = registered_sum(m, terms, self.technology)
        correction = self.inputs * activation_maximum(self.bits)
        subtract(m, self, total, Const(correction))
        latency = Popcount().latency(self.inputs, self.bits)
        m.d.comb += self.o.valid.eq(delayed(m, self.i_weights.valid, latency, "valid"))
        return m

    def _count(self, m: Module, name: str, bits: Value) -> Value:
        counter = Popcounter(width=self.inputs, technology=self.technology)
        m.submodules[name] = counter
        m.d.comb += counter.i.eq(wrap(bits, counter.i.shape()))
        return counter.o


@dataclass(frozen=True, kw_only=True)
class Popcount:
    """Strategy: bit planes in registers, XNOR and popcount of each with the weights, shift and add. The encodings are in this file's head.

    Parameters
    ----------
    technology : what the adders are made of

    Timing
    ------
    latency = 3 + levels(ceil(inputs / LEAF)) + levels(bits)    leaves, tree, matches + ones, tree over planes, correction;
              levels(n) = ceil(log3(n))
    fill_lead = 2                                               collected (1), planes written (1)

    A chunk is written at once, so a new vector leaves weight beats alone for CHUNK - 1 cycles longer than `fill_lead` promises.
    """

    technology: Technology = field(default_factory=Generic)

    def latency(self, inputs: int, bits: int) -> int:
        return 3 + tree_levels(ceil_div(inputs, LEAF)) + tree_levels(bits)

    def fill_lead(self, inputs: int, bits: int) -> int:
        return 2

    def cost(self, inputs: int, bits: int) -> Cost:
        """Trees and adders exactly; per plane and input, what matches and counts it, and per input, what counts the weights' ones."""
        leaves, both = ceil_div(inputs, LEAF), unsigned_for(2 * inputs).width
        counter = tree_cost(leaves, LEAF) + Cost(ff=3 * leaves)
        planes = tree_cost_of([2 * inputs << plane for plane in range(bits)])
        own = Cost(
            lut=bits * both,
            ff=2 * bits * inputs + bits * both + CHUNK * bits + inputs // CHUNK,
            priced_lut={"plane inputs": bits * inputs, "inputs": inputs, "total bits": total_shape(inputs, bits).width},
            priced_ff={"total bits": total_shape(inputs, bits).width},
        )
        return (bits + 1) * counter + planes + own

    def datapath(self, inputs: int, bits: int) -> PopcountDatapath:
        return PopcountDatapath(inputs=inputs, bits=bits, technology=self.technology)
