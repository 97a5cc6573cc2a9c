"""Weight, parameter and LayerNorm memories in front of row 0, and the delays that skew every control field to its pipeline stage."""

from __future__ import annotations

from amaranth import Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from model.integer import BIAS_BITS, MULTIPLIER_BITS
from rtl.config import AcceleratorConfig
from rtl.row_bus import CHANNEL_BITS, PASS_BITS, ComputeCommand, FillCommand, RowTiming, WriteKind, row_bus

#: One 64-bit PARAMETER item without its unused top bits.
Parameter = data.StructLayout({"multiplier": unsigned(MULTIPLIER_BITS), "shift": 2, "bias": signed(BIAS_BITS)})
#: One 32-bit NORM item.
NormPair = data.StructLayout({"gamma": signed(16), "beta": signed(16)})
#: What leaves row 0 in this cycle: for the key/value collector and the logit memory.
ResultControl = data.StructLayout({"kind": WriteKind, "pass_index": PASS_BITS, "address": CHANNEL_BITS, "head": 8, "dim": 8})


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
        "write_weight": In(memory_write(unsigned(config.inputs))),
        "write_parameter": In(memory_write(Parameter)),
        "write_norm": In(memory_write(NormPair)),
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
    write_weight, write_parameter, write_norm : {valid, address, data} from the loader
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
        self._fill_fields(m)
        command = delayed(m, self.compute, self.timing.compute_delay - 1, "compute")
        self._weight_fields(m, command)
        self._result_fields(m, delayed(m, command, 1, "row_compute"))
        return m

    def _fill_fields(self, m):
        timing, bus, fill = self.timing, self.bus, self.fill
        norm = self._memory(m, "norms", NormPair, 4 * self.config.shape.embed_dim, self.write_norm)
        m.d.comb += norm.addr.eq(delayed(m, fill.norm_address, timing.fill_gamma - 1, "norm_address"))
        address = delayed(m, fill, timing.fill_activation, "fill_activation")
        write = delayed(m, fill, timing.fill_write, "fill_write")
        m.d.comb += [
            bus.fill_residual.valid.eq(fill.valid & fill.normalized),
            bus.fill_residual.pass_index.eq(fill.pass_index),
            bus.fill_residual.address.eq(fill.address),
            bus.statistics_pass.eq(delayed(m, fill.pass_index, timing.fill_statistics, "statistics_pass")),
            bus.gamma.eq(norm.data.gamma),
            bus.beta.eq(norm.data.beta),
            bus.fill_activation.valid.eq(address.valid & ~address.normalized),
            bus.fill_activation.pass_index.eq(address.pass_index),
            bus.fill_activation.address.eq(address.address),
            bus.fill_write.valid.eq(write.valid),
            bus.fill_write.normalized.eq(write.normalized),
            bus.fill_write.zero.eq(write.zero),
            bus.fill_write.bank.eq(write.bank),
            bus.fill_write.first.eq(write.first),
        ]

    def _weight_fields(self, m, early):
        """`early` is the compute command one cycle before its word is on the bus."""
        timing, bus = self.timing, self.bus
        weights = self._memory(m, "weights", unsigned(self.config.inputs), self.config.weight_words, self.write_weight)
        parameters = self._memory(m, "parameters", Parameter, self.config.weight_words, self.write_parameter)
        word = delayed(m, early, 1, "weight")
        parameter = parameters.data
        m.d.comb += [
            weights.addr.eq(early.weight_address),
            parameters.addr.eq(delayed(m, early.weight_address, timing.bias, "parameter_address")),
            bus.weights.valid.eq(word.valid),
            bus.weights.bank.eq(word.bank),
            bus.weights.weights.eq(weights.data),
            bus.bias.eq(parameter.bias),
            bus.multiplier.eq(delayed(m, parameter.multiplier, timing.multiplier - timing.bias, "multiplier")),
            bus.shift.eq(delayed(m, parameter.shift, timing.shift - timing.bias, "shift")),
        ]

    def _result_fields(self, m, command):
        """`command` is the compute command of the word that is on the bus."""
        timing, bus = self.timing, self.bus
        plane = delayed(m, command, timing.plane, "plane")
        limits = delayed(m, command.limits, timing.limits, "limits")
        read = delayed(m, command, timing.result - 1, "residual_read")
        result = delayed(m, read, 1, "result")
        write = delayed(m, result, timing.write - timing.result, "write")
        m.d.comb += [
            bus.plane_first.eq(plane.plane_first),
            bus.accumulate.pass_index.eq(plane.pass_index),
            bus.accumulate.address.eq(plane.accumulator_address),
            bus.accumulate.add.eq(plane.add),
            bus.accumulate.write.eq(plane.store),
            bus.limits.eq(limits),
            bus.residual_read.pass_index.eq(read.pass_index),
            bus.residual_read.address.eq(read.address),
            bus.mask.eq(result.mask),
            bus.table_set.eq(result.table_set),
            bus.write.kind.eq(write.kind),
            bus.write.pass_index.eq(write.pass_index),
            bus.write.address.eq(write.address),
            bus.write.table_enable.eq(write.table_enable),
            bus.write.statistics_first.eq(write.statistics_first),
            bus.write.statistics_last.eq(write.statistics_last),
            self.result.kind.eq(write.kind),
            self.result.pass_index.eq(write.pass_index),
            self.result.address.eq(write.address),
            self.result.head.eq(write.head),
            self.result.dim.eq(write.dim),
        ]

    def _memory(self, m, name, shape, depth, write):
        """A one-read one-write memory; returns its read port, whose data follow the address by one cycle."""
        memory = Memory(shape=shape, depth=depth, init=[])
        m.submodules[name] = memory
        port = memory.write_port()
        m.d.comb += [port.addr.eq(write.address), port.data.eq(write.data), port.en.eq(write.valid)]
        read = memory.read_port(domain="sync")
        m.d.comb += read.en.eq(1)
        return read
