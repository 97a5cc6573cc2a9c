"""The two side shows of the attention's engine: `QueryLoad` and `ScanSequence`. Each is started by a pulse and runs for a fixed time."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from model.integer import ATTENTION_DIVIDEND_BITS
from rtl.attention_bus import activation_address, attention_bus

__all__ = ["QueryLoad", "ScanSequence", "delayed"]


def delayed(m, value, cycles):
    """``value``, ``cycles`` cycles later; 0 before."""
    for _ in range(cycles):
        later = Signal.like(value)
        m.d.sync += later.eq(value)
        value = later
    return value


def _pack_layout(config):
    return attention_bus(config)["pack"].shape


class QueryLoad(wiring.Component):
    """Reads q of one job and packs it into words of D: a chunk of D - 1 dims begins with a cycle without a read.

    Members
    -------
    start : In(1); with it `pass_index`, `address` (head * head_dim) and `bank` of the job
    act_read, pack_query, pack : Out, fields of the bus

    Timing
    ------
    The first `act_read` comes 1 cycle after `start`, the last write of `pack` load_cycles + 2 cycles after it.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "pass_index": In(config.pass_bits),
                "address": In(config.channel_bits),
                "bank": In(1),
                "act_read": Out(activation_address(config, "enable")),
                "pack_query": Out(1),
                "pack": Out(_pack_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, lanes = self.config, self.config.lanes
        chunks = len(config.chunks)
        assert set(config.chunks) <= {lanes, lanes - 1}
        active, last = Signal(), Signal()
        lane, chunk = Signal(range(lanes)), Signal(range(chunks))
        pass_index, address = Signal(config.pass_bits), Signal(config.channel_bits)
        word = Signal(config.operand_bits)
        whole = config.chunks.count(lanes)  # chunks without padding, the first ones
        enable = Signal()
        m.d.comb += [
            last.eq(lane == lanes - 1),
            self.act_read.enable.eq(enable),
            self.act_read.pass_index.eq(pass_index),
            self.act_read.address.eq(address),
            self.pack_query.eq(delayed(m, enable, 1)),
            self.pack.valid.eq(delayed(m, active & last, 2)),
            self.pack.address.eq(delayed(m, Mux(active, word, 0), 2)),
        ]
        m.d.sync += [lane.eq(Mux(last, 0, lane + 1)), address.eq(address + enable), enable.eq(active)]
        with m.If(last):
            m.d.sync += [word.eq(word + 1), chunk.eq(chunk + 1), enable.eq(active & (chunk + 1 < whole))]
            with m.If(chunk == chunks - 1):
                m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(1), enable.eq(whole > 0), lane.eq(0), chunk.eq(0), word.eq(Mux(self.bank, chunks, 0))]
            m.d.sync += [pass_index.eq(self.pass_index), address.eq(self.address)]
        return m


class ScanSequence(wiring.Component):
    """Scans all slots of one job, packs the numerators of each group, then feeds the dividend to the rows' dividers.

    Members
    -------
    start : In(1); with it `bank` of the job
    keys : In, slots from there on are masked
    dividend : In
    scan, numerator_valid, total_first, pack, divide : Out, fields of the bus

    Timing
    ------
    The first `scan` comes 1 cycle after `start`, the others as `rtl.attention_bus` defines; the last is the dividend's last bit,
    slots + 3 + 32 cycles after `start`.
    """

    def __init__(self, config):
        self.config = config
        bus = attention_bus(config)
        fields = {name: Out(bus[name].shape) for name in ("scan", "numerator_valid", "total_first", "pack", "divide")}
        super().__init__({"start": In(1), "bank": In(1), "keys": In(16), "dividend": In(ATTENTION_DIVIDEND_BITS), **fields})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        active, first, last, block_end = (Signal(name=name) for name in ("active", "first", "last", "block_end"))
        slot, left, word = Signal(config.slot_bits), Signal(range(config.lanes)), Signal(config.operand_bits)  # left: slots of this block
        group, next_rows = Signal(range(max(2, config.groups))), Signal(range(config.lanes))
        within, last_key = Signal(), Signal(config.slot_bits)
        partial = config.group_rows[-1] != config.lanes
        m.d.comb += [
            self.scan.start.eq(first),
            self.scan.slot.eq(slot),
            self.numerator_valid.eq(delayed(m, active & within, 1)),
            self.total_first.eq(delayed(m, first, 3)),
            self.pack.valid.eq(delayed(m, block_end, 4)),
            self.pack.address.eq(delayed(m, Mux(active, word, 0), 4)),
        ]
        m.d.sync += [
            last_key.eq(self.keys - 1),
            within.eq(within & (slot != last_key)),
            slot.eq(slot + 1),
            left.eq(left - 1),
            first.eq(self.start),
            last.eq(active & (slot == config.slots - 2)),
            block_end.eq(active & (left == 1)),
            next_rows.eq(Mux(group == config.groups - 2, config.group_rows[-1] - 1, config.lanes - 1) if partial else config.lanes - 1),
        ]
        with m.If(block_end):
            m.d.sync += [left.eq(next_rows), word.eq(word + 1), group.eq(Mux(group == config.groups - 1, 0, group + 1))]
        with m.If(last):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            numerators = 2 * len(config.chunks)
            m.d.sync += [active.eq(1), within.eq(1), slot.eq(0), left.eq(config.lanes - 1), group.eq(0)]
            m.d.sync += word.eq(Mux(self.bank, numerators + config.blocks, numerators))
        self._divide(m, delayed(m, last, 3))
        return m

    def _divide(self, m, start):
        remaining, bits = Signal(range(ATTENTION_DIVIDEND_BITS)), Signal(ATTENTION_DIVIDEND_BITS)
        valid = Signal()
        m.d.comb += [
            self.divide.valid.eq(valid),
            self.divide.first.eq(start),
            self.divide.bit.eq(bits[-1]),
        ]
        with m.If(start):
            m.d.sync += [valid.eq(1), remaining.eq(ATTENTION_DIVIDEND_BITS - 1), bits.eq(self.dividend)]
        with m.Elif(valid):
            m.d.sync += [valid.eq(remaining != 0), remaining.eq(remaining - 1), bits.eq(bits << 1)]
