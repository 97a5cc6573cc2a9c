"""Multipliers of the DSP48E2 slice: `MultiplyAdd`, `PairCascade` and `PairProduct`.

Yosys infers the bare multiplier of this slice and leaves its registers, pre-adder and post-adder in fabric, so the slice is
instantiated. Each block takes a technology, which builds the same bits with the same latency:

* `generic`: plain arithmetic. The simulation twin, and what another FPGA family gets.
* `ultrascale`: explicit DSP48E2 instances with every pipeline register in use.

Registers have no reset. Outputs are undefined until `latency` cycles of defined operands have passed.

The packed pair. Two products that share a multiplier y use one slice: the pre-adder forms x0 + 2^19 x1, so the multiplier
gives x0 y + 2^19 x1 y, and a cascade adds such words. The low lane holds 8 products of at most 127 x 255 = 259,080 < 2^18.
A negative low lane would borrow from the high one; the usual cure adds 1 to the high lane when bit 18 is set. Here the first
slice adds 2^18 through its C port instead: the low lane is then never negative, the high lane is exact, and the low sum is
bit 18 inverted above bits 17..0. That costs one inverter where the correction costs an adder of 19 bits per cascade.
"""

from functools import cache

from amaranth.hdl import Array, Cat, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.cost import Cost
from rtl.tech.dsp_running import GenericRunning, UltrascaleRunning
from rtl.tech.dsp_slice import MULTIPLY_PLUS_C, MULTIPLY_PLUS_PCIN, extend, multiplier
from rtl.tech.generic import Generic
from rtl.tech.lut_arithmetic import GenericLut, UltrascaleLut
from rtl.tech.ultrascale import Ultrascale, carry_chain, dual_lut

__all__ = [
    "MultiplyAdd",
    "PairCascade",
    "PairProduct",
    "cascade_latency",
    "cascade_lengths",
    "generic",
    "pair_sum_width",
    "product_latency",
    "product_stagger",
    "ultrascale",
]

CASCADE_LANES = 8
LANE_BITS = 19
X_LIMIT = 127
Y_LIMIT = 255
SLICE_LATENCY = 4
#: Among so many values an adder of `_UltraScale.add_selected` chooses within its LUTs.
ADDER_CHOICES = 3


def pair_sum_width(lanes):
    """Bits of a signed sum of `lanes` products of [-127, 127] by [-128, 255]."""
    return (lanes * X_LIMIT * Y_LIMIT).bit_length() + 1


def cascade_lengths(lanes):
    """Lanes of each cascade, at most 8, as even as can be, the longest first: 22 -> (8, 7, 7)."""
    count = -(-lanes // CASCADE_LANES)
    short, longer = divmod(lanes, count)
    return (short + 1,) * longer + (short,) * (count - longer)


def cascade_latency(lanes):
    """Cycles of a `PairCascade`."""
    return SLICE_LATENCY + lanes - 1


def tree_levels(terms):
    """Levels, and cycles, of `add_tree`."""
    levels = 0
    while 3**levels < terms:
        levels += 1
    return levels


def product_latency(lanes):
    """Cycles of a `PairProduct`: its longest cascade, then one per level of ternary adders."""
    lengths = cascade_lengths(lanes)
    return cascade_latency(lengths[0]) + tree_levels(len(lengths))


def product_stagger(lanes):
    """Cycles after lane 0 at which each staggered lane of a `PairProduct` comes: its place in its cascade."""
    return tuple(place for length in cascade_lengths(lanes) for place in range(length))


@cache
def product_cost(lanes):
    """Of a `PairProduct` whose operands come staggered: a slice per lane; a LUT and a register per bit of the sums of cascades."""
    lengths, lut, ff = cascade_lengths(lanes), 0, 0
    late = sum(pair_sum_width(length) for length in lengths if length < lengths[0])
    widths = [pair_sum_width(length) for length in lengths]
    while len(widths) > 1:
        triples = [widths[start : start + 3] for start in range(0, len(widths), 3)]
        widths = [max(some) + len(some) - 1 for some in triples]
        lut, ff = lut + sum(widths), ff + sum(widths)
    return Cost(dsp=lanes, lut=2 * lut, ff=2 * (ff + late))


def delay(m, value, cycles):
    """`value`, `cycles` cycles later. No reset, so that a tool may use a shift-register LUT."""
    for _ in range(cycles):
        later = Signal(value.shape(), reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value


class _Generic(Generic, GenericRunning, GenericLut):
    """Plain arithmetic, then the pipeline as a delay of the result: the least work for a simulator."""

    name = "generic"

    def multiply_add(self, m, unit):
        m.d.comb += unit.p.eq(delay(m, extend(m, (unit.a + unit.d) * unit.b + unit.c, 48), unit.latency))

    def pair_cascade(self, m, unit):
        staggered = unit.x_staggered or unit.y_staggered
        for x, total in ((unit.x0, unit.sum0), (unit.x1, unit.sum1)):
            exact = Const(0, signed(1))
            for k in range(unit.lanes):
                operands = x[k], unit.y[k]
                if staggered:  # then add as the cascade does, lane k in cycle k
                    exact = delay(m, extend(m, exact, total.shape().width), 1)
                    operands = (delay(m, x[k], 0 if unit.x_staggered else k), delay(m, unit.y[k], 0 if unit.y_staggered else k))
                exact = exact + operands[0] * operands[1]
            remaining = SLICE_LATENCY if staggered else unit.latency
            flip = -1 << (len(total) - 1) if total is unit.sum0 and unit.flipped else 0
            m.d.comb += total.eq(delay(m, extend(m, exact, len(total)), remaining) ^ flip)

    def add_signed(self, m, terms, width):
        """Sum of up to three (signed value, whether its sign bit is inverted)."""
        return sum((value ^ (-1 << (len(value) - 1)) if flipped else value).as_signed() for value, flipped in terms)

    def add_gated(self, m, plain, gated, enable, width):
        """plain + (enable ? gated : 0), both signed."""
        return (plain + Mux(enable, gated, 0))[:width].as_signed()

    def add_selected(self, m, plain, choices, select, width):
        """plain + choices[select], all signed."""
        return (plain + Array(choices)[select])[:width].as_signed()

    def choose(self, m, second, one, two):
        """second ? two : one, of one width."""
        return Mux(second, two, one)


class _UltraScale(Ultrascale, UltrascaleRunning, UltrascaleLut):
    """Explicit DSP48E2 slices; adders as `rtl.tech.ultrascale` makes them."""

    name = "ultrascale"

    def multiply_add(self, m, unit):
        p, _ = multiplier(m, "dsp", a=unit.a, d=unit.d, b=unit.b, c=delay(m, unit.c, 2), opmode=MULTIPLY_PLUS_C)
        m.d.comb += unit.p.eq(p)

    def pair_cascade(self, m, unit):
        """Lane k of the cascade works k cycles late: its operands wait in shift registers, one of x0's in the slice (A1)."""
        p = pcin = Const(0, 48)
        for k in range(unit.lanes):
            x_wait, y_wait = (0 if unit.x_staggered else k), (0 if unit.y_staggered else k)
            in_slice = min(x_wait, 1)
            x0 = delay(m, unit.x0[k], x_wait - in_slice)
            x1 = delay(m, unit.x1[k], x_wait)
            y = delay(m, unit.y[k], y_wait)
            first = {"opmode": MULTIPLY_PLUS_C, "c": Const(1 << (LANE_BITS - 1), signed(48))}
            p, pcin = multiplier(
                m,
                f"dsp{k}",
                a=x0,
                a_registers=1 + in_slice,
                d=Cat(Const(0, LANE_BITS), x1).as_signed(),
                b=y,
                **(first if k == 0 else {"opmode": MULTIPLY_PLUS_PCIN, "pcin": pcin}),
            )
        m.d.comb += [
            unit.sum0.eq((p[:LANE_BITS] if unit.flipped else Cat(p[: LANE_BITS - 1], ~p[LANE_BITS - 1])).as_signed()),
            unit.sum1.eq(p[LANE_BITS : 2 * LANE_BITS].as_signed()),
        ]

    def add_signed(self, m, terms, width):
        """One LUT per bit, as `Ultrascale.add`; an inverted sign bit is put right inside the LUTs that read it, not by one before them."""
        signs, values = [flipped for _, flipped in terms], [value for value, _ in terms]
        propagate, generate, carry = [], [], Const(0, 1)
        for index in range(width):
            bits = [value[min(index, len(value) - 1)] for value in values]
            flips = [flip and index >= len(value) - 1 for value, flip in zip(values, signs, strict=True)]
            upper, lower = _adder_functions(flips)
            o6, o5 = dual_lut(m, [*bits, carry], upper, lower)
            propagate.append(o6)
            generate.append(carry)
            carry = o5
        return carry_chain(m, propagate, generate)

    def add_gated(self, m, plain, gated, enable, width):
        """One LUT per bit."""
        plain, gated = extend(m, plain, width), extend(m, gated, width)
        bits = range(width)
        sums = [dual_lut(m, [plain[k], gated[k], enable], lambda a, b, use, *_: a ^ (b & use), lambda a, *_: a)[0] for k in bits]
        return carry_chain(m, sums, [plain[k] for k in bits]).as_signed()

    def add_selected(self, m, plain, choices, select, width):
        """One LUT per bit for up to three choices, else a multiplexer before the adder."""
        if len(choices) > ADDER_CHOICES:
            choices = [extend(m, Array(choices)[select], width)]
        plain, choices = extend(m, plain, width), [extend(m, choice, width) for choice in choices]
        choices += choices[-1:] * (3 - len(choices))
        select = [select[0], select[1]] if len(select) > 1 else [select, Const(0, 1)]
        sums = []
        for index in range(width):
            pins = {f"i_I{k}": value for k, value in enumerate([plain[index], *(choice[index] for choice in choices), *select])}
            o = Signal()
            m.submodules += Instance("LUT6", p_INIT=Const(_SELECTED_SUM, 64), o_O=o, **pins)
            sums.append(o)
        return carry_chain(m, sums, [plain[index] for index in range(width)]).as_signed()

    def choose(self, m, second, one, two):
        """Two bits to a LUT. An odd bit is left to the synthesiser."""
        bits = []
        for k in range(0, len(one) - 1, 2):
            inputs = [one[k], two[k], one[k + 1], two[k + 1], second]
            upper, lower = dual_lut(m, inputs, lambda a, b, c, d, use: d if use else c, lambda a, b, c, d, use: b if use else a)
            bits += [lower, upper]
        if len(one) % 2:
            bits.append(Mux(second, two[-1], one[-1]))
        return Cat(bits)


#: LUT6: I0 ^ (I1, I2, I3, I3)[I5, I4].
_SELECTED_SUM = sum(((address ^ address >> 1 + min(address >> 4, 2)) & 1) << address for address in range(64))


def _adder_functions(flips):
    """Carry-save sum and carry of two or three bits, some of them inverted; the input after them is the carry from below."""

    def true_bits(inputs):
        return [bit ^ flip for bit, flip in zip(inputs, flips, strict=False)]

    def upper(*inputs):
        return sum(true_bits(inputs)) + inputs[len(flips)] & 1

    def lower(*inputs):
        return int(sum(true_bits(inputs)) >= 2)

    return upper, lower


generic = _Generic()
ultrascale = _UltraScale()


class MultiplyAdd(wiring.Component):
    """p = (a + d) * b + c in one slice, a result every cycle.

    Parameters
    ----------
    technology : `generic` or `ultrascale`
    c_width : int
        Bits of `c`, at most 48. The two registers that hold `c` back are fabric: 2 x `c_width` flip-flops (none for a constant).

    Members
    -------
    a, d : In(signed(27)), whose sum must fit signed(27)
    b : In(signed(18))
    c : In(signed(c_width))
    p : Out(signed(48))

    Timing
    ------
    All four operands come in the same cycle; `p` follows `latency` = 4 cycles later. It never stalls.
    """

    latency = SLICE_LATENCY

    def __init__(self, technology=generic, *, c_width=48):
        if not 1 <= c_width <= 48:
            raise ValueError(f"c_width must be in 1..48, the C port of the slice: got {c_width}")
        self.technology = technology
        super().__init__({"a": In(signed(27)), "d": In(signed(27)), "b": In(signed(18)), "c": In(signed(c_width)), "p": Out(signed(48))})

    def elaborate(self, platform):
        m = Module()
        self.technology.multiply_add(m, self)
        return m


class PairUnit(wiring.Component):
    """Ports and parameters of `PairCascade` and `PairProduct`."""

    def __init__(self, lanes, technology=generic, *, x_staggered=False, y_staggered=False):
        if lanes < 1:
            raise ValueError(f"lanes must be 1 or more: got {lanes}")
        self.lanes, self.technology = lanes, technology
        self.x_staggered, self.y_staggered = x_staggered, y_staggered
        total = Out(signed(pair_sum_width(lanes)))
        super().__init__(
            {
                "x0": In(data.ArrayLayout(signed(8), lanes)),
                "x1": In(data.ArrayLayout(signed(8), lanes)),
                "y": In(data.ArrayLayout(signed(9), lanes)),
                "sum0": total,
                "sum1": total,
            }
        )


class PairCascade(PairUnit):
    """sum0 = sum of x0[k] y[k], sum1 = sum of x1[k] y[k] over one cascade: one slice per lane.

    Parameters
    ----------
    lanes : int, 1 to 8
    technology : `generic` or `ultrascale`
    x_staggered, y_staggered : bool
        The caller presents lane k of x0 and x1 (of y) k cycles after lane 0, which saves the shift registers of that operand:
        up to 16 (9) LUTs per lane. Operands that hop from row to row can be staggered once, at row 0.
    keep_offset : bool
        `sum0` may come with its sign bit inverted, as the slice leaves it, for an adder that puts it right; `flipped` says so.

    Members
    -------
    x0, x1 : In(ArrayLayout(signed(8), lanes)), values in [-127, 127]: -128 does not fit the packed word
    y : In(ArrayLayout(signed(9), lanes)), values in [-128, 255]: signed or unsigned bytes
    sum0, sum1 : Out(signed(pair_sum_width(lanes)))

    Timing
    ------
    Sums follow `latency` = lanes + 3 cycles after (lane 0 of) the operands. A word every cycle; it never stalls.

    Raises
    ------
    ValueError : more lanes than the low lane of the packed word can add.
    """

    def __init__(self, lanes, technology=generic, *, keep_offset=False, **staggered):
        if lanes > CASCADE_LANES:
            raise ValueError(f"a cascade adds at most {CASCADE_LANES} lanes: got {lanes}; use PairProduct")
        super().__init__(lanes, technology, **staggered)
        self.flipped = keep_offset and pair_sum_width(lanes) == LANE_BITS

    @property
    def latency(self):
        return cascade_latency(self.lanes)

    def elaborate(self, platform):
        m = Module()
        self.technology.pair_cascade(m, self)
        return m


class PairProduct(PairUnit):
    """The sums of `PairCascade` over any number of lanes: balanced cascades, added in fabric.

    Parameters and members are those of `PairCascade`, without the limit on `lanes`.
    A staggered lane k comes `product_stagger(lanes)[k]` cycles after lane 0.

    Timing
    ------
    Cascades of one product differ by at most one lane; the result of a shorter one waits a cycle.
    They are added three at a time, one register per level: `latency` = longest cascade + 3 + ceil(log3(cascades)).
    """

    @property
    def latency(self):
        return product_latency(self.lanes)

    def elaborate(self, platform):
        m = Module()
        lengths = cascade_lengths(self.lanes)
        sums, start = ([], []), 0
        for index, length in enumerate(lengths):
            cascade = PairCascade(
                length, self.technology, keep_offset=len(lengths) > 1, x_staggered=self.x_staggered, y_staggered=self.y_staggered
            )
            m.submodules[f"cascade{index}"] = cascade
            for name in ("x0", "x1", "y"):
                m.d.comb += [getattr(cascade, name)[k].eq(getattr(self, name)[start + k]) for k in range(length)]
            sums[0].append((delay(m, cascade.sum0, lengths[0] - length), cascade.flipped))
            sums[1].append((delay(m, cascade.sum1, lengths[0] - length), False))
            start += length
        m.d.comb += [self.sum0.eq(add_tree(m, sums[0], self.technology)), self.sum1.eq(add_tree(m, sums[1], self.technology))]
        return m


def add_tree(m, terms, technology):
    """Sum of (signed value, whether its sign bit is inverted), three per adder, a register after each level."""
    while len(terms) > 1:
        level = []
        for start in range(0, len(terms), 3):
            some = terms[start : start + 3]
            width = max(len(value) for value, _ in some) + len(some) - 1
            partial = Signal(signed(width), reset_less=True)
            m.d.sync += partial.eq(technology.add_signed(m, some, width))
            level.append((partial, False))
        terms = level
    return terms[0][0]
