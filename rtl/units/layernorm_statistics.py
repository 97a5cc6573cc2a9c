"""The first half of LayerNorm, `model.integer.layernorm_statistics`: taken from residuals while they are written."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from model import integer
from rtl.tech.dsp48e2 import MultiplyAdd, generic
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


def multiple(value: Value, factor: int) -> Value:
    """factor * value (factor > 0) as shifts and adders: one for 192, none for a power of two, where a multiplication would take a DSP."""
    terms, power = [], 0
    while factor:
        digit = 2 - factor % 4 if factor % 2 else 0
        if digit:
            terms.append((digit, value << power))
        factor, power = (factor - digit) >> 1, power + 1
    *others, (_, total) = terms
    for digit, term in others:
        total = total + term if digit > 0 else total - term
    return total


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
        """Cycles from ``last`` until the results can be read, and from one ``last`` to the next."""
        return 2 * (MultiplyAdd.latency + 1) + self.root_divide.latency + 1

    def build(self) -> LayerNormStatistics:
        return LayerNormStatistics(self)


class LayerNormStatistics(wiring.Component):
    """-mean2 and rsqrt of every token, from its residuals in any order, one token after the other.

    Two DSPs: one squares, one serves the two products at the end.

    Parameters
    ----------
    config : LayerNormStatisticsConfig

    Members
    -------
    i : In(stream of {value: signed 16, token, first: 1, last: 1}): the values of one token after the other, from ``first`` to ``last``
    token : In(token_bits): the token to read
    minus_mean2 : Out(signed 18), -mean2 of ``token`` in the same cycle
    rsqrt : Out(unsigned 26), of ``token`` of the cycle before

    Timing
    ------
    A value per cycle without gaps, also where the token changes.
    The results of a token are on the read side ``finish_latency`` cycles after its ``last``, and stay until the
    next token in that place has finished.
    Law: a ``last`` comes ``finish_latency`` or more cycles after the one before. Other values may come meanwhile.
    With n = energy_bits / 2 = 21 for 512 < embed_dim <= 1024, the cycles after ``last`` are::

        1..5     mean2                    squares of the last value arrive in 4
        6..10    energy / 4
        11..10+n root                     11+n..37+n  rsqrt
        38+n     results are written      39+n = finish_latency: results can be read

    No reset: the first value of a token is its ``first``. For some 30 cycles after a reset a result may still be written.

    How the products share operands. With m = -mean2, energy / 4 = (sum1 + embed_dim / 4 * m) * m + sum2: one product, whose bracket fits
    the multiplier. m itself = (half - 1 - sum1 * inverse) >> inverse_shift is the same product with -inverse in the place of m, and
    what the
    bracket then adds taken from the constant. So no operand has a multiplexer, and nothing is negated.

    Raises
    ------
    InputError : embed_dim or tokens out of range.

    Resources, embed_dim = 768, 3 passes, yosys, before place-and-route: 246 LUT (72 memory, 7 shift registers), 264 FF, 2 DSP48E2;
    slowest stage 2.3 ns in our model, from the pass index through the memory of sum2 and its adder.

    Source: model/integer.py, layernorm_statistics.
    """

    OFFSETS = {"token": 0}

    def __init__(self, config: LayerNormStatisticsConfig):
        self.config = config
        beat = {"value": signed(integer.RESIDUAL_BITS), "token": config.token_bits, "first": 1, "last": 1}
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(beat), always_ready=True)),
                "token": In(config.token_bits),
                "minus_mean2": Out(signed(MEAN2_BITS)),
                "rsqrt": Out(integer.RSQRT_BITS),
            }
        )

    @property
    def finish_latency(self) -> int:
        return self.config.finish_latency

    def elaborate(self, platform):
        m = Module()
        beat = self.i.p
        m.submodules.square = square = MultiplyAdd(self.config.technology, c_width=1)
        m.d.comb += [square.a.eq(beat.value), square.b.eq(beat.value)]
        controls = {"first": beat.first, "valid": self.i.valid, "last": self.i.valid & beat.last}
        late = {name: delay(m, value, square.latency, name=f"squared_{name}") for name, value in controls.items()}

        squares = square.p[: 2 * integer.RESIDUAL_BITS - 1]
        sum1 = self._accumulate(m, "sum1", sum1_shape(self.config.embed_dim), beat.value, **controls)
        sum2 = self._accumulate(m, "sum2", sum2_shape(self.config.embed_dim), squares, **late)
        minus_mean2, rsqrt, done = self._finish(m, sum1, sum2, controls["last"], late["last"])

        finishing = Signal(self.config.token_bits, reset_less=True)
        with m.If(controls["last"]):
            m.d.sync += finishing.eq(beat.token)
        rsqrt_token = delay(m, self.token, 1, name="rsqrt_token")
        stored = (("minus_means", minus_mean2, self.minus_mean2, self.token), ("rsqrts", rsqrt, self.rsqrt, rsqrt_token))
        for name, value, port, read_token in stored:
            m.submodules[name] = results = self._memory(value.shape())
            read, write = results.read_port(domain="comb"), results.write_port()
            m.d.comb += [write.addr.eq(finishing), write.data.eq(value), write.en.eq(done), read.addr.eq(read_token), port.eq(read.data)]
        return m

    def _memory(self, shape):
        return Memory(shape=shape, depth=1 << self.config.token_bits, init=[], attrs={"ram_style": "distributed"})

    def _accumulate(self, m, name, shape, term, *, first, valid, last):
        """The sum of the token so far, this value included."""
        total, kept = Signal(shape, name=f"{name}_total"), Signal(shape, name=name, reset_less=True)
        m.d.comb += total.eq(term + Mux(first, 0, kept))
        with m.If(valid):
            m.d.sync += kept.eq(total)
        return total

    def _finish(self, m, sum1, sum2, last1, last2):
        """-mean2, rsqrt and done of the token whose sums are complete with ``last1`` and ``last2``."""
        constants = integer.LayerNormConstants.of(self.config.embed_dim)
        quarter, half = self.config.embed_dim // 4, 1 << (constants.inverse_shift - 1)
        token1, factor = Signal(sum1.shape(), reset_less=True), Signal(signed(MEAN2_BITS), reset_less=True)
        addend = Signal(signed(len(sum2) + 1), reset_less=True)
        m.submodules.product = product = MultiplyAdd(self.config.technology, c_width=len(addend))
        m.submodules.root_divide = root_divide = self.config.root_divide.build()
        mean2_done = delay(m, last1, product.latency + 1, name="mean2_done")
        m.d.comb += [
            product.a.eq(token1),
            product.d.eq(multiple(factor, quarter)),
            product.b.eq(factor),
            product.c.eq(addend),
            root_divide.start.eq(delay(m, mean2_done, product.latency + 1, name="energy_done")),
            root_divide.radicand.eq(product.p[: len(root_divide.radicand) - 2] << 2),
        ]
        with m.If(last2):
            m.d.sync += addend.eq(sum2)
        with m.If(mean2_done):
            m.d.sync += factor.eq(product.p[constants.inverse_shift : constants.inverse_shift + MEAN2_BITS])
        with m.If(last1):
            m.d.sync += [token1.eq(sum1), factor.eq(-constants.inverse), addend.eq(half - 1 - quarter * constants.inverse**2)]
        return factor, root_divide.quotient, root_divide.done
