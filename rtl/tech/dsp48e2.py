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

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.tech.generic import Generic
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


def product_latency(lanes):
    """Cycles of a `PairProduct`: its longest cascade, then one per level of ternary adders."""
    lengths = cascade_lengths(lanes)
    levels = 0
    while 3**levels < len(lengths):
        levels += 1
    return cascade_latency(lengths[0]) + levels


def product_stagger(lanes):
    """Cycles after lane 0 at which each staggered lane of a `PairProduct` comes: its place in its cascade."""
    return tuple(place for length in cascade_lengths(lanes) for place in range(length))


def delay(m, value, cycles):
    """`value`, `cycles` cycles later. No reset, so that a tool may use a shift-register LUT."""
    for _ in range(cycles):
        later = Signal(value.shape(), reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value


# OPMODE is W, Z, Y, X (2 + 3 + 2 + 2 bits). X and Y both select the multiplier; W is zero.
_MULTIPLY_PLUS_C = 0b00_011_01_01
_MULTIPLY_PLUS_PCIN = 0b00_001_01_01


def _slice(m, name, *, a, b, d, opmode, c=None, pcin=None, a_registers=1):
    """One DSP48E2: p = (a + d) * b + (c or pcin), fully pipelined. Returns (p, pcout).

    Cycles from port to p: d, b: 4; a: 3 + `a_registers`; c: 2; pcin: 1.
    INMODE 00100 adds the D port to A2 and multiplies by B2. Controls are constants, so their registers are bypassed.
    """
    p, pcout = Signal(signed(48), name=f"{name}_p"), Signal(48, name=f"{name}_pcout")
    m.submodules[name] = Instance(
        "DSP48E2",
        p_USE_MULT="MULTIPLY",
        p_USE_SIMD="ONE48",
        p_USE_PATTERN_DETECT="NO_PATDET",
        p_USE_WIDEXOR="FALSE",
        p_AMULTSEL="AD",
        p_BMULTSEL="B",
        p_PREADDINSEL="A",
        p_A_INPUT="DIRECT",
        p_B_INPUT="DIRECT",
        p_AREG=a_registers,
        p_ACASCREG=a_registers,
        p_BREG=2,
        p_BCASCREG=2,
        p_CREG=1 if c is not None else 0,
        p_DREG=1,
        p_ADREG=1,
        p_MREG=1,
        p_PREG=1,
        p_INMODEREG=0,
        p_OPMODEREG=0,
        p_ALUMODEREG=0,
        p_CARRYINREG=0,
        p_CARRYINSELREG=0,
        i_CLK=ClockSignal(),
        i_A=_extend(m, a, 30),
        i_B=_extend(m, b, 18),
        i_D=_extend(m, d, 27),
        i_C=Const(0, 48) if c is None else _extend(m, c, 48),
        i_PCIN=Const(0, 48) if pcin is None else pcin,
        i_ACIN=Const(0, 30),
        i_BCIN=Const(0, 18),
        i_CARRYIN=Const(0, 1),
        i_CARRYCASCIN=Const(0, 1),
        i_MULTSIGNIN=Const(0, 1),
        i_INMODE=Const(0b00100, 5),
        i_OPMODE=Const(opmode, 9),
        i_ALUMODE=Const(0, 4),
        i_CARRYINSEL=Const(0, 3),
        i_CEA1=Const(a_registers == 2, 1),
        i_CEA2=Const(1, 1),
        i_CEB1=Const(1, 1),
        i_CEB2=Const(1, 1),
        i_CEC=Const(c is not None, 1),
        i_CED=Const(1, 1),
        i_CEAD=Const(1, 1),
        i_CEM=Const(1, 1),
        i_CEP=Const(1, 1),
        i_CEALUMODE=Const(0, 1),
        i_CECARRYIN=Const(0, 1),
        i_CECTRL=Const(0, 1),
        i_CEINMODE=Const(0, 1),
        i_RSTA=Const(0, 1),
        i_RSTB=Const(0, 1),
        i_RSTC=Const(0, 1),
        i_RSTD=Const(0, 1),
        i_RSTM=Const(0, 1),
        i_RSTP=Const(0, 1),
        i_RSTALLCARRYIN=Const(0, 1),
        i_RSTALUMODE=Const(0, 1),
        i_RSTCTRL=Const(0, 1),
        i_RSTINMODE=Const(0, 1),
        o_P=p,
        o_PCOUT=pcout,
    )
    return p, pcout


def _extend(m, value, width):
    """`value`, sign-extended to `width` bits (a port of an instance is not extended by itself)."""
    wide = Signal(signed(width))
    m.d.comb += wide.eq(value)
    return wide


class _Generic(Generic):
    """Plain arithmetic, then the pipeline as a delay of the result: the least work for a simulator."""

    name = "generic"

    def multiply_add(self, m, unit):
        m.d.comb += unit.p.eq(delay(m, _extend(m, (unit.a + unit.d) * unit.b + unit.c, 48), unit.latency))

    def pair_cascade(self, m, unit):
        staggered = unit.x_staggered or unit.y_staggered
        for x, total in ((unit.x0, unit.sum0), (unit.x1, unit.sum1)):
            exact = Const(0, signed(1))
            for k in range(unit.lanes):
                operands = x[k], unit.y[k]
                if staggered:  # then add as the cascade does, lane k in cycle k
                    exact = delay(m, _extend(m, exact, total.shape().width), 1)
                    operands = (delay(m, x[k], 0 if unit.x_staggered else k), delay(m, unit.y[k], 0 if unit.y_staggered else k))
                exact = exact + operands[0] * operands[1]
            remaining = SLICE_LATENCY if staggered else unit.latency
            flip = -1 << (len(total) - 1) if total is unit.sum0 and unit.flipped else 0
            m.d.comb += total.eq(delay(m, _extend(m, exact, len(total)), remaining) ^ flip)

    def add_signed(self, m, terms, width):
        """Sum of up to three (signed value, whether its sign bit is inverted)."""
        return sum((value ^ (-1 << (len(value) - 1)) if flipped else value).as_signed() for value, flipped in terms)


class _UltraScale(Ultrascale):
    """Explicit DSP48E2 slices; adders as `rtl.tech.ultrascale` makes them."""

    name = "ultrascale"

    def multiply_add(self, m, unit):
        p, _ = _slice(m, "dsp", a=unit.a, d=unit.d, b=unit.b, c=delay(m, unit.c, 2), opmode=_MULTIPLY_PLUS_C)
        m.d.comb += unit.p.eq(p)

    def pair_cascade(self, m, unit):
        """Lane k of the cascade works k cycles late: its operands wait in shift registers, one of x0's in the slice (A1)."""
        p = pcin = None
        for k in range(unit.lanes):
            x_wait, y_wait = (0 if unit.x_staggered else k), (0 if unit.y_staggered else k)
            in_slice = min(x_wait, 1)
            x0 = delay(m, unit.x0[k], x_wait - in_slice)
            x1 = delay(m, unit.x1[k], x_wait)
            y = delay(m, unit.y[k], y_wait)
            first = {"opmode": _MULTIPLY_PLUS_C, "c": Const(1 << (LANE_BITS - 1), signed(48))}
            p, pcin = _slice(
                m,
                f"dsp{k}",
                a=x0,
                a_registers=1 + in_slice,
                d=Cat(Const(0, LANE_BITS), x1).as_signed(),
                b=y,
                **(first if k == 0 else {"opmode": _MULTIPLY_PLUS_PCIN, "pcin": pcin}),
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


class _PairUnit(wiring.Component):
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


class PairCascade(_PairUnit):
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


class PairProduct(_PairUnit):
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
        m.d.comb += [self.sum0.eq(_add_tree(m, sums[0], self.technology)), self.sum1.eq(_add_tree(m, sums[1], self.technology))]
        return m


def _add_tree(m, terms, technology):
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
