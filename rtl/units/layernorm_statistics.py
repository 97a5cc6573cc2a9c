"""The first half of LayerNorm, `model.integer.layernorm_statistics`: taken from residuals while they are written."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from model import integer
from rtl.statistics_bus import statistics_control
from rtl.tech.dsp48e2 import generic
from rtl.tech.dsp_running import RunningSquares, StatisticsProduct
from rtl.units.layernorm_sequence import StatisticsSequence, finish_latency
from rtl.units.protocol import delay, require
from rtl.units.root_divide import RootDivideConfig

MEAN2_BITS = 18
#: The 27-bit operand of the multiplier holds (sum1 - embed_dim / 4 * mean2) up to this width of a token.
MAXIMUM_EMBED_DIM = 1024


def sum1_shape(embed_dim: int):
    """Σx of signed 16-bit x: -embed_dim * 2**15 .. embed_dim * (2**15 - 1)."""
    return signed(bits_for(-embed_dim << (integer.RESIDUAL_BITS - 1)))


def sum2_shape(embed_dim: int):
    """Σx² of signed 16-bit x: 0 .. embed_dim * 2**30."""
    return unsigned(bits_for(embed_dim << 2 * (integer.RESIDUAL_BITS - 1)))


def energy_bits(embed_dim: int) -> int:
    """Σ(2x - mean2)² < embed_dim * 2**32: half the values at each extreme give embed_dim * 65535**2. Rounded up to even."""
    return (ceil_log2(embed_dim) + 2 * integer.RESIDUAL_BITS + 1) & ~1


@dataclass(frozen=True, kw_only=True)
class LayerNormStatisticsConfig:
    """
    Parameters
    ----------
    embed_dim : values per token, a multiple of 4 up to 1024
    tokens : whose results are kept
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    """

    embed_dim: int = 768
    tokens: int = 6
    technology: object = generic

    def __post_init__(self) -> None:
        require(self.embed_dim % 4 == 0, "embed_dim must be a multiple of 4", self.embed_dim, "round it up")
        allowed = f"embed_dim must be 4..{MAXIMUM_EMBED_DIM}"
        require(4 <= self.embed_dim <= MAXIMUM_EMBED_DIM, allowed, self.embed_dim, "choose a narrower network")
        require(1 <= self.tokens <= 32, "tokens must be 1..32", self.tokens, "use more rows")

    @property
    def token_bits(self) -> int:
        return max(1, ceil_log2(self.tokens))

    @property
    def root_divide(self) -> RootDivideConfig:
        dividend = integer.LayerNormConstants.of(self.embed_dim).dividend
        return RootDivideConfig(radicand_bits=energy_bits(self.embed_dim), dividend=dividend, quotient_bits=integer.RSQRT_BITS)

    @property
    def finish_latency(self) -> int:
        """Cycles from the last value until the results can be read, and from one last value to the next."""
        return finish_latency(self.root_divide)

    def sequence(self) -> StatisticsSequence:
        """What drives ``control``."""
        return StatisticsSequence(self.root_divide, self.token_bits, self.technology)

    def build(self) -> LayerNormStatistics:
        return LayerNormStatistics(self)


class LayerNormStatistics(wiring.Component):
    """-mean2 and rsqrt of every token, from its residuals in any order, one token after the other.

    Two DSPs: one adds up squares, one serves the three products at the end and then feeds the root.

    Parameters
    ----------
    config : LayerNormStatisticsConfig

    Members
    -------
    i : In(signed 16), a value        control : In(statistics_control), of this cycle, as `StatisticsSequence` gives it
    token : In(token_bits): the token to read
    minus_mean2 : Out(signed 18), -mean2 of ``token`` in the same cycle
    rsqrt : Out(unsigned 26), of ``token`` of the cycle before

    Timing
    ------
    A value per cycle without gaps, also where the token changes.
    The results of a token are on the read side ``finish_latency`` cycles after its last value, and stay until the
    next token in that place has finished.
    Law: a last value comes ``finish_latency`` or more cycles after the one before. Other values may come meanwhile.
    With 2n = energy_bits = 42 for 512 < embed_dim <= 1024 and a dividend of 34 bits, the cycles after the last value are::

        1..6     -mean2                   sum2 is complete in 4
        6..11    embed_dim / 4 * -mean2
        11..16   energy / 4
        16..57   root                     59..92  rsqrt
        94       results are written      95 = finish_latency: results can be read

    No reset: the first value of a token is its ``first``.

    How one slice serves all products. With m = -mean2: m = (half - 1 - sum1 * inverse) >> inverse_shift; then embed_dim / 4 * m, which
    becomes the second summand of (sum1 + embed_dim / 4 * m) * m + sum2 = energy / 4. The slice gates its operands and picks its addend
    itself, and what changes between the products are registers that are set to a constant before: no operand has a multiplexer.
    Then the slice doubles its result every cycle, so that the root's bits come out of one place.

    Raises
    ------
    InputError : embed_dim or tokens out of range.

    Resources, embed_dim = 768, 8 tokens, yosys, before place-and-route: 87 LUT (32 memory), 146 FF, 2 DSP48E2; at most 2 LUT levels and a
    carry chain, 1.6 ns in our model.

    Source: model/integer.py, layernorm_statistics.
    """

    OFFSETS = {"token": 0}

    def __init__(self, config: LayerNormStatisticsConfig):
        self.config = config
        super().__init__(
            {
                "i": In(signed(integer.RESIDUAL_BITS)),
                "control": In(statistics_control(config.token_bits)),
                "token": In(config.token_bits),
                "minus_mean2": Out(signed(MEAN2_BITS)),
                "rsqrt": Out(integer.RSQRT_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        control = self.control
        m.submodules.squares = squares = RunningSquares(self.config.technology)
        sum1 = Signal(sum1_shape(self.config.embed_dim), reset_less=True)
        m.d.comb += [squares.x.eq(self.i), squares.enable.eq(control.square_valid), squares.restart.eq(control.square_first)]
        with m.If(control.valid):
            m.d.sync += sum1.eq(self.i + Mux(control.first, 0, sum1))
        minus_mean2, energy_bit = self._products(m, sum1, squares.p)
        m.submodules.root_divide = root_divide = self.config.root_divide.build()
        m.d.comb += [root_divide.step.eq(control.root), root_divide.radicand.eq(energy_bit)]

        rsqrt_token = delay(m, self.token, 1, name="rsqrt_token")
        stored = (
            ("minus_means", minus_mean2, self.minus_mean2, self.token),
            ("rsqrts", root_divide.quotient, self.rsqrt, rsqrt_token),
        )
        for name, value, port, read_token in stored:
            m.submodules[name] = results = Memory(
                shape=value.shape(), depth=1 << self.config.token_bits, init=[], attrs={"ram_style": "distributed"}
            )
            read, write = results.read_port(domain="comb"), results.write_port()
            m.d.comb += [
                write.addr.eq(control.token),
                write.data.eq(value),
                write.en.eq(control.done),
                read.addr.eq(read_token),
                port.eq(read.data),
            ]
        return m

    def _products(self, m, sum1, sum2):
        """-mean2, and the bit of the energy that the root wants in this cycle."""
        control, constants = self.control, integer.LayerNormConstants.of(self.config.embed_dim)
        half = 1 << (constants.inverse_shift - 1)
        m.submodules.product = product = StatisticsProduct(self.config.technology, constant=half - 1)
        factor, scaled = Signal(signed(MEAN2_BITS), reset_less=True), Signal(signed(27), reset_less=True)
        m.d.comb += [
            product.a.eq(sum1),
            product.a_load.eq(control.sum1),
            product.c.eq(sum2),
            product.c_load.eq(control.sum2),
            product.b.eq(factor),
            product.d.eq(scaled),
            product.zero_a.eq(control.zero_a),
            product.use_d.eq(control.use_d),
            product.operation.eq(control.operation),
        ]
        with m.If(control.mean):
            m.d.sync += factor.eq(product.p[constants.inverse_shift : constants.inverse_shift + MEAN2_BITS])
        with m.If(control.scaled):
            m.d.sync += scaled.eq(product.p)
        with m.If(control.sum1):
            m.d.sync += [factor.eq(-constants.inverse), scaled.eq(self.config.embed_dim // 4)]
        return factor, product.p[self.config.root_divide.radicand_bits - 3]
