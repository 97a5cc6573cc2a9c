"""The binary dot product: one output channel per cycle, out of a vector of activations that was filled before."""

from __future__ import annotations

from dataclasses import dataclass, field

from amaranth.hdl import Module, Shape
from amaranth.lib import wiring

from rtl.arith.dot_ports import Strategy, dot_members
from rtl.arith.lut_table import LutTable
from rtl.arith.popcount import Popcount
from rtl.errors import InputError
from rtl.shapes import CHUNK, GROUP, MOST_INPUTS, dot_shape

#: Name -> strategy class; each takes ``technology=``.
STRATEGIES = {"lut_table": LutTable, "popcount": Popcount}


@dataclass(frozen=True, kw_only=True)
class XnorMatmulConfig:
    """Parameters of `XnorMatmul`.

    Parameters
    ----------
    inputs : most activations of a vector: 16 .. 1024, a multiple of 4
    bits : width of an activation: 1 .. 8
    strategy : `LutTable` or `Popcount`

    Raises
    ------
    InputError : inputs or bits out of range
    """

    inputs: int
    bits: int
    strategy: Strategy = field(default_factory=LutTable)

    def __post_init__(self):
        if not CHUNK <= self.inputs <= MOST_INPUTS or self.inputs % GROUP:
            raise InputError(
                f"inputs must be {CHUNK}..{MOST_INPUTS} and a multiple of {GROUP}: {self.inputs} is not; "
                "round it up and leave inputs unfilled"
            )
        if not 1 <= self.bits <= 8:
            raise InputError(f"bits must be 1..8: {self.bits} is not; wider activations need two passes")

    @property
    def latency(self) -> int:
        """Cycles from a weight beat to its result, exactly."""
        return self.strategy.latency(self.inputs, self.bits)

    @property
    def fill_lead(self) -> int:
        """Cycles by which weights must follow activations; see `XnorMatmul`."""
        return self.strategy.fill_lead(self.inputs, self.bits)

    @property
    def shape(self) -> Shape:
        """Of a result."""
        return dot_shape(self.inputs, self.bits)

    def unit(self) -> XnorMatmul:
        return XnorMatmul(self)


class XnorMatmul(wiring.Component):
    """``y = 2*S - total``: S adds the activations whose weight bit is 1, total adds all of them (`model/integer.py`).

    Two banks hold a vector each. One is filled while the other is read: refilling costs no time. No stream is ever stalled.

    Parameters
    ----------
    config : `XnorMatmulConfig`

    Members
    -------
    i_activations : ``{value, bank, first}``. `first` begins a vector in `bank`; its k-th beat is activation k. Vectors may have gaps
        (valid low) and may be shorter than `inputs`; the weight bits of unfilled inputs must be 0, and then count for nothing, whatever
        older vectors left there. The beats of a vector must be a multiple of CHUNK (16), padded with zeros, also beyond `inputs`:
        only complete chunks are sure to take effect. All beats of a vector name the same bank.
    i_weights : ``{weights, bank}``: one output channel. Bit k belongs to activation k of the vector in `bank`.
    o : the result of each weight beat
    operands : ``{plus, minus}``, one cycle before o, whose difference o is: for who adds on, and then leaves o open

    Timing
    ------
    o is valid exactly ``config.latency`` cycles after each weight beat.

    A weight beat in cycle t sees every activation beat up to cycle ``t - config.fill_lead``; a vector that begins in cycle f leaves
    the weight beats before ``f + config.fill_lead`` untouched. So with n beats in f .. f+n-1, the vector may be read in
    [f + n - 1 + fill_lead, f2 + fill_lead), where f2 begins the next vector in the same bank::

        fill       |-- A, bank 0 --|-- B, bank 1 --|-- C, bank 0 --|
        weights    .  lead  .      |---- read A ---|---- read B ---|---- read C ...

    Cost of 768 inputs, `LutTable` on UltraScale+, yosys, before place and route: 2,561 / 2,115 / 1,665 LUT at 8 / 6 / 4 bits, of which
    tables and tree 2,386 / 1,922 / 1,514 (parts in `LutTable`); at most 2 LUT levels and 1 carry chain between registers.

    Interval: one weight beat and one activation beat per cycle. ``cycles(beats, words) = max(beats, words)`` per step.
    """

    def __init__(self, config: XnorMatmulConfig):
        self.config = config
        super().__init__(dot_members(config.inputs, config.bits))

    def elaborate(self, platform):
        m = Module()
        m.submodules.datapath = datapath = self.config.strategy.datapath(self.config.inputs, self.config.bits)
        wiring.connect(m, wiring.flipped(self.i_activations), datapath.i_activations)
        wiring.connect(m, wiring.flipped(self.i_weights), datapath.i_weights)
        wiring.connect(m, datapath.o, wiring.flipped(self.o))
        m.d.comb += self.operands.eq(datapath.operands)
        return m
