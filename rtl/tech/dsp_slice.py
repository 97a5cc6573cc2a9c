"""The DSP48E2 instance: the attributes and pins that every use of the slice shares."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, signed

# OPMODE is W, Z, Y, X (2 + 3 + 2 + 2 bits). X and Y both select the multiplier, or X takes A:B and Y takes C.
MULTIPLY_PLUS_C = 0b00_011_01_01
MULTIPLY_PLUS_PCIN = 0b00_001_01_01

_RESETS = ("A", "B", "C", "D", "M", "P", "ALLCARRYIN", "ALUMODE", "CTRL", "INMODE")


def extend(m, value, width):
    """`value`, sign-extended to `width` bits (a port of an instance is not extended by itself)."""
    wide = Signal(signed(width))
    m.d.comb += wide.eq(value)
    return wide


def instance(m, name, *, opmode, c=None, pcin=None, **pins):
    """A slice whose controls are not registered. `pins` are added to, and replace, the defaults below. Returns (p, pcout)."""
    p, pcout = Signal(signed(48), name=f"{name}_p"), Signal(48, name=f"{name}_pcout")
    settings = dict(
        p_USE_SIMD="ONE48",
        p_USE_PATTERN_DETECT="NO_PATDET",
        p_USE_WIDEXOR="FALSE",
        p_BMULTSEL="B",
        p_PREADDINSEL="A",
        p_A_INPUT="DIRECT",
        p_B_INPUT="DIRECT",
        p_CREG=1 if c is not None else 0,
        p_PREG=1,
        p_INMODEREG=0,
        p_OPMODEREG=0,
        p_ALUMODEREG=0,
        p_CARRYINREG=0,
        p_CARRYINSELREG=0,
        i_CLK=ClockSignal(),
        i_C=Const(0, 48) if c is None else extend(m, c, 48),
        i_PCIN=Const(0, 48) if pcin is None else pcin,
        i_ACIN=Const(0, 30),
        i_BCIN=Const(0, 18),
        i_CARRYIN=Const(0, 1),
        i_CARRYCASCIN=Const(0, 1),
        i_MULTSIGNIN=Const(0, 1),
        i_OPMODE=Const(opmode, 9) if isinstance(opmode, int) else opmode,
        i_ALUMODE=Const(0, 4),
        i_CARRYINSEL=Const(0, 3),
        i_CEA2=Const(1, 1),
        i_CEB1=Const(1, 1),
        i_CEB2=Const(1, 1),
        i_CEC=Const(c is not None, 1),
        i_CEP=Const(1, 1),
        i_CEALUMODE=Const(0, 1),
        i_CECARRYIN=Const(0, 1),
        i_CECTRL=Const(0, 1),
        i_CEINMODE=Const(0, 1),
        **{f"i_RST{register}": Const(0, 1) for register in _RESETS},
        o_P=p,
        o_PCOUT=pcout,
    )
    m.submodules[name] = Instance("DSP48E2", **{**settings, **pins})
    return p, pcout


def multiplier(m, name, *, a, b, d, opmode, c=None, pcin=None, a_registers=1, **pins):
    """p = (a + d) * b + (c or pcin), fully pipelined. Returns (p, pcout).

    Cycles from port to p: d, b: 4; a: 3 + `a_registers`; c: 2; pcin: 1.
    INMODE 00100 adds the D port to A2 and multiplies by B2.
    """
    settings = dict(
        p_USE_MULT="MULTIPLY",
        p_AMULTSEL="AD",
        p_AREG=a_registers,
        p_ACASCREG=a_registers,
        p_BREG=2,
        p_BCASCREG=2,
        p_DREG=1,
        p_ADREG=1,
        p_MREG=1,
        i_A=extend(m, a, 30),
        i_B=extend(m, b, 18),
        i_D=extend(m, d, 27),
        i_INMODE=Const(0b00100, 5),
        i_CEA1=Const(a_registers == 2, 1),
        i_CED=Const(1, 1),
        i_CEAD=Const(1, 1),
        i_CEM=Const(1, 1),
    )
    return instance(m, name, opmode=opmode, c=c, pcin=pcin, **{**settings, **pins})


def adder(m, name, *, word, c, opmode, **pins):
    """The slice without its multiplier: X takes `word` (48 bits, A:B), one register, as has `c`. Returns (p, pcout)."""
    wide = extend(m, word, 48)
    settings = dict(
        p_USE_MULT="NONE",
        p_AMULTSEL="A",
        p_AREG=1,
        p_ACASCREG=1,
        p_BREG=1,
        p_BCASCREG=1,
        p_DREG=0,
        p_ADREG=0,
        p_MREG=0,
        i_A=wide[18:],
        i_B=wide[:18],
        i_D=Const(0, 27),
        i_INMODE=Const(0, 5),
        i_CEA1=Const(0, 1),
        i_CED=Const(0, 1),
        i_CEAD=Const(0, 1),
        i_CEM=Const(0, 1),
    )
    return instance(m, name, opmode=opmode, c=c, **{**settings, **pins})


def opmode_bits(*, w=(0, 0), z=(0, 0, 0), y=(0, 0), x=(0, 0)):
    """OPMODE out of bits, each given most significant first: constants or signals."""
    return Cat(*(Const(bit, 1) if isinstance(bit, int) else bit for bit in reversed((*w, *z, *y, *x))))
