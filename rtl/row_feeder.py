"""Weight, parameter and LayerNorm memories in front of row 0, and the delays that skew every control field to its pipeline stage."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from model.integer import BIAS_BITS, MULTIPLIER_BITS
from rtl.config import AcceleratorConfig
from rtl.cost import Cost
from rtl.program.isa import Mask
from rtl.row_bus import (
    ComputeCommand,
    FillCommand,
    RowTiming,
    TokenAddress,
    WriteKind,
    activation_address_bits,
    residual_address_bits,
    row_bus,
    statistics_token_bits,
)
from rtl.row_units import RowUnits
from rtl.tech.memory_cost import block_memory
from rtl.token_ports import FIELDS, TokenPorts, client_members
from rtl.units.layernorm_sequence import StatisticsSequence

#: One 64-bit PARAMETER item without its unused top bits.
Parameter = data.StructLayout({"multiplier": unsigned(MULTIPLIER_BITS), "shift": 2, "bias": signed(BIAS_BITS)})
#: One 32-bit NORM item.
NormPair = data.StructLayout({"gamma": signed(16), "beta": signed(16)})
#: What leaves row 0 in this cycle: for the key/value collector and the logit memory.
ResultControl = data.StructLayout({"kind": WriteKind, **TokenAddress.members, "head": 8, "dim": 8, "logit_row": 1})


def memory_write(shape) -> data.StructLayout:
    return data.StructLayout({"valid": 1, "address": 16, "data": shape})


def delayed(m: Module, value, cycles: int, name: str) -> Value:
    """`value` as it was `cycles` cycles ago. No reset, so that synthesis may use shift-register LUTs: what is in flight when the
    machine stops still comes out, and `rtl.supervisor` holds the next start back for as long."""
    for stage in range(cycles):
        following = Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=True)
        m.d.sync += following.eq(value)
        value = following
    return value


def feeder_members(config: AcceleratorConfig) -> dict:
    """Members of `RowFeeder`."""
    return {
        "fill": In(FillCommand),
        "compute": In(ComputeCommand),
        **{f"write_weight_{port}": In(memory_write(unsigned(config.slice_inputs))) for port in range(config.weight_ports)},
        "write_parameter": In(memory_write(Parameter)),
        "write_norm": In(memory_write(NormPair)),
        **client_members(config),
        "bus": Out(row_bus(config)),
        "result": Out(ResultControl),
    }


class RowFeeder(wiring.Component):
    """Drives the row bus.

    Parameters
    ----------
    config : AcceleratorConfig        timing : RowTiming

    Members
    -------
    fill, compute : commands from the sequencer
    write_weight_<p>, write_parameter, write_norm : {valid, address, data}; slice p of a weight word comes over weight port p
    attention_read, attention_output, load, position_busy : see `rtl.token_ports`
    bus : row 0's bus        result : what row 0's `write` field of this cycle means to the collector

    Timing
    ------
    A fill field with offset f appears on `bus` f cycles after its command; a compute field with offset c appears
    ``timing.compute_delay + c`` cycles after its command.
    """

    def __init__(self, config: AcceleratorConfig, timing: RowTiming):
        self.config, self.timing = config, timing
        super().__init__(feeder_members(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.ports = ports = TokenPorts(self.config)
        m.d.comb += [getattr(self.bus, name).eq(getattr(ports, name)) for name in FIELDS]
        m.d.comb += [
            ports.attention_read.eq(self.attention_read),
            ports.attention_output.eq(self.attention_output),
            ports.load.eq(self.load),
            self.position_busy.eq(ports.position_busy),
        ]
        self._fill_fields(m, ports)
        command = delayed(m, self.compute, self.timing.compute_delay - 1, "compute")
        self._weight_fields(m, command)
        self._result_fields(m, delayed(m, command, 1, "row_compute"), ports)
        return m

    def _fill_fields(self, m, ports):
        timing, bus, fill = self.timing, self.bus, self.fill
        norm = self._memory(m, "norms", NormPair, 4 * self.config.shape.embed_dim, self.write_norm)
        m.d.comb += norm.addr.eq(delayed(m, fill.norm_address, timing.fill_gamma - 1, "norm_address"))
        token = self._statistics_token(m, fill, "filled")
        write = delayed(m, fill, timing.fill_write, "fill_write")
        m.d.comb += [
            ports.fill.eq(fill),
            ports.fill_activation.eq(delayed(m, fill, timing.fill_activation, "fill_activation")),
            bus.fill_pass.eq(delayed(m, fill.pass_index, 1, "fill_pass")),
            bus.statistics_token.eq(delayed(m, token, timing.fill_statistics, "statistics_token")),
            bus.gamma.eq(norm.data.gamma),
            bus.beta.eq(norm.data.beta),
            bus.fill_write.valid.eq(write.valid),
            bus.fill_write.normalized.eq(write.normalized),
            bus.fill_write.zero.eq(write.zero),
            bus.fill_write.image.eq(write.image),
            bus.fill_write.bank.eq(write.bank),
            bus.fill_write.first.eq(write.first),
        ]

    def _weight_fields(self, m, early):
        """`early` is the compute command one cycle before its word is on the bus."""
        timing, bus = self.timing, self.bus
        words = []
        for port in range(self.config.weight_ports):
            write = getattr(self, f"write_weight_{port}")
            weights = self._memory(m, f"weights_{port}", unsigned(self.config.slice_inputs), self.config.weight_words, write)
            m.d.comb += weights.addr.eq(early.weight_address)
            words.append(weights.data)
        parameters = self._memory(m, "parameters", Parameter, self.config.weight_words, self.write_parameter)
        word = delayed(m, early, 1, "weight")
        parameter = parameters.data
        m.d.comb += [
            parameters.addr.eq(delayed(m, early.parameter_address, timing.bias, "parameter_address")),
            bus.weights.valid.eq(word.valid),
            bus.weights.bank.eq(word.bank),
            bus.weights.weights.eq(Cat(words)),
            bus.bias.eq(parameter.bias),
            bus.multiplier.eq(delayed(m, parameter.multiplier, timing.multiplier - timing.bias, "multiplier")),
            bus.shift.eq(delayed(m, parameter.shift, timing.shift - timing.bias, "shift")),
        ]

    def _result_fields(self, m, command, ports):
        """`command` is the compute command of the word that is on the bus."""
        timing, bus = self.timing, self.bus
        plane = delayed(m, command, timing.plane, "plane")
        partial, channel_bits = Signal.like(bus.partial_read), ceil_log2(self.config.shape.embed_dim)
        m.d.comb += partial.eq(Cat(plane.accumulator_address[:channel_bits], plane.pass_index))
        limits = delayed(m, command.limits, timing.limits, "limits")
        read = delayed(m, command, timing.residual - 1, "residual_read")
        before = delayed(m, read, timing.result - timing.residual, "before_result")
        result = delayed(m, before, 1, "result")
        write = delayed(m, result, timing.write - timing.result, "write")
        written = delayed(m, command, timing.write - StatisticsSequence.LEAD, "written")
        m.submodules.statistics = statistics = RowUnits(self.config).statistics.sequence()
        m.d.comb += [
            ports.read.eq(read),
            ports.before.eq(before),
            ports.result.eq(result),
            ports.write.eq(write),
            bus.plane_first.eq(plane.plane_first),
            bus.partial_read.eq(partial),
            bus.partial_add.eq(delayed(m, plane.add, 1, "partial_add")),
            bus.partial_write.valid.eq(delayed(m, plane.store, 2, "partial_store")),
            bus.partial_write.address.eq(delayed(m, partial, 2, "partial_address")),
            bus.limits.eq(limits),
            bus.residual_pass.eq(delayed(m, read.pass_index, 1, "residual_pass")),
            bus.mask.eq(Cat(before.mask >= Mask.ROW_0, before.mask >= Mask.ROWS_0_1, before.mask == Mask.ALL)),
            bus.table_set.eq(result.table_set),
            bus.write.kind.eq(write.kind),
            bus.write.valid.eq(self._who_writes(write)),
            bus.write.table_enable.eq(write.table_enable),
            bus.statistics.eq(statistics.control),
            statistics.valid.eq(written.kind == WriteKind.RESIDUAL),
            statistics.first.eq(written.statistics_first),
            statistics.last.eq(written.statistics_last),
            statistics.token.eq(self._statistics_token(m, written, "written")),
        ]
        m.d.comb += [getattr(self.result, name).eq(getattr(write, name)) for name in ResultControl.members]

    def _statistics_token(self, m, command, name):
        """Where the token's statistics are kept."""
        token, pass_bits = Signal(statistics_token_bits(self.config), name=f"{name}_token"), ceil_log2(self.config.passes)
        m.d.comb += token.eq(Cat(command.pass_index[:pass_bits], command.image))
        return token

    def _who_writes(self, write):
        """(row 0, row 1, the others): everybody, or the row of the logits."""
        logit = write.kind == WriteKind.LOGIT
        everybody = (write.kind != WriteKind.NONE) & ~logit
        return Cat(everybody | (logit & ~write.logit_row), everybody | (logit & write.logit_row), everybody)

    def _memory(self, m, name, shape, depth, write):
        """A one-read one-write memory; returns its read port, whose data follow the address by one cycle."""
        memory = Memory(shape=shape, depth=depth, init=[])
        m.submodules[name] = memory
        port = memory.write_port()
        m.d.comb += [port.addr.eq(write.address), port.data.eq(write.data), port.en.eq(write.valid)]
        read = memory.read_port(domain="sync")
        m.d.comb += read.en.eq(1)
        return read


def feeder_cost(config: AcceleratorConfig) -> Cost:
    """Of a `RowFeeder`: weights, parameters and norms in block memories, the choice between their chunks, and delays, which hardly vary."""
    memories = (
        config.weight_ports * block_memory(config.slice_inputs, config.weight_words)
        + block_memory(Parameter.size, config.weight_words)
        + block_memory(NormPair.size, 4 * config.shape.embed_dim)
    )
    varying = {"constant": 1, "address bits": residual_address_bits(config) + activation_address_bits(config), "passes": config.passes}
    return memories + Cost(priced_lut=varying, priced_ff=varying)
