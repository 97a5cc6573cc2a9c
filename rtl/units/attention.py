"""`Attention`: the attention unit of one row."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from model.integer import ATTENTION_ACCUMULATOR_BITS, ATTENTION_SHIFT, MULTIPLIER_BITS, REQUANTIZE_SHIFTS, SCORE_BITS
from rtl.attention_bus import activation_address, activation_write, attention_bus
from rtl.cost import Cost
from rtl.tech.dsp48e2 import MultiplyAdd, PairProduct, generic, product_cost
from rtl.tech.memory_cost import block_memory, lut_memory
from rtl.units.protocol import any_bit
from rtl.units.reciprocal import Reciprocal
from rtl.units.softmax import Softmax

__all__ = ["Attention", "attention_cost"]


class Attention(wiring.Component):
    """One token's attention, as `model.integer.attention` defines it, job by job (pass, head).

    A row holds no control: every stage takes its field of the bus (`rtl.attention_bus`), which `AttentionEngine` times.

        act_data -> packer -> operand memory -> PairProduct -> accumulators -+-> score scale -> Softmax -> packer
                                                ^ word                       +-> output scale -> act_write
                                                                                  ^ Reciprocal <- Softmax.total

    Parameters
    ----------
    config : AttentionConfig
    technology : of the multipliers, see `rtl.tech.dsp48e2`

    Members
    -------
    i_bus : In(attention_bus(config)), this row's copy: row r sees row 0's bus r cycles later
    act_read : Out(activation_address(config, "enable")), reads q
    act_data : In(8), the byte read, exactly one cycle after its address; a signed 8-bit pattern
    act_write : Out(activation_write(config)), writes o where q is, in the same or the other image, long after q was read

    Timing
    ------
    See `AttentionConfig` and `attention_bus`. o of a dim pair is written L + 7 and L + 8 cycles after its last word.
    `act_read` and `act_write` are never both active in one cycle.

    Resources
    ---------
    DeiT-base size at 6 bits (66 rows, 22 lanes), yosys, before place-and-route: 346 LUT (226 logic, 120 operand memory), 552 FF,
    24 DSP48E2 (22 products, 2 scales), half a block RAM (scores). The hop register of the bus, 473 FF, is the row's.
    """

    def __init__(self, config, technology=generic):
        self.config, self.technology = config, technology
        super().__init__(
            {
                "i_bus": In(attention_bus(config)),
                "act_read": Out(activation_address(config, "enable")),
                "act_data": In(8),
                "act_write": Out(activation_write(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bus = self.config, self.i_bus
        m.submodules.softmax = softmax = Softmax(slots=config.slots, tokens=config.tokens, technology=self.technology)
        m.submodules.reciprocal = reciprocal = Reciprocal(softmax.total_bits)
        m.d.comb += self.act_read.eq(bus.act_read)

        packed = self._packer(m, softmax.numerator)
        serial = self._sums(m, self._operands(m, packed))
        m.d.comb += [
            softmax.i.score.eq(bus.score),
            softmax.i.scan.eq(bus.scan),
            softmax.i.numerator_valid.eq(bus.numerator_valid),
            softmax.i.total_first.eq(bus.total_first),
            softmax.i_value.eq(self._score(m, serial)),
            reciprocal.divisor.eq(softmax.total),
            reciprocal.i_step.eq(bus.divide),
            reciprocal.i_load.eq(bus.reciprocal_load),
            *(self.act_write[name].eq(bus.output[name]) for name, _ in activation_address(config, "valid")),
            self.act_write.value.eq(self._output(m, serial, reciprocal.o)),
        ]
        return m

    def _packer(self, m, numerator):
        """The last D values of q or of the numerators, the latest in the last lane. It shifts every cycle."""
        packed = Signal(data.ArrayLayout(signed(9), self.config.lanes), reset_less=True)
        value = Mux(self.i_bus.pack_query, self.act_data.as_signed(), numerator)
        m.d.sync += packed.eq(Cat(packed.as_value()[9:], value[:9]))
        return packed

    def _operands(self, m, packed):
        """Operand memory: one memory per stagger, so that each lane's address can come with that lane's word."""
        config, bus = self.config, self.i_bus
        operands = Signal(packed.shape())
        for stagger in sorted(set(config.stagger)):
            lanes = [lane for lane, place in enumerate(config.stagger) if place == stagger]
            memory = Memory(
                shape=data.ArrayLayout(signed(9), len(lanes)), depth=config.operand_depth, init=[], attrs={"ram_style": "distributed"}
            )
            m.submodules[f"operand{stagger}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [write.en.eq(bus.pack.valid), write.addr.eq(bus.pack.address), read.addr.eq(bus.operand[stagger])]
            for index, lane in enumerate(lanes):
                m.d.comb += [write.data[index].eq(packed[lane]), operands[lane].eq(read.data[index])]
        return operands

    def _sums(self, m, operands):
        """Both accumulators, then the two finished sums one after the other."""
        config, bus = self.config, self.i_bus
        m.submodules.product = product = PairProduct(config.lanes, self.technology, x_staggered=True, y_staggered=True)
        assert product.latency == config.product_latency
        m.d.comb += [product.x0.eq(bus.word[0]), product.x1.eq(bus.word[1]), product.y.eq(operands)]
        half = (1 << config.accumulator_shift) >> 1
        even, odd, later = (Signal(signed(config.sum_bits), name=name, reset_less=True) for name in ("even", "odd", "later"))
        for accumulator, term in ((even, product.sum0), (odd, product.sum1)):
            base = Mux(bus.first, Mux(bus.rounded, half, 0), accumulator)
            m.d.sync += accumulator.eq((base + term)[: config.sum_bits].as_signed())  # fits by sum_bits
        m.d.sync += later.eq(odd)
        serial = Signal(signed(config.sum_bits))
        m.d.comb += serial.eq(Mux(bus.odd, later, even))
        return serial

    def _score(self, m, serial):
        """`model.integer.requantize` with bias 0 to SCORE_BITS, 6 cycles."""
        m.submodules.score_scale = scale = MultiplyAdd(self.technology, c_width=max(REQUANTIZE_SHIFTS) + 1)
        m.d.comb += [scale.a.eq(serial[: self.config.score_sum_bits].as_signed()), scale.b.eq(self.i_bus.multiplier)]
        product_bits = self.config.score_sum_bits + MULTIPLIER_BITS
        code, window = self.i_bus.shift, Signal(SCORE_BITS)
        with m.Switch(code):
            for index, shift in enumerate(REQUANTIZE_SHIFTS):
                with m.Case(index):
                    m.d.comb += [scale.c.eq(1 << (shift - 1)), window.eq(scale.p[shift : shift + SCORE_BITS])]
        # The bits above the window begin with the segment of the shift's code. A level of LUTs for segments, one for the choice.
        edges, sign = [shift + SCORE_BITS - 1 for shift in REQUANTIZE_SHIFTS], scale.p[product_bits - 1]
        edges.append(max(product_bits - 1, edges[-1] + 1))  # the slice extends the sign
        differs = Signal(len(REQUANTIZE_SHIFTS), attrs={"keep": 1})
        for index in range(len(REQUANTIZE_SHIFTS)):
            segment = scale.p[edges[index] : edges[index + 1]]
            m.d.comb += differs[index].eq((segment ^ sign.replicate(len(segment))).any())
        wide = Array(differs[index:].any() for index in range(len(REQUANTIZE_SHIFTS)))[code]
        return _saturated(m, window, wide, sign, name="score")

    def _output(self, m, serial, reciprocal):
        """round_shift came with the accumulator; times the reciprocal, floor, mid-rise offset, saturate: 6 cycles."""
        bits, shift = self.config.bits, self.config.accumulator_shift
        m.submodules.output_scale = scale = MultiplyAdd(self.technology, c_width=1)
        weighted = serial[shift : shift + ATTENTION_ACCUMULATOR_BITS].as_signed()
        m.d.comb += [scale.a.eq(reciprocal), scale.b.eq(weighted)]
        product_bits = ATTENTION_ACCUMULATOR_BITS + len(reciprocal)
        sign, above = scale.p[product_bits - 1], scale.p[ATTENTION_SHIFT + bits - 1 : product_bits - 1]
        wide = any_bit(m, self.technology, above, unlike=[sign])
        value = _saturated(m, scale.p[ATTENTION_SHIFT : ATTENTION_SHIFT + bits], wide, sign, name="output")
        return value.as_unsigned() ^ (1 << (bits - 1))  # adding 2**(bits-1) to a signed number of ``bits`` bits flips its top bit


def attention_cost(config) -> Cost:
    """Of `Attention`, its output mapped by the row.

    Two slices scale beside those of the products. The operand memory is cut by stagger; scores are a block memory. Per bit of a sum: two
    accumulators, the copy of the odd sum and the choice between them.
    """
    stagger = config.stagger
    widths = [9 * stagger.count(place) for place in sorted(set(stagger))]
    operands = sum((lut_memory(width, config.operand_depth) for width in widths), Cost())
    own = Cost(
        dsp=2,
        ff=9 * config.lanes,
        priced_lut={"sum bits": config.sum_bits},
        priced_ff={"sum bits": config.sum_bits, "lanes": config.lanes},
    )
    return own + operands + product_cost(config.lanes) + block_memory(SCORE_BITS, config.slots)


def _saturated(m, window, wide, negative, *, name):
    """``window``, or the end of its range on the side of the sign when the number is ``wide``: two registers."""
    bits = len(window)
    narrow, wider, sign = (Signal(width, name=f"{name}_{part}") for width, part in ((bits, "window"), (1, "wide"), (1, "sign")))
    value = Signal(signed(bits), name=name, reset_less=True)
    m.d.sync += [narrow.eq(window), wider.eq(wide), sign.eq(negative)]
    limit = Cat((~sign).replicate(bits - 1), sign)
    m.d.sync += value.eq(Mux(wider, limit, narrow))
    return value
