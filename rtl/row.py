"""One row: everything that happens to one token. R of them, all the same module, make the machine."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import attention_bus
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.row_bus import LoadBus, LoadKind, RowTiming, WriteKind, row_bus
from rtl.row_units import RowUnits
from rtl.units.attention import Attention
from rtl.units.token_memory import TokenMemory

#: A value that a row produces this cycle: for the collectors and for layer-by-layer comparison.
RowResult = data.StructLayout({"valid": 1, "value": 16})


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
        "attended": Out(RowResult),
    }


class Row(wiring.Component):
    """Composition of a row's units around its two token memories.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    index : this row's number, a constant        i_bus, i_attention, i_load : from the row before; o_* : one cycle later, to the next
    result : every finished result of the linear datapath, s16 or zero-extended        attended : every attention output written

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
        shape, passes = self.config.shape, self.config.passes
        bus, attention_bus_, load = self._hop(m)
        m.submodules.residuals = residuals = TokenMemory(width=16, depth=shape.embed_dim, passes=passes, readers=2, writers=2)
        m.submodules.activations = activations = TokenMemory(width=8, depth=self.config.inputs, passes=passes, readers=2, writers=3)
        self._load(m, load, residuals, activations)
        self._fill(m, bus, residuals, activations)
        self._attention(m, attention_bus_, activations)
        self._compute(m, bus, load, residuals, activations)
        return m

    def _hop(self, m):
        m.d.sync += [self.o_bus.eq(self.i_bus), self.o_attention.eq(self.i_attention), self.o_load.eq(self.i_load)]
        return self.o_bus, self.o_attention, self.o_load

    def _load(self, m, load, residuals, activations):
        """Positions and pixels from the load bus into this row's memories."""
        held = Signal.like(load)
        m.d.sync += [held.eq(load), held.valid.eq(load.valid & (load.row == self.index))]
        for memory, kind in ((residuals, LoadKind.POSITION), (activations, LoadKind.PIXEL)):
            m.d.comb += [
                memory.write_1.valid.eq(held.valid & (held.kind == kind)),
                memory.write_1.pass_index.eq(held.pass_index),
                memory.write_1.address.eq(held.address),
                memory.write_1.value.eq(held.value[: memory.width]),
            ]

    def _fill(self, m, bus, residuals, activations):
        """Activations into the dot product: from their memory, or from the residuals through LayerNorm."""
        m.submodules.xnor_matmul = dot = self.units.xnor_matmul.unit()
        m.submodules.normalize = normalize = self.units.normalize.build()
        m.submodules.statistics = statistics = self.units.statistics.build()
        beat = dot.i_activations
        value = Mux(bus.fill_write.normalized, normalize.o.payload, activations.data_0[: self.config.bits])
        m.d.comb += [
            residuals.read_0.eq(bus.fill_residual),
            activations.read_0.eq(bus.fill_activation),
            normalize.i.payload.eq(residuals.data_0),
            normalize.i.valid.eq(1),
            statistics.pass_index.eq(bus.statistics_pass[: len(statistics.pass_index)]),
            normalize.minus_mean2.eq(statistics.minus_mean2),
            normalize.rsqrt.eq(statistics.rsqrt),
            normalize.gamma.eq(bus.gamma),
            normalize.beta.eq(bus.beta),
            beat.valid.eq(bus.fill_write.valid),
            beat.payload.value.eq(Mux(bus.fill_write.zero, 0, value)),
            beat.payload.bank.eq(bus.fill_write.bank),
            beat.payload.first.eq(bus.fill_write.first),
        ]

    def _attention(self, m, bus, activations):
        m.submodules.attention = attention = Attention(self.attention_config, self.units.technology)
        write = attention.act_write
        m.d.comb += [
            attention.i_bus.eq(bus),
            activations.read_1.valid.eq(attention.act_read.enable),
            activations.read_1.pass_index.eq(attention.act_read.pass_index),
            activations.read_1.address.eq(attention.act_read.address),
            attention.act_data.eq(activations.data_1),
            activations.write_2.valid.eq(write.valid),
            activations.write_2.pass_index.eq(write.pass_index),
            activations.write_2.address.eq(write.address),
            activations.write_2.value.eq(write.value),
            self.attended.valid.eq(write.valid),
            self.attended.value.eq(write.value),
        ]

    def _compute(self, m, bus, load, residuals, activations):
        """Dot product, Horner and K-tiles, requantizer, then table or residual sum, then the memories."""
        dot = m.submodules.xnor_matmul
        m.submodules.accumulate = accumulate = self.units.accumulate.build()
        m.submodules.requantize = requantize = self.units.requantize.build()
        m.submodules.table = table = self.units.table.build()
        m.submodules.residual = residual = self.units.residual.build()
        first_row, masked = Signal(), Signal()
        m.d.comb += [
            first_row.eq(self.index == 0),
            dot.i_weights.valid.eq(bus.weights.valid),
            dot.i_weights.payload.weights.eq(bus.weights.weights),
            dot.i_weights.payload.bank.eq(bus.weights.bank),
            accumulate.i.eq(dot.o.payload),
            accumulate.plane_first.eq(bus.plane_first),
            accumulate.control.eq(bus.accumulate),
            requantize.i_accumulator.payload.eq(accumulate.o),
            requantize.i_accumulator.valid.eq(1),
            requantize.bias.eq(bus.bias),
            requantize.multiplier.eq(bus.multiplier),
            requantize.shift.eq(bus.shift),
            requantize.limits.eq(bus.limits),
            residuals.read_1.valid.eq(0),
            residuals.read_1.pass_index.eq(bus.residual_read.pass_index),
            residuals.read_1.address.eq(bus.residual_read.address),
            masked.eq(bus.mask & first_row),
            residual.i.payload.residual.eq(residuals.data_1),
            residual.i.payload.update.eq(Mux(masked, 0, requantize.o.payload.as_signed())),
            residual.i.valid.eq(1),
            table.i.payload.index.eq(requantize.o.payload[:8]),
            table.i.payload.set.eq(bus.table_set),
            table.i.valid.eq(1),
            table.i_write.valid.eq(load.valid & (load.kind == LoadKind.TABLE)),
            table.i_write.payload.address.eq(load.address[:8]),
            table.i_write.payload.set.eq(load.address[8]),
            table.i_write.payload.value.eq(load.value[:8]),
        ]
        self._write(m, bus, requantize.o.payload, residual.o.payload, table.o.payload, residuals, activations, first_row)

    def _write(self, m, bus, quantized, updated, looked_up, residuals, activations, first_row):
        """The last stage: where the result of this cycle goes."""
        statistics = m.submodules.statistics
        plain, value = Signal(16), Signal(16)
        write = bus.write
        to_residual, to_activation = write.kind == WriteKind.RESIDUAL, write.kind == WriteKind.ACTIVATION
        m.d.sync += plain.eq(quantized)
        m.d.comb += [
            value.eq(Mux(to_residual, updated, Mux(write.table_enable, looked_up, plain))),
            residuals.write_0.valid.eq(to_residual),
            residuals.write_0.pass_index.eq(write.pass_index),
            residuals.write_0.address.eq(write.address),
            residuals.write_0.value.eq(updated),
            activations.write_0.valid.eq(to_activation),
            activations.write_0.pass_index.eq(write.pass_index),
            activations.write_0.address.eq(write.address),
            activations.write_0.value.eq(value[:8]),
            statistics.i.valid.eq(to_residual),
            statistics.i.payload.value.eq(updated),
            statistics.i.payload.pass_index.eq(write.pass_index[: len(statistics.i.payload.pass_index)]),
            statistics.i.payload.first.eq(write.statistics_first),
            statistics.i.payload.last.eq(write.statistics_last),
            self.result.valid.eq((write.kind != WriteKind.NONE) & ((write.kind != WriteKind.LOGIT) | first_row)),
            self.result.value.eq(value),
        ]
