"""One row: everything that happens to one token. R of them, all the same module, make the machine."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from model.integer import RESIDUAL_BITS, RSQRT_BITS
from rtl.attention_bus import attention_bus
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.cost import Cost
from rtl.row_bus import (
    LANES,
    LoadBus,
    LoadKind,
    RowTiming,
    WriteKind,
    activation_address_bits,
    residual_address_bits,
    row_bus,
    statistics_token_bits,
)
from rtl.row_units import RowUnits
from rtl.tech.dsp48e2 import ADDER_CHOICES
from rtl.tech.memory_cost import block_memory, lut_memory, multiplexer_luts
from rtl.units.attention import Attention, attention_cost
from rtl.units.layernorm_statistics import MEAN2_BITS
from rtl.units.lookup import ENTRIES, SETS
from rtl.units.token_memory import TokenMemory
from rtl.units.xnor_matmul import STRATEGIES

#: What the linear path finishes in this cycle. ``value``: from the requantizer, what collectors take. `finished` makes of it what is
#: written to a memory; no row spends a multiplexer on that.
RowResult = data.StructLayout({"valid": 1, "value": 16, "residual": 1, "updated": 16, "table": 1, "looked_up": 8})
AttentionResult = data.StructLayout({"valid": 1, "value": 16})


def finished(result: data.View):
    """The finished result, s16 or zero-extended, for layer-by-layer comparison."""
    return Mux(result.residual, result.updated, Mux(result.table, result.looked_up, result.value))


def row_members(config: AcceleratorConfig) -> dict:
    """Members of `Row`."""
    attention = attention_bus(AttentionConfig.of(config))
    return {
        "index": In(8),
        "i_bus": In(row_bus(config)),
        "o_bus": Out(row_bus(config)),
        "i_attention": In(attention),
        "o_attention": Out(attention),
        "i_load": In(LoadBus),
        "o_load": Out(LoadBus),
        "result": Out(RowResult),
        "attended": Out(AttentionResult),
    }


class Row(wiring.Component):
    """Composition of a row's units around its token memories.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    index : this row's number, a constant        i_bus, i_attention, i_load : from the row before; o_* : one cycle later, to the next
    result : every finished result of the linear path        attended : every attention output written

    Timing
    ------
    `timing` (`RowTiming`) counts from the buses at this row's input register. Nothing stalls.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.attention_config = AttentionConfig.of(config)
        self.units = RowUnits(config)
        super().__init__(row_members(config))

    @property
    def timing(self) -> RowTiming:
        return self.units.timing

    def elaborate(self, platform):
        m = Module()
        config = self.config
        bus, attention_bus_, load = self._hop(m)
        m.submodules.residuals = residuals = TokenMemory(width=16, address_bits=residual_address_bits(config), memories=config.passes)
        m.submodules.activations = activations = TokenMemory(width=8, address_bits=activation_address_bits(config), memories=config.images)
        taken = self._addressed(m, load)
        m.d.comb += [getattr(residuals, f"read_{index}").eq(bus.residual_read[index]) for index in range(config.passes)]
        m.d.comb += [getattr(activations, f"read_{index}").eq(bus.activation_read[index]) for index in range(config.images)]
        self._fill(m, bus, residuals, activations)
        attended = self._attention(m, bus, attention_bus_, activations)
        self._compute(m, bus, load, residuals)
        self._write(m, bus, load, residuals, activations, taken, attended)
        return m

    def _hop(self, m):
        """The buses' registers; what shifts or rotates from row to row does so behind them."""
        bus, load = Signal.like(self.i_bus), Signal.like(self.i_load)
        m.d.sync += [bus.eq(self.i_bus), load.eq(self.i_load), self.o_attention.eq(self.i_attention)]
        m.d.comb += [
            self.o_bus.eq(bus),
            self.o_bus.mask.eq(Cat(bus.mask[1:], bus.mask[2])),
            self.o_bus.write.valid.eq(Cat(bus.write.valid[1:], bus.write.valid[2])),
            self.o_load.eq(load),
            self.o_load.data.eq(load.data.rotate_right(8)),
            self.o_load.lanes.eq(load.lanes.rotate_right(1)),
            self.o_load.upper.eq(load.upper.rotate_right(1)),
        ]
        return bus, self.o_attention, load

    def _addressed(self, m, load):
        """Whether the load bus addressed this row in the cycle before."""
        taken, differs, arriving = Signal(), Signal(4), self.i_load
        m.d.sync += [
            differs.eq(Mux(arriving.upper[0], arriving.group_1, arriving.group_0) ^ self.index[exact_log2(LANES) :]),
            taken.eq(load.lanes[0] & ~differs.any()),
        ]
        return taken

    def _fill(self, m, bus, residuals, activations):
        """Activations into the dot product: from their memory, or from the residuals through LayerNorm."""
        m.submodules.xnor_matmul = dot = self.units.xnor_matmul.unit()
        m.submodules.normalize = normalize = self.units.normalize.build()
        m.submodules.statistics = statistics = self.units.statistics.build()
        beat = dot.i_activations
        activation = self._of_image(activations, bus.fill_write.image)[: self.config.bits]
        value = Mux(bus.fill_write.normalized, normalize.o.payload, activation)
        m.d.comb += [
            normalize.i.payload.eq(bus.fill_pass),
            normalize.i.valid.eq(1),
            statistics.token.eq(bus.statistics_token),
            normalize.minus_mean2.eq(statistics.minus_mean2),
            normalize.rsqrt.eq(statistics.rsqrt),
            normalize.gamma.eq(bus.gamma),
            normalize.beta.eq(bus.beta),
            beat.valid.eq(bus.fill_write.valid),
            beat.payload.value.eq(Mux(bus.fill_write.zero, 0, value)),
            beat.payload.bank.eq(bus.fill_write.bank),
            beat.payload.first.eq(bus.fill_write.first),
        ]

    def _of_image(self, activations, image):
        words = [getattr(activations, f"data_{index}") for index in range(self.config.images)]
        return Mux(image, words[1], words[0]) if len(words) > 1 else words[0]

    def _attention(self, m, bus, attention_bus_, activations):
        m.submodules.attention = attention = Attention(self.attention_config, self.units.technology)
        m.d.comb += [
            attention.i_bus.eq(attention_bus_),
            attention.act_data.eq(self._of_image(activations, bus.query_image)),
            self.attended.valid.eq(attention.act_write.valid),
            self.attended.value.eq(attention.act_write.value),
        ]
        return attention.act_write.value

    def _compute(self, m, bus, load, residuals):
        """Dot product, Horner and K-tiles, requantizer, then table or residual sum."""
        dot = m.submodules.xnor_matmul
        m.submodules.accumulate = accumulate = self.units.accumulate.build()
        m.submodules.requantize = requantize = self.units.requantize.build()
        m.submodules.table = table = self.units.table.build()
        m.submodules.residual = residual = self.units.residual.build()
        m.d.comb += [
            dot.i_weights.valid.eq(bus.weights.valid),
            dot.i_weights.payload.weights.eq(bus.weights.weights),
            dot.i_weights.payload.bank.eq(bus.weights.bank),
            accumulate.i.eq(dot.operands),
            accumulate.plane_first.eq(bus.plane_first),
            accumulate.read.eq(bus.partial_read),
            accumulate.add.eq(bus.partial_add),
            accumulate.write.eq(bus.partial_write),
            requantize.i_accumulator.payload.eq(accumulate.o),
            requantize.i_accumulator.valid.eq(1),
            requantize.bias.eq(bus.bias),
            requantize.multiplier.eq(bus.multiplier),
            requantize.shift.eq(bus.shift),
            requantize.limits.eq(bus.limits),
            residual.select.eq(bus.residual_pass),
            requantize.zero.eq(bus.mask[0]),
            residual.i.payload.eq(requantize.o.payload.as_signed()),
            residual.i.valid.eq(1),
            residual.replace.eq(bus.position),
            residual.replacement.eq(load.data[:16]),
            table.i.payload.index.eq(requantize.o.payload[:8]),
            table.i.payload.set.eq(bus.table_set),
            table.i.valid.eq(1),
            table.i_write.valid.eq(load.valid & (load.kind == LoadKind.TABLE)),
            table.i_write.payload.address.eq(load.token.address[:8]),
            table.i_write.payload.set.eq(load.token.address[8]),
            table.i_write.payload.value.eq(load.data[:8]),
        ]

    def _write(self, m, bus, load, residuals, activations, taken, attended):
        """The last stage: where the result of this cycle goes."""
        requantize, table, residual, statistics = (m.submodules[name] for name in ("requantize", "table", "residual", "statistics"))
        plain, updated, write = Signal(16, reset_less=True), residual.o.payload, bus.write
        pixel = load.data[8 - self.config.bits : 8]
        m.d.sync += plain.eq(requantize.o.payload)
        for index in range(self.config.passes):
            word = getattr(residuals, f"data_{index}").as_signed()
            m.d.comb += [
                residual.residual[index].eq(word),
                m.submodules.normalize.residual[index].eq(word),
                getattr(residuals, f"write_{index}").eq(bus.residual_write.linear[index] | (bus.residual_write.position[index] & taken)),
                getattr(residuals, f"write_address_{index}").eq(bus.residual_write.address),
                getattr(residuals, f"value_{index}").eq(updated),
            ]
        for index in range(self.config.images):
            port, value = bus.activation_write[index], Signal(8, name=f"activation_{index}", reset_less=True)
            m.d.sync += value.eq(Array([plain[:8], table.o.payload, attended, pixel])[bus.activation_source[index].as_value()])
            m.d.comb += [
                getattr(activations, f"write_{index}").eq(port.valid | (port.pixel & taken)),
                getattr(activations, f"write_address_{index}").eq(port.address),
                getattr(activations, f"value_{index}").eq(value),
            ]
        m.d.comb += [
            statistics.i.eq(updated),
            statistics.control.eq(bus.statistics),
            self.result.valid.eq(write.valid[0]),
            self.result.value.eq(plain),
            self.result.residual.eq(write.kind == WriteKind.RESIDUAL),
            self.result.updated.eq(updated),
            self.result.table.eq(write.table_enable),
            self.result.looked_up.eq(table.o.payload),
        ]


def row_cost(config: AcceleratorConfig) -> Cost:
    """Of a `Row`, in UltraScale+ technology.

    Slices: one per attention lane, two that scale in the attention; Horner and the requantizer have one each, LayerNorm's statistics and
    its application two each. Block memories: residuals per pass, activations per image, K-tiles where there are any, scores, the table.
    LUTs: tables and tree (`rtl.arith.lut_table`) and the attention's operand memory are most of them. Flip-flops: the buses' registers.
    """
    units, attention = RowUnits(config), AttentionConfig.of(config)
    accumulate, tokens = units.accumulate, 1 << statistics_token_bits(config)
    partials = block_memory(accumulate.partial_shape.width, 1 << accumulate.address_bits) if accumulate.largest else Cost()
    memories = (
        config.passes * block_memory(RESIDUAL_BITS, 1 << residual_address_bits(config))
        + config.images * block_memory(8, 1 << activation_address_bits(config))
        + block_memory(8, SETS * ENTRIES)
        + lut_memory(MEAN2_BITS, tokens)
        + lut_memory(RSQRT_BITS, tokens)
    )
    chosen = 2 * RESIDUAL_BITS * multiplexer_luts(config.passes) if config.passes > ADDER_CHOICES else 0
    own = Cost(
        dsp=6,
        lut=chosen,
        ff=row_bus(config).size + attention_bus(attention).size + LoadBus.size,
        priced_lut={"constant": 1, "bits": config.bits, "two images": config.images - 1},
        priced_ff={"constant": 1, "bits": config.bits},
    )
    strategy = STRATEGIES[config.strategy]()
    return strategy.cost(config.inputs, config.bits) + attention_cost(attention) + partials + memories + own
